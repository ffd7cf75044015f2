"""A conversation with the base model and the edited one, side by side."""

from collections.abc import Sequence
from typing import Any, Literal

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.errors import DataError
from instructedit.evaluation.generation import generate_greedy

Style = Literal["text", "chat"]
Turn = tuple[str, str, str]  # what was said, the base model's reply, the edited model's
LONGEST = 256  # tokens of a reply
LONGEST_SAID = 20_000  # characters of what was said before
MOST_TURNS = 200  # of a conversation


def has_template(backbone: Backbone) -> bool:
    """Whether the model was published with the form of a conversation."""
    return bool(getattr(backbone.tokenizer, "chat_template", None))


def reply_twice(
    backbone: Backbone,
    delta: LowRankDelta | None,
    message: str,
    turns: Sequence[Turn] = (),
    style: Style = "text",
    tokens: int = 48,
) -> tuple[str, str]:
    """The greedy replies of the base model and of the edited one.

    ``text``: the message is continued as it stands. ``chat``: it is put into the model's own form of a
    conversation, behind the `turns` so far; each side remembers its own replies.
    Errors: `DataError` for a model without such a form, a length that cannot be, and a text that does not
    fit the model's context.
    """
    if not 1 <= tokens <= LONGEST:
        raise DataError(f"a reply of {tokens} tokens cannot be given. Expected 1 to {LONGEST}.")
    base, edited = (_prompt(backbone, message, turns, side, style) for side in (1, 2))
    options: dict[str, Any] = {"max_new_tokens": tokens, "first_line": False}
    (before,) = generate_greedy(backbone, [base], **options)
    if delta is None and base == edited:
        return before.strip(), before.strip()
    change: dict[str, Any] = {} if delta is None else {"delta": delta, "edits": [0]}
    (after,) = generate_greedy(backbone, [edited], **change, **options)
    return before.strip(), after.strip()


def _prompt(backbone: Backbone, message: str, turns: Sequence[Turn], side: int, style: Style) -> str:
    if style == "text":
        return message
    if not has_template(backbone):
        raise DataError(
            "this model has no form of a conversation. Choose to continue the text (for programs: the style "
            "'text')."
        )
    messages = []
    for turn in turns:
        messages += [{"role": "user", "content": turn[0]}, {"role": "assistant", "content": turn[side]}]
    messages.append({"role": "user", "content": message})
    asked = backbone.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return str(asked).removeprefix(backbone.tokenizer.decode(list(backbone.start_ids)))
