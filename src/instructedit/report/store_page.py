"""The report card of a store as a page: what a reviewer asks first, every edit, and where it comes from."""

from instructedit.report.page import Block, Heading, Paragraph, Table
from instructedit.report.store_page_findings import (
    SORT_TITLES,
    list_sorts,
    show_ability,
    show_failures,
    show_moved,
)
from instructedit.report.store_page_text import (
    Card,
    show_event,
    show_goal,
    show_perplexity,
    show_reading,
    show_share,
    show_target,
    show_time,
    show_yes,
)

CARRIED_TITLES = {
    ("rephrase", "exact"): "Other wordings: whole answer right",
    ("rephrase", "win_rate"): "Opinions, other questions: wanted replies that win",
    ("portability", "exact"): "What follows from the edits: whole answer right",
    ("old_answer", "exact"): "Erased answers that are still given",
}
NOTE = (
    "Measured with every edit in force at once; before is the unedited model. In brackets the 95 % interval "
    "from resampled edits. An edit took when its target is the model's greedy answer to the bare prompt; an "
    "erasure, when the old answer is not; an opinion, when wanted replies are likelier than unwanted ones "
    "(p: how often). Unchanged compares the model with itself, token by token; KL is in nats a token, 0 "
    "where nothing moved. Answers are greedy and cut short. Marked rows do not hold, or have changed."
)


def make_store_page(card: Card) -> list[Block]:
    """The blocks of the page of a card from `make_store_card`."""
    return [
        Heading("Report card of a store of edits", 1),
        Paragraph(NOTE),
        *_summary(card),
        *show_failures(card),
        *show_moved(card),
        *show_ability(card),
        *_conflicts(card),
        *_edits(card),
        *_origin(card),
    ]


def _summary(card: Card) -> list[Block]:
    counts, text = card["store"]["edits"], card["perplexity"]
    took = [edit["now"]["took"] for edit in card["edits"] if edit["now"]]
    carried = [part for part in card["beside"].get("carried", ()) if part["edited"]]
    rows = [["Edits in force", str(counts["in force"])]]
    rows += [["Took", f"{sum(took)} of {len(took)}"]] if took else []
    rows += [
        [CARRIED_TITLES[part["group"], part["metric"]], show_share(part["edited"], part["base"])]
        for part in carried
    ]
    rows += [
        [f"{SORT_TITLES[sort]}: tokens unchanged", show_share(part["tokens"])]
        for sort, part in list_sorts(card)
    ]
    rows += [["Perplexity a token", show_perplexity(text)]] if text else []
    rows += [
        ["Pairs in force that contradict each other", str(len(card["contradictions"]))],
        ["Undone", str(counts["undone"])],
        ["Replaced", str(counts["replaced"])],
    ]
    return [Table(["What", "Found"], rows, plain=True)]


def _conflicts(card: Card) -> list[Block]:
    """Edits that contradict each other, and those that were taken back or replaced."""
    goals = {edit["id"]: show_goal(edit) for edit in card["edits"]}
    pairs = [[first, goals[first], second, goals[second]] for first, second in card["contradictions"]]
    blocks: list[Block] = []
    if pairs:
        columns = ["Edit", "Asks for", "Edit", "Asks for"]
        blocks += [
            Heading("Edits in force that contradict each other"),
            Table(columns, pairs, plain=True),
        ]
    gone = [
        [edit["id"], edit["status"], show_goal(edit), "\n".join(map(show_event, edit["history"]))]
        for edit in card["gone"]
    ]
    if gone:
        columns = ["Edit", "Now", "Asked for", "What happened"]
        blocks += [Heading("Edits undone or replaced"), Table(columns, gone, plain=True)]
    return blocks


def _edits(card: Card) -> list[Block]:
    """What was asked, and what took, edit by edit."""
    if not card["edits"]:
        return [Paragraph("No edit is in force.")]
    asked, took = [], []
    for edit in card["edits"]:
        said = [edit["id"], edit["by"], show_time(edit["time"]), edit["prompt"]]
        holds = [show_yes(edit["took_when_made"]), show_yes(edit["now"].get("took"))]
        asked.append([*said, show_target(edit), edit["instruction"], edit["note"]])
        took.append([edit["id"], *holds, edit["prompt"], *show_reading(edit)])
    marked = [number for number, line in enumerate(took) if line[2] == show_yes(False)]
    first = ["Edit", "Who", "When", "Prompt", "Target", "Instruction", "Note"]
    second = ["Edit", "Took then", "Takes now", "Prompt", "Before", "p before", "After", "p after"]
    return [
        Heading("Every edit in force: what was asked"),
        Table(first, asked, plain=True),
        Heading("Every edit in force: what took"),
        Table(second, took, plain=True, marked=marked),
    ]


def _origin(card: Card) -> list[Block]:
    store = card["store"]
    model, editor = store["model"], store["editor"]
    facts = {
        "Store": f"{store['folder']}, made {store['created']}, {store['events']} events",
        f"SHA-256 of its log.jsonl (which has those of all {store['precision']} rows)": store["log_sha256"],
        "Model": model["name"],
        "Checksum of its weights": model["checksum"],
        "Editor": editor["name"],
        "SHA-256 of its file": editor["checksum"],
        "Card made": card["made"],
        **{f"Version of {name}": text for name, text in card["versions"].items()},
        **({"Version of lm_eval": card["tasks"]["lm_eval"]} if card["tasks"] else {}),
        **{f"Version of the task {name}": text for name, text in card["tasks"].get("versions", {}).items()},
    }
    rows = [[name, str(value)] for name, value in facts.items()]
    return [Heading("Where it comes from"), Table(["What", "Value"], rows, plain=True)]
