"""What is hung into a model's blocks to cut it in two; each is bound to its first argument by `partial`."""

from typing import Any

from torch import Tensor, nn


def catch_input(caught: list[Tensor], _module: nn.Module, args: tuple, kwargs: dict) -> None:
    """Keep the hidden states that enter a block."""
    caught.append(args[0] if args else kwargs["hidden_states"])


def replace_input(hidden: Tensor, _module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Let other hidden states enter a block."""
    if args:
        return (hidden, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": hidden}


def pass_through(in_tuple: bool, hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Any:
    """Stand in for a block that does nothing; some give their output as a tuple."""
    return (hidden_states, None) if in_tuple else hidden_states
