"""The tab in which both models are spoken to."""

from typing import Any

import gradio as gr

from instructedit.app.chat import LONGEST
from instructedit.app.frame import PRIVATE, PROGRESS, Followers, Frame, follow_nothing, teller
from instructedit.app.markup import show_chat

Said = tuple[str, list[Any]]  # the editor whose model replied, and the turns; no other model may go on
NONE_SAID: Said = ("", [])


def lay_chat_tab(frame: Frame) -> Followers:
    """A conversation with both models."""
    with gr.Tab("Chat"):
        said = gr.HTML("", elem_id="chat")
        message = gr.Textbox("", label="Message", lines=2, elem_id="message")
        with gr.Row():
            style = gr.Radio(
                [("continue the text", "text"), ("as a conversation", "chat")],
                value="text",
                label="How the message is taken",
                info="Only a conversation remembers what was said before",
            )
            tokens = gr.Slider(8, LONGEST, value=48, step=8, label="Length of a reply, in tokens")
        with gr.Row():
            go = gr.Button("Send", variant="primary")
            stop = gr.Button("Cancel")
            clear = gr.Button("Begin again")
    turns = gr.State(NONE_SAID)

    def send(
        token: str,
        message: str,
        said: Said,
        style: Any,
        tokens: int,
        progress: Any = PROGRESS,
    ) -> tuple[str, Said, str]:
        with frame.guard(token, message, str(said)):
            editor = frame.functions.desk.find(token).editor
            turns = [tuple(turn) for turn in said[1]] if said[0] == editor else []
            past = turns if style == "chat" else []
            replies = frame.functions.chat(token, message, past, style, int(tokens), teller(progress))
            turns = [*turns, (message, replies["base"], replies["edited"])]
            return show_chat(turns), (editor, turns), ""

    inputs = [frame.token, message, turns, style, tokens]
    gr.on([go.click, message.submit], send, inputs, [said, turns, message], **PRIVATE)
    stop.click(frame.cancel, frame.token, None, queue=False, **PRIVATE)
    for event in (clear.click, frame.chosen.success):
        event(lambda: ("", NONE_SAID), None, [said, turns], **PRIVATE)
    return [], follow_nothing
