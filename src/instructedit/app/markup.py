"""Results as HTML: every word of a prompt or an answer stands there as text and never as markup."""

from collections.abc import Mapping, Sequence
from typing import Any

from instructedit.app.cleaning import escape

GROUPS = {
    "prompt": "the prompt",
    "instructed": "with its instruction in front",
    "rephrase": "asked in other words",
    "neighbour": "a neighbour, to be left alone",
    "asked": "your question",
}
COLUMNS = ("id", "now", "took", "prompt", "target", "kind", "scope", "time", "by")
WIDTHS = ("6%", "9%", "6%", "24%", "14%", "10%", "7%", "16%", "8%")
NO_WORDS = "<span class='ie-note'>nothing</span>"
LISTED = 20  # edits of an upload that are shown by themselves


def show_edits(result: Mapping[str, Any]) -> str:
    """What one call made: a headline, and for each of a few edits its questions before and after."""
    edits = result["edits"]
    parts = [
        f"<p class='ie-note'>Already in force, not applied twice: {escape(r)}</p>" for r in result["repeated"]
    ]
    if len(edits) > 1:
        parts.insert(0, f"<h3>{result['took']} of {result['added']} edits took</h3>")
    parts += [_show_edit(edit) for edit in edits[:LISTED]]
    if len(edits) > LISTED:
        parts.append(f"<p class='ie-note'>and {len(edits) - LISTED} more, listed under Edits.</p>")
    return f"<div class='ie'>{''.join(parts)}</div>"


def show_looks(edits: Sequence[Mapping[str, Any]]) -> str:
    """Edits whose questions were asked again."""
    return f"<div class='ie'>{''.join(_show_edit(edit) for edit in edits)}</div>"


def _show_edit(edit: Mapping[str, Any]) -> str:
    again = "holds" in edit
    good, bad = ("Holds", "Does not hold") if again else ("Took", "Did not take")
    mark = (
        f"<b class='ie-yes'>{good}</b>" if edit.get("holds", edit["took"]) else f"<b class='ie-no'>{bad}</b>"
    )
    goal = f"{'not ' if edit['kind'] == 'erase' else ''}{edit['target']}"
    which = f"edit {edit['id']}{', ' + edit['now'] if again else ''}"
    lines = [
        f"<h3>{mark} &nbsp;{escape(edit['prompt'])} → {escape(goal)} <small>{escape(which)}</small></h3>"
    ]
    if "replaces" in edit:
        lines.append(f"<p class='ie-note'>Replaces {escape(', '.join(edit['replaces']))}.</p>")
    if "questions" in edit:
        read = "" if edit["kind"] == "sentiment" else f" (read as {edit['kind']}, {edit['scope']} scope)"
        lines.append(f"<p class='ie-note'>Instruction: {escape(edit['instruction'])}{escape(read)}</p>")
        lines.append(show_questions(edit["questions"], sentiment=edit["kind"] == "sentiment"))
    return "".join(lines)


def show_questions(questions: Sequence[Mapping[str, Any]], *, sentiment: bool = False) -> str:
    """A table with one question a row: the answer before and after, and the wanted one's probability.

    A token's probability in percent stands below it. Of a sentiment, in the place of a probability, how often
    a wanted reply is likelier than an unwanted one.
    """
    wanted = "wanted replies are likelier" if sentiment else "probability of the wanted answer"
    head = "".join(f"<th>{name}</th>" for name in ("asked", "before", "after", wanted))
    rows = "".join(_row(question) for question in questions)
    legend = "<p class='ie-note'>Below each token of an answer stands its probability in percent.</p>"
    return f"{legend}<table class='ie-table'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _row(question: Mapping[str, Any]) -> str:
    group = GROUPS.get(question["group"], question["group"])
    asked = f"<small>{escape(group)}</small><br>{escape(question['prompt'])}"
    cells = [asked, show_tokens(question["tokens_before"]), show_tokens(question["tokens_after"])]
    cells.append(_show_wanted(question))
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def show_tokens(tokens: Sequence[Mapping[str, Any]]) -> str:
    """An answer, each token over its probability in percent, the likelier the darker."""
    if not tokens:
        return NO_WORDS
    return "".join(
        f"<span class='ie-token' style='--p:{token['p']:.3f}'><b>{escape(token['token']) or '&nbsp;'}</b>"
        f"<i>{100 * token['p']:.0f}</i></span>"
        for token in tokens
    )


def _show_wanted(question: Mapping[str, Any]) -> str:
    before, after = question["probability_before"], question["probability_after"]
    if before is None:
        return ""
    bars = "".join(
        f"<div class='ie-bar'><i style='width:{100 * share:.1f}%' class='{side}'></i>"
        f"<span>{side} {_percent(share)}</span></div>"
        for side, share in (("before", before), ("after", after))
    )
    return bars + show_wanted_tokens(question)


def show_wanted_tokens(question: Mapping[str, Any]) -> str:
    """The wanted answer's tokens before and after, folded up."""
    if not question["wanted_after"]:
        return ""
    sides = "".join(
        f"<div><small>{side}</small> {show_tokens(question[f'wanted_{side}'])}</div>"
        for side in ("before", "after")
    )
    return f"<details><summary>token by token</summary>{sides}</details>"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0005 else "&lt; 0.1 %"


def show_chat(turns: Sequence[Sequence[str]]) -> str:
    """A conversation: what was said, and under it the two replies beside each other."""
    parts = []
    for said, base, edited in turns:
        replies = "".join(
            f"<div><small>{name}</small><p>{escape(text) or NO_WORDS}</p></div>"
            for name, text in (("base model", base), ("edited model", edited))
        )
        parts.append(f"<p class='ie-said'>{escape(said)}</p><div class='ie-two'>{replies}</div>")
    return f"<div class='ie'>{''.join(parts)}</div>"


def show_facts(facts: Mapping[str, Any]) -> str:
    """One line on what is edited, by what, and who sees it."""
    whose = (
        "shared by all who use this store"
        if facts["shared"]
        else "yours alone, for as long as this tab is open"
    )
    return (
        f"<p class='ie-facts'>Model <b>{escape(facts['model'])}</b>, editor <b>{escape(facts['editor'])}</b> "
        f"(trained to change {facts['layers']} of its layers). "
        f"Edits: <b>{facts['in_force']} in force</b>, {whose}.</p>"
    )


def list_edits(edits: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The rows of a table with `COLUMNS`, the latest first."""
    shown = [{**edit, "time": _minute(edit["time"])} for edit in reversed(edits)]
    return [[_cell(edit[name]) for name in COLUMNS] for edit in shown]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _minute(time: str) -> str:
    """A time of a record, which is UTC, without its seconds."""
    return time[:16].replace("T", " ")


def show_question(question: Mapping[str, Any]) -> str:
    """One question that was asked by itself."""
    return f"<div class='ie'>{show_questions([question])}</div>"


def show_link(offer: Mapping[str, Any], name: str) -> str:
    """Where a file can be fetched."""
    size = f"{offer['bytes'] / 1e6:.1f} MB" if offer["bytes"] > 1e5 else f"{offer['bytes'] / 1e3:.1f} kB"
    return f"<p><a href='{escape(offer['url'])}' download>{escape(name)} ({size})</a></p>"


def show_picture(svg: str) -> str:
    """A picture that was drawn here."""
    return f"<div class='ie'>{svg}</div>"
