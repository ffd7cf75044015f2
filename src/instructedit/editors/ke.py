"""KE: a gate and a shift of each site's gradient, read from the edit's words by a recurrent network."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from instructedit.backbone import Backbone, PrefixCache, Site
from instructedit.delta import LowRankDelta
from instructedit.editors.instructed import EditorConfig, InstructedEditor
from instructedit.editors.polish import in_force
from instructedit.factors import Anchors, Factors
from instructedit.hypernetwork import Hypernetwork, TransformConfig
from instructedit.statistics import SiteStatistics, scale_by_edit
from instructedit.types import EditCase

Pair = tuple[Float[Tensor, "b r d_in"], Float[Tensor, "b d_out r"]]


@dataclass(frozen=True)
class KnowledgeConfig(EditorConfig):
    """The settings of a KE editor; of `transform`, `rank` is its size and `log_step` its first step."""

    paper: ClassVar[str] = "De Cao et al. 2021, arXiv 2104.08164"

    name: str = "ke"
    transform: TransformConfig = field(
        default_factory=lambda: TransformConfig(rank=128, code=0, aggregation="sum", directions=0)
    )
    kind: str = "ke"  # type: ignore[misc]  # a field here, so that files say it


class SiteGate(nn.Module):
    """The gate and the shift of one site's gradient, and the size of its step.

    dW = s sigmoid(eta) (softmax(alpha) gamma.T * G + softmax(beta) delta.T), G the gradient: alpha and beta
    lie on the output's side, gamma and delta on the input's. As G is a sum of outer products, so is the
    gated one, and the shift is one more. The five are read from the edit's code; they start as a plain
    descent step (gamma = -1, all others 0). Source: the update of a weight matrix in KE
    (arXiv 2104.08164), as in the authors' code. Here G is in units of the site's statistics, each softmax
    times its length, and the step s a number of the site's own, so that one learning rate fits all sites.
    """

    def __init__(self, site: Site, config: TransformConfig) -> None:
        super().__init__()
        self.sizes = (site.d_out, site.d_out, site.d_in, site.d_in, 1)  # alpha beta gamma delta eta
        self.statistics = SiteStatistics(site.d_in, site.d_out, 0)
        self.hidden = nn.Linear(2 * config.rank, config.rank)
        self.last = nn.Linear(config.rank, sum(self.sizes))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        nn.init.constant_(self.last.bias[2 * site.d_out : 2 * site.d_out + site.d_in], -1.0)
        self.log_step = nn.Parameter(torch.tensor(config.log_step))

    def forward(
        self,
        inputs: Float[Tensor, "b n d_in"],
        gradients: Float[Tensor, "b n d_out"],
        mask: Bool[Tensor, "b n"],
        code: Float[Tensor, "b z"],
    ) -> Pair:
        stats, (d_out, _, d_in, _, _) = self.statistics, self.sizes
        read = self.last(torch.tanh(self.hidden(code)))[:, None]  # b 1 w
        alpha, beta, gamma, delta, eta = read.split(self.sizes, -1)
        keys = torch.cat([inputs / stats.spread / d_in * gamma, delta / math.sqrt(d_in)], 1)
        moved = scale_by_edit(gradients, mask) / stats.gradient_spread
        values = torch.cat([moved * alpha.softmax(-1), beta.softmax(-1)], 1) * d_out
        size = self.log_step.exp() * torch.sigmoid(eta) * stats.output_size
        return keys / stats.spread, (values * size).mT


class GatedGradient(nn.Module):
    """The gates of all sites that share one shape."""

    def __init__(self, sites: Sequence[Site], config: TransformConfig) -> None:
        super().__init__()
        self.sites = tuple(sites)
        self.gates = nn.ModuleList(SiteGate(site, config) for site in sites)

    def site_statistics(self) -> Iterator[tuple[Site, SiteStatistics]]:
        """Each site with its statistics."""
        gates: Iterable[Any] = self.gates
        yield from ((site, gate.statistics) for site, gate in zip(self.sites, gates, strict=True))

    def forward(
        self, factors: Factors, code: Float[Tensor, "b z"], anchors: Anchors | None = None
    ) -> dict[str, Pair]:
        """The LoRA pair of every site; anchors have no part in it."""
        return {
            site.name: gate(factors.inputs[site.name], factors.gradients[site.name], factors.mask, code)
            for site, gate in zip(self.sites, self.gates, strict=True)
        }


class KnowledgeNetwork(Hypernetwork):
    """The gates of all sites under the code that the editor has read."""

    transform: ClassVar[type[nn.Module]] = GatedGradient

    @property
    def solves(self) -> bool:
        """No: gated gradients have no keys to solve for, so many edits are summed."""
        return False

    def condition(self, state: Float[Tensor, "b d"], absent: Bool[Tensor, " b"]) -> Float[Tensor, "b z"]:
        return state


class KnowledgeEditor(InstructedEditor):
    """KnowledgeEditor (De Cao et al. 2021, arXiv 2104.08164), trained as every editor here.

    A bidirectional LSTM reads the embeddings of the edit's prompt and answer in the frozen model; its two
    last states are the code. The paper puts the old prediction between the two: not every record has it,
    and it is left out. Instructions are not read, so an erasure is the change to what is wanted instead.
    """

    settings: ClassVar[type[EditorConfig]] = KnowledgeConfig
    network: ClassVar[type[Hypernetwork]] = KnowledgeNetwork

    def __init__(self, config: EditorConfig, sites: Sequence[Site], width: int, seed: int = 0) -> None:
        super().__init__(config, sites, width, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = nn.LSTM(width, config.transform.rank, batch_first=True, bidirectional=True)

    def observe(
        self,
        backbone: Backbone,
        cases: Sequence[EditCase],
        instructions: Sequence[str],
        cache: PrefixCache | None = None,
        under: LowRankDelta | None = None,
        whole: bool = False,
    ) -> tuple[Factors, Float[Tensor, "b z"], Bool[Tensor, " b"], None]:
        """As `InstructedEditor.observe`, with the edit's words in the place of its instruction."""
        with in_force(backbone, under):
            factors = self.capture(backbone, cases, instructions, cache, whole)
        texts = self.texts.requests(backbone, cases, instructions)
        tokens = backbone.model.get_input_embeddings()(backbone.pad([text.ids for text in texts])).float()
        state = self.encode(tokens, torch.tensor([len(text.ids) for text in texts]))  # lengths: on the CPU
        return factors, state, torch.zeros(len(cases), dtype=torch.bool, device=state.device), None

    def encode(self, tokens: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"]) -> Float[Tensor, "b z"]:
        """The last states of both directions over the first `lengths[i]` tokens of each row."""
        scaled = nn.functional.layer_norm(tokens, tokens.shape[-1:])  # embeddings are small numbers
        packed = pack_padded_sequence(scaled, lengths, batch_first=True, enforce_sorted=False)
        _, (last, _) = self.encoder(packed)  # 2 b r
        return last.transpose(0, 1).flatten(1)
