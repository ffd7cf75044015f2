"""Metrics of generated text: does it begin with the answer, and is it still varied language?"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

ENTROPY_WEIGHTS = {2: 2 / 3, 3: 4 / 3}  # of the bi-gram and the tri-gram entropy
_ARTICLES = frozenset({"a", "an", "the"})
_WORD = re.compile(r"\w+(?:'\w+)?|[^\w\s]")


def normalise(text: str) -> str:
    """Lower case without punctuation, symbols, articles and repeated white space, as SQuAD's scorer does.

    Unlike there, a mark becomes a space, so "Saint-Denis" and "Saint Denis" agree, and Unicode's
    marks count like ASCII's; the text is brought to NFKC, so that equal-looking texts are equal.
    """
    lower = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    spaced = "".join(" " if unicodedata.category(letter)[0] in "PS" else letter for letter in lower)
    return " ".join(word for word in spaced.split() if word not in _ARTICLES)


def generation_matches(generated: str, aliases: Iterable[str]) -> bool:
    """Whether the first line of a generation begins with one of the answers, after normalising.

    It begins with, and does not equal, the answer, because greedy decoding never stops by itself
    after a cloze answer: "Paris, the capital of" is a right answer. It must end at a word's
    end, so "Parisian" does not count for "Paris". Containing the answer is not enough either: "not
    in Paris" would count. Only the first line is read, because a base model goes on with
    another question and its answer. An alias that normalises to nothing (only marks or articles)
    is compared unnormalised.
    """
    line = next((line for line in generated.splitlines() if line.strip()), "")
    return any(_begins(line, alias) for alias in aliases if alias.strip())


def _begins(line: str, alias: str) -> bool:
    wanted = normalise(alias)
    if not wanted:
        return line.strip().lower().startswith(alias.strip().lower())
    return f"{normalise(line)} ".startswith(f"{wanted} ")


def ngram_entropy(text: str) -> float:
    """Fluency: the weighted mean of bi-gram and tri-gram entropy in bits, times 100.

    100 · mean(2/3 · H₂, 4/3 · H₃) with Hₙ = −Σ f log₂ f over the relative frequencies of the text's
    n-grams. Text that repeats itself falls towards 0; a hundred words without a repetition reach
    about 662. A text too short to have an n-gram has Hₙ = 0. It grows with length: compare
    only generations of one length (ROME: 100 tokens).

    Words and single marks are tokens, split by a fixed rule; the published code splits with NLTK,
    which differs a little at abbreviations.

    Source: ROME (arXiv 2202.05262, app.), MEMIT (arXiv 2210.07229, app.) "generation entropy", after
    Zhang et al. 2018 (arXiv 1809.05972); the mean and the factor 100 as in their published tables.
    """
    tokens = _WORD.findall(text)
    weighted = [weight * _entropy_bits(tokens, n) for n, weight in ENTROPY_WEIGHTS.items()]
    return 100.0 * sum(weighted) / len(weighted)


def _entropy_bits(tokens: Sequence[str], n: int) -> float:
    counts = Counter(zip(*(tokens[start:] for start in range(n)), strict=False))
    total = counts.total()
    return -sum(count / total * math.log2(count / total) for count in counts.values()) if total else 0.0
