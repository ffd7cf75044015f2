"""A local causal language model that answers a conversation, through its own chat template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from instructedit.backbone.loading import read_model, resolve
from instructedit.backbone.quiet import quiet
from instructedit.errors import ModelError

ROOM = 32  # tokens that an answer needs at the least


@dataclass(frozen=True)
class LocalChat:
    """A loaded model with its tokenizer; it writes up to `max_tokens` tokens at `temperature` (0: greedy).

    Errors: `ModelError` for a tokenizer without a chat template.
    """

    model: Any
    tokenizer: Any
    name: str = ""
    temperature: float = 0.8
    max_tokens: int = 600

    def __post_init__(self) -> None:
        if not getattr(self.tokenizer, "chat_template", None):
            raise ModelError(
                f"{self.name or 'the model'} has no chat template, so it cannot be asked to write. Expected "
                "a model tuned to follow instructions (--writer), or a server (--url)."
            )

    @torch.no_grad()
    def reply(self, messages: Sequence[Mapping[str, str]], seed: int) -> str:
        """The model's answer, the same for the same seed; what a limit cut off in mid-line is dropped.

        Errors: `ModelError` when the conversation leaves no room for an answer.
        """
        asked = self.tokenizer.apply_chat_template(
            [dict(message) for message in messages], tokenize=False, add_generation_prompt=True
        )
        ids = self.tokenizer(asked, add_special_tokens=False, return_tensors="pt")["input_ids"]
        ids = ids.to(self.model.device)
        ends = self._ends()
        written = self._generate(ids, self._room(ids.shape[1]), ends, seed)
        text = self.tokenizer.decode(written, skip_special_tokens=True).strip()
        finished = bool(set(written.tolist()) & set(ends))
        return text if finished else text.rpartition("\n")[0] or text

    def _generate(self, ids: Tensor, room: int, ends: list[int], seed: int) -> Tensor:
        sampling = {"do_sample": True, "temperature": self.temperature, "top_p": 0.95, "top_k": 0}
        device = self.model.device
        with quiet(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            out = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=room,
                eos_token_id=ends or None,
                pad_token_id=ends[0] if ends else 0,
                **(sampling if self.temperature > 0 else {"do_sample": False}),
            )
        return out[0, ids.shape[1] :]

    def _ends(self) -> list[int]:
        """The tokens that end an answer: the tokenizer's, and those that the model was published with."""
        own = getattr(self.model.generation_config, "eos_token_id", None)
        found = [self.tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])]
        return list(dict.fromkeys(token for token in found if token is not None))

    def _room(self, tokens: int) -> int:
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        room = min(self.max_tokens, (context or 1 << 20) - tokens)
        if room < min(ROOM, self.max_tokens):
            raise ModelError(
                f"the request has {tokens} tokens and the context of {self.name or 'the model'} holds "
                f"{context}. Show fewer records (--shown), or choose another --writer."
            )
        return room


def load_chat(model: str, *, device: str = "cpu", dtype: str = "float32", **settings: Any) -> LocalChat:
    """Load a language model that is to write; `settings` go to `LocalChat`.

    Errors: `ModelError` when it is missing, broken, or has no chat template.
    """
    loaded, tokenizer = read_model(resolve(model), device=device, dtype=dtype)
    return LocalChat(loaded, tokenizer, model, **settings)
