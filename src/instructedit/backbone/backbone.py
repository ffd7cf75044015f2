"""The frozen model, cut in two: a prefix that no edit ever changes, and the edited top."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from instructedit.backbone.alike import can_share, run_trees
from instructedit.backbone.hooks import catch_input, pass_through, replace_input
from instructedit.backbone.parts import Site, Text, like_length
from instructedit.backbone.sites import find_blocks, find_sites
from instructedit.errors import DataError, ModelError

if TYPE_CHECKING:
    from instructedit.backbone.prefix_cache import PrefixCache

KEPT_TOKENS = 1 << 22  # of texts that were asked for before: about 200 MB
ENCODE_TOKENS = 2048  # tokens of one prefix pass, padding counted: keeps its memory under 200 MB


class Backbone:
    """A causal language model with frozen weights, its tokenizer, and the sites that edits may change.

    Rows are padded on the right and no attention mask is needed: in a causal model a real token
    never sees the padding behind it, and positions count from zero in every row.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        sites: Sequence[Site],
        start_ids: Sequence[int] = (),
        name: str = "",
        checksum: str = "",
    ) -> None:
        self.model, self.tokenizer = model.requires_grad_(False).eval(), tokenizer
        self.sites, self.start_ids = tuple(sites), tuple(start_ids)
        self.name, self.checksum = name, checksum
        self.modules: dict[str, nn.Module] = {site.name: model.get_submodule(site.name) for site in sites}
        self.first_block = min(site.block for site in sites)
        self.blocks: Any = find_blocks(model)[1]
        self.head: Any = model.get_output_embeddings()
        self.softcap: float | None = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        self.context = int(getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 20))
        self.width = int(self.head.weight.shape[-1])
        self._texts: dict[tuple[str, str], Text] = {}  # training asks for the same texts many times
        self._kept_tokens = 0
        self._lower: dict[frozenset[str], Backbone] = {}  # by the layers beside its own that it reaches
        self._tuple_blocks = False  # whether a block returns a tuple
        self._can_share: bool | None = None  # whether texts can be run as trees, once it was tried
        self._check_head()

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.head.weight.dtype

    @property
    def window(self) -> float:
        """How many tokens a token sees at the most; infinite where it sees all before it."""
        return float(getattr(self.model.config.get_text_config(), "sliding_window", None) or math.inf)

    def reaching(self, names: Collection[str]) -> "Backbone":
        """The same model cut low enough for edits of the layers `names`: itself where it is.

        The layers are sites of what is returned, beside its own; it is made once while this one lives.
        Errors: `ModelError` for a layer that the model has not.
        """
        missing = frozenset(name for name in names if name not in self.modules)
        if not missing:
            return self
        if missing not in self._lower:
            self._lower[missing] = self._with([*find_sites(self.model, ";".join(missing)), *self.sites])
        return self._lower[missing]

    def cut_at(self, names: Collection[str]) -> "Backbone":
        """The same model with the layers `names` as its only sites, wherever its own are.

        Errors: `ModelError` for layers that the model has not.
        """
        return self._with(find_sites(self.model, ";".join(names)))

    def _with(self, sites: Sequence[Site]) -> "Backbone":
        return Backbone(self.model, self.tokenizer, sites, self.start_ids, self.name, self.checksum)

    def above(self, names: Collection[str] | None = None) -> int:
        """The number of the block behind the last one with a site of these `names`, or with any."""
        return 1 + max(site.block for site in self.sites if names is None or site.name in names)

    def text(self, prompt: str, answer: str = "") -> Text:
        """Tokenise a prompt and the answer that follows it after one space, or at once on a new line.

        Errors: `DataError` when the text does not fit the model's context.
        """
        found = self._texts.get((prompt, answer))
        if found is None:
            found = self._texts[prompt, answer] = self._tokenise(prompt, answer)
            self._kept_tokens += len(found.ids)
            while self._kept_tokens > KEPT_TOKENS:  # the oldest make room
                self._kept_tokens -= len(self._texts.pop(next(iter(self._texts))).ids)
        return found

    def _tokenise(self, prompt: str, answer: str) -> Text:
        head = self._ids(prompt)
        ids = head
        if answer:
            answer = answer if prompt.endswith("\n") else f" {answer}"
            ids = self._ids(prompt + answer)
            if ids[: len(head)] != head:  # the answer's first letters merged with the prompt's last
                ids = head + self._ids(answer, start=False)
        if len(ids) > self.context:
            raise DataError(
                f"the prompt {prompt[:60]!r}... with its answer has {len(ids)} tokens and the model's "
                f"context holds {self.context}. Shorten it."
            )
        return Text(ids, len(head))

    def _ids(self, text: str, *, start: bool = True) -> tuple[int, ...]:
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return (*(self.start_ids if start else ()), *ids)

    @torch.no_grad()
    def prefix(self, texts: Sequence[Text], cache: "PrefixCache | None" = None) -> Float[Tensor, "b t d"]:
        """The hidden states that enter the first edited block, right-padded with zeros.

        With a cache, only texts that it has never met are computed.
        """
        return self.pad_states(self.states(texts, cache))

    def states(self, texts: Sequence[Text], cache: "PrefixCache | None" = None) -> list[Float[Tensor, "_ d"]]:
        """The same, one CPU tensor a text."""
        return self.encode(texts) if cache is None else cache.fetch(texts, self.encode)

    def pad_states(self, rows: Sequence[Float[Tensor, "_ d"]]) -> Float[Tensor, "b t d"]:
        """Hidden states of texts in one tensor, right-padded with zeros."""
        padded = torch.zeros(len(rows), max(len(row) for row in rows), self.width, dtype=self.dtype)
        for index, row in enumerate(rows):
            padded[index, : len(row)] = row
        return padded.to(self.device)

    @torch.no_grad()
    def encode(self, texts: Sequence[Text]) -> list[Float[Tensor, "_ d"]]:
        """Run the frozen blocks over texts; one CPU tensor a text.

        What several begin with is run once where the model can do it, else they go in batches of like length.
        """
        if len(texts) > 1 and self._shares(texts):
            found = dict(run_trees(self, texts, ENCODE_TOKENS))
            return [found[place] for place in range(len(texts))]
        rows: list[Any] = [None] * len(texts)
        for batch in like_length(range(len(texts)), texts, ENCODE_TOKENS):
            hidden = self.run_prefix(self.pad([texts[i].ids for i in batch])).cpu()
            for row, index in enumerate(batch):
                rows[index] = hidden[row, : len(texts[index].ids)].clone()
        return rows

    def _shares(self, texts: Sequence[Text]) -> bool:
        """Whether texts can be run as trees: the model can, and none reaches beyond its window."""
        if self._can_share is None:
            self._can_share = can_share(self)
        return self._can_share and max(len(text.ids) for text in texts) <= self.window

    def pad(self, ids: Sequence[Sequence[int]]) -> Int[Tensor, "b t"]:
        """Token ids in one right-padded tensor; the padding id is never looked at."""
        padded = torch.zeros(len(ids), max(len(row) for row in ids), dtype=torch.long)
        for index, row in enumerate(ids):
            padded[index, : len(row)] = torch.tensor(row)
        return padded.to(self.device)

    def run_prefix(self, ids: Int[Tensor, "b t"], **arguments: Any) -> Float[Tensor, "b t d"]:
        """The hidden states that enter the first edited block; `arguments` are more of the model's own."""
        caught: list[Tensor] = []
        entrance = self.blocks[self.first_block]
        hook = entrance.register_forward_pre_hook(partial(catch_input, caught), with_kwargs=True)
        try:
            with self._skip(range(self.first_block, len(self.blocks))):
                self.model.base_model(input_ids=ids, use_cache=False, **arguments)
        finally:
            hook.remove()
        return caught[0]

    def top(self, hidden: Float[Tensor, "b t d"], until: int | None = None) -> Float[Tensor, "b t d"]:
        """Run the edited blocks and the final norm on hidden states from `prefix`.

        Blocks from the number `until` on are left out: enough where only inputs below are watched.
        """
        return self.run_top(hidden, until, use_cache=False).last_hidden_state.to(self.device)

    def run_top(self, hidden: Float[Tensor, "b t d"], until: int | None = None, **arguments: Any) -> Any:
        """As `top` with more `arguments` for the model: all that it gives."""
        entrance = self.blocks[self.first_block]
        hook = entrance.register_forward_pre_hook(partial(replace_input, hidden), with_kwargs=True)
        ids = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
        left_out = [*range(self.first_block), *range(until or len(self.blocks), len(self.blocks))]
        try:
            with self._skip(left_out), self._quick_backward():
                return self.model.base_model(input_ids=ids, **arguments)
        finally:
            hook.remove()

    def logits(self, hidden: Float[Tensor, "n d"]) -> Float[Tensor, "n v"]:
        """The vocabulary head on two-dimensional rows (strided 3-d slices are many times slower)."""
        logits = self.head(hidden.contiguous())
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def _quick_backward(self) -> AbstractContextManager[object]:
        """Attention in its parts where fused attention has a slow backward: in half precision on a CPU."""
        slow = torch.is_grad_enabled() and self.device.type == "cpu" and self.dtype != torch.float32
        return sdpa_kernel(SDPBackend.MATH) if slow else nullcontext()

    @contextmanager
    def _skip(self, numbers: Iterable[int]) -> Iterator[None]:
        """Make some blocks return their input for as long as the block lasts."""
        skipped = [self.blocks[number] for number in numbers]
        before = [block.__dict__.get("forward") for block in skipped]  # accelerate's, over several devices
        for block in skipped:
            block.forward = partial(pass_through, self._tuple_blocks)
        try:
            yield
        finally:
            for block, forward in zip(skipped, before, strict=True):
                if forward is None:
                    del block.forward
                else:
                    block.forward = forward

    @torch.no_grad()
    def _check_head(self) -> None:
        """Find out what a block returns, and check that the head alone gives the model's own logits.

        Errors: `ModelError` for a model that does something else to its logits.
        """
        outputs: list[Any] = []
        ids = torch.arange(3, device=self.device)[None]
        hook = self.blocks[-1].register_forward_hook(lambda _m, _a, output: outputs.append(output))
        try:
            expected = self.model(input_ids=ids, use_cache=False).logits[0].float()
        finally:
            hook.remove()
        self._tuple_blocks = isinstance(outputs[0], tuple)
        hidden = self.top(self.run_prefix(ids))
        if not torch.allclose(self.logits(hidden[0]).float(), expected, atol=0.05, rtol=0.01):
            raise ModelError(
                f"{self.name or type(self.model).__name__} changes its logits after the output head in a way "
                "that is not known here. Expected a plain head, with or without final_logit_softcapping."
            )
