"""Where an edit acts: the subject's last token in its prompts, and the MLP's output projection there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from instructedit.backbone import Backbone, Site, Text
from instructedit.backbone.parts import same_beginning
from instructedit.backbone.sites import find_sites
from instructedit.data.subjects import subject_of
from instructedit.errors import ModelError
from instructedit.factors import watch_sites
from instructedit.types import EditCase

CONTEXTS = (
    "",
    "I have just read a book.",
    "It rained for most of the day.",
    "We met again a week later.",
    "Thank you for the letter.",
    "This is a short note.",
)


TRIED = (1, 5, 3, 8)  # token ids


@dataclass(frozen=True)
class Located:
    """Each case's prompt behind each context, with the wanted answer, then each case's essence prompt.

    `places` is the position of the subject's last token in every text, `owner` the case of it, `hidden` what
    enters the first edited block; `count` is the number of cases.
    """

    texts: list[Text]
    places: Int[Tensor, " rows"]
    owner: Int[Tensor, " rows"]
    hidden: Float[Tensor, "rows t d"]
    count: int

    @property
    def requests(self) -> int:
        return len(self.texts) - self.count

    def keys(self, inputs: Float[Tensor, "_ t d_in"]) -> Float[Tensor, "b 1 d_in"]:
        """A site's input at the subject's last token, the mean over contexts (ROME, section 3.1, step 1)."""
        rows, places = torch.arange(self.requests, device=inputs.device), self.places[: self.requests]
        taken = inputs[rows, places.to(inputs.device)].float().to(places.device)
        return taken.view(self.count, -1, taken.shape[-1]).mean(1, keepdim=True)

    def bare(self, rows: Float[Tensor, "_ d"]) -> Float[Tensor, "b d"]:
        """Those rows that belong to the bare prompts: the first context is none."""
        return rows[: self.requests].view(self.count, -1, rows.shape[-1])[:, 0].float()


def locate(backbone: Backbone, cases: Sequence[EditCase], contexts: int) -> Located:
    """The texts of some cases; a sentiment has no answer, and its carrier stands for one."""
    subjects = [subject_of(case) for case in cases]
    words = CONTEXTS[:contexts]
    owner = [i for i in range(len(cases)) for _ in words] + list(range(len(cases)))
    prompts = [prompt for case in cases for prompt in in_contexts(case.prompt, words)]
    texts = [
        backbone.text(prompt, cases[i].wanted or cases[i].carrier)
        for prompt, i in zip(prompts, owner, strict=False)
    ]
    essence = [f"{name} is a" if name else case.prompt for name, case in zip(subjects, cases, strict=True)]
    texts += [backbone.text(prompt) for prompt in essence]
    places = [
        last_of(backbone, prompt, subjects[i], text.ids)
        for prompt, i, text in zip([*prompts, *essence], owner, texts, strict=True)
    ]
    device = backbone.device
    return Located(
        texts,
        torch.tensor(places, device=device),
        torch.tensor(owner, device=device),
        backbone.prefix(texts),
        len(cases),
    )


def in_contexts(prompt: str, contexts: Sequence[str] = CONTEXTS) -> list[str]:
    """A request behind neutral contexts."""
    return [f"{context} {prompt}".lstrip() for context in contexts]


def last_of(backbone: Backbone, prompt: str, subject: str, ids: Sequence[int]) -> int:
    """The position of the subject's last token among `ids`, or of the prompt's where it names no subject."""
    end = prompt.rfind(subject) + len(subject) if subject and subject in prompt else len(prompt)
    head = backbone.text(prompt[:end]).ids
    same = same_beginning(head, ids)
    return same - 1 if same == len(head) else same  # else the subject's end merged with what follows


def output_projections(backbone: Backbone) -> list[Site]:
    """The MLP's output projection of every block that has sites: its last site that is as wide as the model.

    Errors: `ModelError` when there is none.
    """
    wide = {site.block: site for site in backbone.sites if site.d_out == backbone.width}
    if not wide:
        names = ", ".join(site.name for site in backbone.sites)
        raise ModelError(f"none of the sites {names} is an MLP's output projection. Leave out --sites.")
    return [wide[block] for block in sorted(wide)]


def early_blocks(backbone: Backbone, depth: float, count: int) -> range:
    """So many blocks behind that share `depth` of all blocks. A short model has fewer."""
    blocks = len(backbone.blocks)
    first = min(round(depth * blocks), blocks - 1)
    return range(first, min(first + count, blocks))


def early_outputs(backbone: Backbone, depth: float, count: int) -> list[str]:
    """The MLP's output projections of `early_blocks`. Errors: `ModelError` as `find_sites`."""
    blocks = early_blocks(backbone, depth, count)
    return [site.name for site in find_sites(backbone.model, f"blocks={blocks[0]}-{blocks[-1]},part=output")]


@contextmanager
def moved(
    module: nn.Module, shift: Float[Tensor, "rows d"], places: Int[Tensor, " rows"]
) -> Iterator[list[Tensor]]:
    """Add a vector to a module's output at one position of every row; gives a list of what was there.

    That is on the device of `places`, wherever the module lies.
    """
    seen: list[Tensor] = []

    def add(_module: nn.Module, _args: tuple, output: Tensor | tuple) -> Tensor | tuple:
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        where = torch.arange(len(places), device=hidden.device), places.to(hidden.device)
        seen.append(hidden[where].detach().to(places.device))
        new = hidden.index_put(where, shift.to(hidden.device, hidden.dtype), accumulate=True)
        return (new, *output[1:]) if isinstance(output, tuple) else new

    hook = module.register_forward_hook(add)
    try:
        yield seen
    finally:
        hook.remove()


@torch.no_grad()
def adds_output(backbone: Backbone, site: Site) -> bool:
    """Whether what a site gives is added to what leaves its block as it is, tried on a few tokens.

    Not so where a norm or a factor stands between: then the block gives something else for it.
    """
    hidden, end = backbone.prefix([Text(TRIED, 1)]), torch.tensor([len(TRIED) - 1], device=backbone.device)
    block, module = backbone.blocks[site.block], backbone.modules[site.name]

    def leaves(shift: Float[Tensor, "1 d"]) -> Float[Tensor, "1 d"]:
        with moved(module, shift, end), moved(block, torch.zeros_like(shift), end) as seen:
            backbone.top(hidden, site.block + 1)
        return seen[0].float()

    nothing = leaves(torch.zeros(1, backbone.width, device=backbone.device))
    shift = nothing.roll(1, dims=1)  # as large as what is there, and unlike it
    return bool((leaves(shift) - nothing - shift).norm() < 0.1 * shift.norm())


@torch.no_grad()
def read_keys(backbone: Backbone, located: Located, site: Site) -> Float[Tensor, "b 1 d_in"]:
    """The key of each case at a site of the model as it is now."""
    with watch_sites(backbone) as (inputs, _):
        backbone.top(located.hidden[: located.requests], backbone.above([site.name]))
    return located.keys(inputs[site.name])


def size_given(backbone: Backbone, name: str, keys: Float[Tensor, "*n d_in"]) -> float:
    """The root mean square of what the layer `name` gives to some keys."""
    return float(backbone.modules[name](keys.to(backbone.dtype)).float().square().mean().sqrt())
