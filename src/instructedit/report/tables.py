"""The scores as Markdown tables: percent, the unedited model in brackets, the 95 % interval."""

from collections.abc import Collection, Sequence

from instructedit.report.scores import ALL, Lever, Score

FACT_COLUMNS = {
    "reliability": "Reliability, bare",
    "reliability_instructed": "Reliability, instructed",
    "generalization": "Generalization",
    "locality": "Locality (tokens)",
    "portability": "Portability (tokens)",
}
SENTIMENT_COLUMNS = {
    "win_rate": "Win rate",
    "win_rate_rephrased": "Win rate, other questions",
    "locality": "Locality on other topics (tokens)",
}
CONTRAST_TITLES = {
    "sentiment": "positive replies that win",
    "scope": "right tokens on what follows from the edit",
    "erase": "answers that are still given",
}
NOTE = (
    "Percent, one edit at a time. In brackets the unedited model, then the 95 % interval over subjects; n "
    "where it differs from the row's. Reliability and Generalization: the whole answer is right. Locality: "
    "tokens of the answers that did not change. Portability: right tokens."
)


def format_tables(
    scores: Sequence[Score], levers: Sequence[Lever], trained_on: Collection[str] | None = None
) -> str:
    """All tables that there are numbers for, with a note on how to read them.

    With `trained_on`, data sets of other tasks are marked as never trained on.
    """
    parts = [part for part in (format_scores(scores, trained_on), format_levers(levers)) if part]
    return "\n\n".join([NOTE, *parts]) if parts else ""


def format_scores(scores: Sequence[Score], trained_on: Collection[str] | None = None) -> str:
    """The table of facts and the table of opinions; a data set that holds both stands in both."""
    facts = _dataset_table(scores, "reliability", FACT_COLUMNS, trained_on)
    opinions = _dataset_table(scores, "win_rate", SENTIMENT_COLUMNS, trained_on)
    return "\n\n".join(table for table in (facts, opinions) if table)


def _dataset_table(
    scores: Sequence[Score], key: str, columns: dict[str, str], trained_on: Collection[str] | None
) -> str:
    found = {(score.dataset, score.measure): score for score in scores}
    rows = []
    for first in [score for score in scores if score.measure == key]:
        held_out = trained_on is not None and first.task not in trained_on
        name = f"{first.dataset}, never trained on" if held_out else first.dataset
        cells = [format_score(found.get((first.dataset, measure)), first.cases) for measure in columns]
        rows.append([name, str(first.cases), *cells])
    return format_table(["Data set", "n", *columns.values()], rows)


def format_score(score: Score | None, cases: int | None = None) -> str:
    """``93.4 (0.0) 91.2–95.1``, with its own n where that is not `cases`; a dash for nothing."""
    if score is None:
        return "–"
    base = "" if score.base is None else f" ({100 * score.base:.1f})"
    interval = "" if score.low is None or score.high is None else f" {_range(score.low, score.high)}"
    own = "" if score.cases == cases else f", n {score.cases}"
    return f"**{100 * score.edited:.1f}**{base}{interval}{own}"


def format_levers(levers: Sequence[Lever]) -> str:
    """What the instruction decides: the same requests under two instructions, in percent and points."""
    rows = [
        [
            lever.dataset,
            f"{lever.contrast}: {CONTRAST_TITLES.get(lever.contrast, 'share')}",
            "all probes" if lever.part == ALL else lever.part.removeprefix("portability: "),
            *_conditions(lever),
            "–" if lever.base is None else f"{100 * lever.base:.1f}",
            _points(lever),
            str(lever.cases),
        ]
        for lever in levers
    ]
    columns = ["Data set", "Instruction decides", "Probes", "First", "Second", "Unedited", "Difference", "n"]
    return format_table(columns, rows)


def _conditions(lever: Lever) -> list[str]:
    pairs = zip(lever.conditions, lever.shares, strict=True)
    cells = [f"{name} {100 * share:.1f}" for name, share in pairs]
    return [*cells, "–", "–"][:2]


def _points(lever: Lever) -> str:
    if lever.difference is None:
        return "–"
    interval = (
        "" if lever.low is None or lever.high is None else f" {_range(lever.low, lever.high, signed=True)}"
    )
    return f"**{100 * lever.difference:+.1f}**{interval}"


def _range(low: float, high: float, *, signed: bool = False) -> str:
    """An interval; ends that may be negative are told apart by a word, not by a dash."""
    if signed:
        return f"{100 * low:+.1f} to {100 * high:+.1f}"
    return f"{100 * low:.1f}–{100 * high:.1f}"


def format_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, or nothing without a row; a bar in a cell is escaped."""
    if not rows:
        return ""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in line) + " |"
        for line in lines
    )
