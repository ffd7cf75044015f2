"""transformers, silenced: it writes bars and warnings to the terminal by itself."""

import io
import logging as python_logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


@contextmanager
def quiet(*, swallow: bool = False) -> Iterator[None]:
    """Switch off transformers' bars and warnings, and put its settings back afterwards.

    The bar of a hub download stays. `swallow` also drops what is written to stderr: the GGUF reader
    has a bar of its own that no setting reaches.
    """
    from huggingface_hub.utils import are_progress_bars_disabled
    from huggingface_hub.utils import enable_progress_bars as enable_hub_bars
    from transformers.utils import logging

    level, bars, hub_bars = (
        logging.get_verbosity(),
        logging.is_progress_bar_enabled(),
        not are_progress_bars_disabled(),
    )
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    if hub_bars:
        enable_hub_bars()
    try:
        with (
            warnings.catch_warnings(),
            redirect_stderr(io.StringIO()) if swallow else warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def drop_padding_warning() -> None:
    """Drop transformers' warning about a missing attention mask: rows padded on the right need none."""
    python_logging.getLogger("transformers.modeling_utils").addFilter(_is_no_padding_warning)


def _is_no_padding_warning(record: python_logging.LogRecord) -> bool:
    return "attention_mask" not in record.getMessage()
