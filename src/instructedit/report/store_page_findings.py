"""What a store's report card found: what did not take, what moved, general ability, cases in full text."""

from collections.abc import Sequence

from instructedit.report.page import Block, Heading, Paragraph, Table
from instructedit.report.store_card_probes import ORDINARY, OWN, SAME
from instructedit.report.store_page_text import (
    Card,
    show_count,
    show_goal,
    show_number,
    show_perplexity,
    show_reading,
    show_share,
)

SORT_TITLES = {
    SAME: "The same relation, other subjects",
    OWN: "The subjects' other facts",
    ORDINARY: "Ordinary text and unrelated questions",
}
GROUP_TITLES = {"rephrase": "other wording", "portability": "what follows", "old_answer": "old answer gone"}


def list_sorts(card: Card) -> list[tuple[str, Card]]:
    """The sorts of probes that should not move and were asked, with their numbers."""
    moved = card["beside"].get("moved", {})
    return [(sort, moved[sort]) for sort in SORT_TITLES if moved.get(sort, {}).get("probes")]


def show_failures(card: Card) -> list[Block]:
    """Edits that do not hold, and what should have come along and did not."""
    measured = [edit for edit in card["edits"] if edit["now"]]
    if not measured:
        return []
    bad = [edit for edit in measured if not edit["now"]["took"]]
    rows = [[edit["id"], show_goal(edit), *show_reading(edit), edit["instruction"]] for edit in bad]
    columns = ["Edit", "Asked for", "Before", "p before", "After", "p after", "Instruction"]
    blocks: list[Block] = [Heading("What did not take")]
    blocks += [Table(columns, rows, plain=True)] if rows else [Paragraph("Every edit in force takes.")]
    failed = card["beside"].get("failed", {"count": 0, "shown": []})
    if failed["count"]:
        text = f"Questions that the edits should have reached and did not: {show_count(failed)}."
        blocks += [Paragraph(text), _list_failed(failed["shown"])]
    return blocks


def _list_failed(found: Sequence[Card]) -> Table:
    rows = [[case["edit"], GROUP_TITLES[case["group"]], *_answers(case)] for case in found]
    return Table(["Edit", "Tests", "Prompt", "Answer looked for", "Before", "After"], rows, plain=True)


def _answers(case: Card) -> list[str]:
    return [case[name] or "–" for name in ("prompt", "expected", "before", "after")]


def show_moved(card: Card) -> list[Block]:
    """What should not have moved, by sort: numbers, then the worst cases."""
    sorts = list_sorts(card)
    if not sorts:
        return []
    rows = []
    for sort, moved in sorts:
        shares = [show_share(moved["tokens"]), show_share(moved["answers"]), show_number(moved["kl"])]
        rows.append([SORT_TITLES[sort], str(moved["probes"]), str(moved["changed"]), *shares])
    columns = ["Asked", "Probes", "Changed", "Tokens unchanged", "Answers unchanged", "KL"]
    blocks: list[Block] = [Heading("What moved that should not have"), Table(columns, rows, plain=True)]
    for sort, _ in sorts:
        worst = card["beside"]["worst"][sort]
        marked = [number for number, case in enumerate(worst) if case["unchanged"] == 0]
        lines = [[case["edit"] or "–", *_answers(case), f"{case['kl']:.4f}"] for case in worst]
        names = ["Edit", "Prompt", "Answer compared", "Before", "After", "KL"]
        blocks += [
            Heading(f"{SORT_TITLES[sort]}: the worst", 3),
            Table(names, lines, plain=True, marked=marked),
        ]
    return blocks


def show_ability(card: Card) -> list[Block]:
    """Perplexity and tasks, before and after; nothing where none was asked for."""
    text, tasks = card["perplexity"], card["tasks"]
    blocks: list[Block] = [Heading("General ability")] if text or tasks else []
    if text:
        rows = [[text["file"], str(text["tokens"]), show_perplexity(text), text["sha256"]]]
        blocks.append(Table(["Text", "Tokens", "Perplexity a token", "SHA-256"], rows, plain=True))
    return [*blocks, *_show_tasks(tasks)] if tasks else blocks


def _show_tasks(tasks: Card) -> list[Block]:
    rows = []
    for score in tasks["scores"]:
        measure = score["metric"] if score["filter"] == "none" else f"{score['metric']}, {score['filter']}"
        sides = [f"{score[side]:.4f}" for side in ("before", "after")]
        change = show_number(score["difference"], "+")
        rows.append([score["task"], measure, *sides, change, str(score["documents"])])
    columns = ["Task", "Measure", "Before", "After", "Difference", "Questions"]
    blocks: list[Block] = [Table(columns, rows, plain=True)]
    lost = tasks["lost"]
    if lost["count"]:
        text = f"Questions of the tasks that were right before and are wrong now: {show_count(lost)}."
        lines = [[case["task"], case["prompt"], case["target"]] for case in lost["shown"]]
        blocks += [Paragraph(text), Table(["Task", "Question", "Right answer"], lines, plain=True)]
    return blocks
