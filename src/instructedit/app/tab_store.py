"""The tabs that show every edit that was made: as a table, and each as a direction."""

from typing import Any

import gradio as gr

from instructedit.app.frame import PRIVATE, PROGRESS, Edits, Followers, Frame, teller
from instructedit.app.markup import COLUMNS, WIDTHS, list_edits, show_looks, show_picture

ABOUT = (
    "Each point is an edit: where its gradient points, which is the change that it asks of the weights, all "
    "edited layers together, in two principal components. Edits that lie near each other pull the model the "
    "same way. The others are edits of every kind from the package's own facts; they are computed once, so "
    "the first picture takes longer."
)
ACTIONS = (
    "Choose edits, then: **Undo** takes them back, as if they had never been made. **Redo** puts them in "
    "force again. **Ask again** puts their questions to the model as it is now, with all edits in force."
)
NONE_CHOSEN = "<p>No edit was chosen. Choose one above; edits are made under Edit and Files.</p>"
ALL_THERE = "nothing, all are in force already, or the same under another id"
HEADINGS = {"time": "time (UTC)"}


def lay_edits_tab(frame: Frame) -> Followers:
    """The store as a table, with undo and redo."""
    with gr.Tab("Edits"):
        table = gr.Dataframe(
            headers=[HEADINGS.get(name, name) for name in COLUMNS],
            column_widths=list(WIDTHS),
            interactive=False,
            wrap=True,
            label="Every edit that was made",
            elem_id="edits",
        )
        gr.Markdown(ACTIONS)
        with gr.Row():
            chosen = gr.Dropdown([], multiselect=True, label="Edits", elem_id="chosen")
            replace = gr.Checkbox(label="Redo: replace an edit that contradicts it")
        with gr.Row():
            undo = gr.Button("Undo", elem_id="undo")
            redo = gr.Button("Redo", elem_id="redo")
            look = gr.Button("Ask again", elem_id="look")
            refresh = gr.Button("Refresh")
            stop = gr.Button("Cancel")
        note = gr.HTML("", elem_id="undone")

    def take_back(token: str, by: str, names: list[str], progress: Any = PROGRESS) -> str:
        if not names:
            return NONE_CHOSEN
        with frame.guard(token):
            gone = frame.functions.undo(token, names, by, teller(progress))
            return f"<p>Undone: {', '.join(gone) or 'nothing, none of them was in force'}.</p>"

    def bring_back(token: str, by: str, names: list[str], replace: bool, progress: Any = PROGRESS) -> str:
        if not names:
            return NONE_CHOSEN
        with frame.guard(token):
            back = frame.functions.redo(token, names, replace, by, teller(progress))
            return f"<p>In force again: {', '.join(back) or ALL_THERE}.</p>"

    def ask_again(token: str, names: list[str], progress: Any = PROGRESS) -> str:
        if not names:
            return NONE_CHOSEN
        with frame.guard(token):
            return show_looks(frame.functions.look(token, names, teller(progress)))

    token, by = frame.token, frame.by
    look.click(ask_again, [token, chosen], note, **PRIVATE)
    stop.click(frame.cancel, token, None, queue=False, **PRIVATE)
    frame.changes.append(refresh.click(lambda: "", None, note, **PRIVATE))
    frame.changes.append(undo.click(take_back, [token, by, chosen], note, **PRIVATE))
    frame.changes.append(redo.click(bring_back, [token, by, chosen, replace], note, **PRIVATE))
    return [table, chosen], lambda edits: [list_edits(edits), gr.Dropdown(name_edits(edits), value=[])]


def lay_directions_tab(frame: Frame) -> Followers:
    """The picture of one edit's direction."""
    with gr.Tab("Direction"):
        gr.Markdown(ABOUT)
        chosen = gr.Dropdown([], label="Edit")
        with gr.Row():
            go = gr.Button("Draw", variant="primary", scale=2, elem_id="draw")
            stop = gr.Button("Cancel")
        drawn = gr.HTML("", elem_id="picture")

    def draw(token: str, name: str | None, progress: Any = PROGRESS) -> str:
        if not name:
            return NONE_CHOSEN
        with frame.guard(token):
            return show_picture(frame.functions.picture(token, name, teller(progress)))

    go.click(draw, [frame.token, chosen], drawn, **PRIVATE)
    stop.click(frame.cancel, frame.token, None, queue=False, **PRIVATE)
    return [chosen], lambda edits: [_latest(edits)]


def _latest(edits: Edits) -> Any:
    return gr.Dropdown(name_edits(edits), value=edits[-1]["id"] if edits else None)


def name_edits(edits: Edits) -> list[tuple[str, str]]:
    """The edits to choose from, the latest first: what is shown, and the id."""
    return [
        (f"{edit['id']}  {edit['prompt']} → {edit['target']} ({edit['now']})", edit["id"])
        for edit in reversed(edits)
    ]
