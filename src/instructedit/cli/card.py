"""`instructedit card`: an editor's scores as one table, its model card, and bars for CI."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from instructedit.cli.options import COMMON, Common, Switch
from instructedit.cli.report import Report
from instructedit.errors import EditFailedError, OutputError

if TYPE_CHECKING:
    from instructedit.report import Bar


def write_card(
    editor: Annotated[str, Parameter(help="Name, file or run folder of a trained editor.")],
    /,
    *summaries: Annotated[Path, Parameter(help="summary.json files of `evaluate --out`, or their folders.")],
    out: Annotated[Path | None, Parameter(help="File for the model card; left out, it is printed.")] = None,
    require: Annotated[
        Path | None, Parameter(help="YAML file of bars, such as counterfact: {reliability: 85}.")
    ] = None,
    facts: Annotated[
        Path | None,
        Parameter(help="YAML file of what the editor does not know: command, seconds, licences ..."),
    ] = None,
    force: Annotated[Switch, Parameter(help="Replace the file if it exists.")] = False,
    common: Common = COMMON,
) -> Report:
    """Print the compact score table and the model card of an editor; with --require, check its scores.

    Ends with exit code 8 when a score is below its bar or was not measured; the card is written all the same.
    """
    from instructedit.cli.loading import find_editor
    from instructedit.editors.editor_file import read_header
    from instructedit.report import (
        check_bars,
        format_bars,
        format_tables,
        make_card,
        read_bars,
        read_evaluations,
        read_facts,
        read_levers,
        read_scores,
    )
    from instructedit.storage import write_atomic

    if out is not None and out.exists() and not force:
        raise OutputError(f"{out} exists already. Choose another file, or pass --force to replace it.")
    evaluations = read_evaluations(summaries)
    scores, levers = read_scores(evaluations), read_levers(evaluations)
    bars = check_bars(read_bars(require) if require else [], scores, levers)
    header = read_header(find_editor(editor))
    card = make_card(header, scores, levers, read_facts(facts, header))
    data: dict[str, Any] = {
        "scores": [asdict(score) for score in scores],
        "leverage": [asdict(lever) for lever in levers],
        "bars": [{**asdict(bar), "holds": bar.holds} for bar in bars],
        "card": card,
        "file": str(out) if out else None,
    }
    texts = [format_tables(scores, levers, header.get("tasks")), format_bars(bars)]
    if common.dry_run:
        texts.append(f"Would write the card to {out}." if out else "Would print the card.")
    elif out is not None:
        write_atomic(out, card)
        texts.append(f"The card is in {out}")
    else:
        texts.append(card)
    if not common.json:
        print(
            "\n\n".join(text for text in texts if text)
        )  # Markdown is no markup of the console's, nor wrapped
    return Report(data, failure=_failure(bars))


def _failure(bars: "Sequence[Bar]") -> EditFailedError | None:
    missed = [str(bar) for bar in bars if not bar.holds]
    if not missed:
        return None
    return EditFailedError(
        f"{len(missed)} of {len(bars)} bars are missed: {'; '.join(missed)}. "
        "Train longer or on more records, or lower the bar and say why."
    )
