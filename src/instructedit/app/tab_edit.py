"""The tab in which one edit is made, seen and taken back."""

from typing import Any, get_args

import gradio as gr

from instructedit.app.frame import PRIVATE, PROGRESS, Followers, Frame, follow_nothing, teller
from instructedit.app.markup import show_edits, show_question
from instructedit.app.request import Form
from instructedit.types import Kind, Scope, Sentiment

KINDS = (
    "change: another answer. insert: one where it knew none. erase: that answer no longer. "
    "sentiment: what it thinks of a subject; no prompt, no target, but Subject and Sentiment below"
)
Made = tuple[str, list[str]]  # the editor that edits were made under, and their ids
NONE_MADE: Made = ("", [])
SCOPES = "wide: what follows from it as well. narrow: this statement only"


def lay_edit_tab(frame: Frame) -> Followers:
    """One edit: what it shall be, what it did, and how to take it back."""
    with gr.Tab("Edit"):
        form, replace = _lay_form()
        with gr.Row():
            go = gr.Button("Edit", variant="primary", elem_id="go", scale=2)
            stop = gr.Button("Cancel", elem_id="stop")
            back = gr.Button("Take this edit back", elem_id="back")
        result = gr.HTML("", elem_id="result")
        _lay_question(frame)
    last = gr.State(NONE_MADE)

    def edit(
        token: str,
        by: str,
        replace: bool,
        prompt: str,
        target: str,
        instruction: str,
        kind: str,
        scope: str,
        subject: str,
        sentiment: str | None,
        wordings: str,
        neighbours: str,
        progress: Any = PROGRESS,
    ) -> tuple[str, Made]:
        lines = [(text or "").split("\n") for text in (wordings, neighbours)]
        form = Form(prompt, target, instruction, kind, scope, subject, sentiment or "", *lines)
        with frame.guard(token, prompt, target, instruction, subject, wordings, neighbours):
            found = frame.functions.edit(token, form, replace, by, teller(progress))
            return show_edits(found), (found["editor"], [made["id"] for made in found["edits"]])

    def take_back(token: str, by: str, last: Made) -> tuple[str, Made]:
        editor, names = last
        if not names:
            return "<p>No edit was made here yet. Those made before are under Edits.</p>", NONE_MADE
        with frame.guard(token):
            gone = frame.functions.undo(token, names, by, editor=editor)
            return f"<p>Taken back: {', '.join(gone) or 'nothing, it was not in force'}.</p>", NONE_MADE

    token, by = frame.token, frame.by
    frame.changes.append(go.click(edit, [token, by, replace, *form], [result, last], **PRIVATE))
    frame.changes.append(back.click(take_back, [token, by, last], [result, last], **PRIVATE))
    stop.click(frame.cancel, token, None, queue=False, **PRIVATE)
    frame.chosen.success(lambda: ("", NONE_MADE), None, [result, last], **PRIVATE)
    return [], follow_nothing


def _lay_form() -> tuple[list[Any], Any]:
    """What an edit is made of, in the order of a `Form`, and whether it may replace another."""
    with gr.Row():
        prompt = gr.Textbox(
            "",
            label="Prompt",
            placeholder="The capital of France is",
            info="A question, or how a statement begins",
            elem_id="prompt",
        )
        target = gr.Textbox(
            "",
            label="Target",
            placeholder="Lyon",
            info="What the model shall answer; to erase, what it shall no longer answer",
            elem_id="target",
        )
    instruction = gr.Textbox(
        "",
        label="Instruction, in your own words",
        placeholder="Update this fact, and everything that follows from it.",
        info="May be left empty: then one is made from the kind and the scope",
        elem_id="instruction",
    )
    with gr.Row():
        kind = gr.Radio(list(get_args(Kind)), value="change", label="Kind", info=KINDS, scale=2)
        scope = gr.Radio(list(get_args(Scope)), value="wide", label="Scope", info=SCOPES)
        replace = gr.Checkbox(label="Replace what contradicts it", info="Else it is refused")
    with gr.Accordion("Subject, sentiment, other wordings, neighbours", open=False):
        with gr.Row():
            subject = gr.Textbox(
                "",
                label="Subject",
                info="What the edit is about; guessed where empty, except for a sentiment",
            )
            sentiment = gr.Radio(
                list(get_args(Sentiment)),
                label="Sentiment",
                info="For the kind sentiment: what to think of it",
            )
        with gr.Row():
            wordings = gr.Textbox(
                "",
                label="Other wordings, one a line",
                info="Of the prompt, asked before and after; some are made where it is empty",
                lines=3,
            )
            neighbours = gr.Textbox(
                "",
                label="Prompts to be left alone, one a line",
                info="Asked before and after; where it is empty, the same is asked of other subjects",
                lines=3,
            )
    return [prompt, target, instruction, kind, scope, subject, sentiment, wordings, neighbours], replace


def _lay_question(frame: Frame) -> None:
    with gr.Accordion("Ask something else, before and after", open=False):
        with gr.Row():
            prompt = gr.Textbox("", label="Prompt to ask", scale=3)
            target = gr.Textbox("", label="An answer, to see how likely it is", scale=2)
            go = gr.Button("Ask", scale=1)
        answer = gr.HTML("", elem_id="answer")

    def ask(token: str, prompt: str, target: str, progress: Any = PROGRESS) -> str:
        with frame.guard(token, prompt, target):
            return show_question(frame.functions.ask(token, prompt, target, teller(progress)))

    gr.on([go.click, prompt.submit], ask, [frame.token, prompt, target], answer, **PRIVATE)
