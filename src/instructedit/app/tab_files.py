"""The tab for files: edits from one, and all edits in force as one."""

from typing import Any

import gradio as gr

from instructedit.app.frame import PRIVATE, PROGRESS, Followers, Frame, follow_nothing, teller
from instructedit.app.markup import show_edits, show_link
from instructedit.app.request import ENDINGS, LARGEST, MOST, NOT_TEXT

# A file is read in the browser: an upload of gradio's own would tell the browser where the server keeps it.
PICK = f"""async (token, name, size, content, replace, by) => {{
  const input = document.createElement("input");
  input.type = "file";
  input.accept = "{",".join(ENDINGS)}";
  const file = await new Promise((done) => {{
    input.onchange = () => done(input.files[0]);
    input.oncancel = () => done(null);
    input.click();
  }});
  if (!file) return [token, "", 0, "", replace, by];
  if (file.size > {LARGEST}) return [token, file.name, file.size, "", replace, by];
  try {{
    const content = new TextDecoder("utf-8", {{ fatal: true }}).decode(await file.arrayBuffer());
    return [token, file.name, file.size, content, replace, by];
  }} catch {{
    return [token, file.name, {NOT_TEXT}, "", replace, by];
  }}
}}"""


def lay_files_tab(frame: Frame) -> Followers:
    """Edits from a file, and all edits in force as files."""
    with gr.Tab("Files"):
        gr.Markdown(
            '**Upload** a JSONL file of edits, one object a line: `{"prompt": "The capital of France is", '
            f'"target_new": "Lyon"}}`; at most {LARGEST // 2**20} MB and {MOST:,} edits. All of them '
            "are made, or none."
        )
        with gr.Row():
            upload = gr.Button("Upload JSONL", elem_id="upload")
            stop = gr.Button("Cancel")
            replace = gr.Checkbox(label="Replace what contradicts them")
        result = gr.HTML("", elem_id="uploaded")
        name, content = gr.Textbox("", visible=False), gr.Textbox("", visible=False)
        size = gr.Number(0, precision=0, visible=False)
        gr.Markdown(
            "**Download** all edits in force: as one LoRA adapter, which peft loads beside the base model, "
            "or as requests, which can be uploaded here again."
        )
        with gr.Row():
            adapter = gr.Button("LoRA adapter (zip)", elem_id="adapter")
            requests = gr.Button("Requests (JSONL)", elem_id="requests")
        link = gr.HTML("", elem_id="link")

    def take(
        token: str,
        name: str,
        size: int,
        content: str,
        replace: bool,
        by: str,
        progress: Any = PROGRESS,
    ) -> str:
        if not name:
            return "<p>No file was chosen.</p>"
        with frame.guard(token, name, content):
            return show_edits(
                frame.functions.upload(token, name, content, size, replace, by, teller(progress))
            )

    def make_adapter(token: str, progress: Any = PROGRESS) -> str:
        with frame.guard(token):
            return show_link(frame.functions.adapter(token, teller(progress)), "LoRA adapter")

    def make_requests(token: str) -> str:
        with frame.guard(token):
            return show_link(frame.functions.requests_file(token), "Requests")

    inputs = [frame.token, name, size, content, replace, frame.by]
    frame.changes.append(upload.click(take, inputs, result, js=PICK, **PRIVATE))
    stop.click(frame.cancel, frame.token, None, queue=False, **PRIVATE)
    adapter.click(make_adapter, frame.token, link, **PRIVATE)
    requests.click(make_requests, frame.token, link, **PRIVATE)
    return [], follow_nothing
