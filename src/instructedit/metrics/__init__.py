"""How well an edit did: one pure function a metric, on tensors or on plain text.

`tokens` scores answers token by token, `replies` compares good replies with bad ones, `text` judges
generated text. Rates are fractions in [0, 1]; log-probabilities and divergences are in nats.
"""

from .replies import sentiment_score, win_rate
from .text import generation_matches, ngram_entropy, normalise
from .tokens import (
    all_per_text,
    answer_log_probs,
    hits,
    kl_divergence,
    mean_per_text,
    soften,
    unchanged,
)

__all__ = [
    "all_per_text",
    "answer_log_probs",
    "generation_matches",
    "hits",
    "kl_divergence",
    "mean_per_text",
    "ngram_entropy",
    "normalise",
    "sentiment_score",
    "soften",
    "unchanged",
    "win_rate",
]
