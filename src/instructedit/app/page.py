"""The page in gradio: it lays out and calls; what is done and what is shown is made elsewhere."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gradio as gr

from instructedit.app.api import make_api
from instructedit.app.cleaning import escape, hide_paths
from instructedit.app.frame import PRIVATE, PROGRESS, Frame, teller
from instructedit.app.functions import Functions
from instructedit.app.markup import show_facts
from instructedit.app.session import Desk
from instructedit.app.tab_chat import lay_chat_tab
from instructedit.app.tab_edit import lay_edit_tab
from instructedit.app.tab_files import lay_files_tab
from instructedit.app.tab_store import lay_directions_tab, lay_edits_tab
from instructedit.errors import InstructEditError, one_line

AT_ONCE = 16  # visitors who are answered or wait for the model; more stand in gradio's queue
# A tab of the browser keeps its session, so that its edits are still there when the page is loaded again.
FIND = "() => { try { return sessionStorage.getItem('instructedit') || '' } catch { return '' } }"
KEEP = "(token) => { try { sessionStorage.setItem('instructedit', token) } catch {} }"
TABS = (lay_edit_tab, lay_chat_tab, lay_edits_tab, lay_directions_tab, lay_files_tab)


def make_page(functions: Functions) -> gr.Blocks:
    """The page and, under the same roof, the functions for programs."""
    with gr.Blocks(title="instructedit", analytics_enabled=False) as page:
        for function in make_api(functions, partial(shown_errors, functions.desk, str)):
            gr.api(function, api_name=function.__name__)
        frame = _lay_frame(functions)
        redraws = [lay(frame) for lay in TABS]
        outputs = [frame.facts, frame.editor, *(part for parts, _ in redraws for part in parts)]

        def redraw(token: str) -> list[Any]:
            if not functions.desk.knows(token):
                return [gr.skip() for _ in outputs]  # whoever asked was told
            with frame.guard(token):
                edits = functions.edits(token)
                drawn = [value for _, draw in redraws for value in draw(edits)]
                facts = functions.facts(token)
                return [show_facts(facts), facts["editor"], *drawn]

        def begin(token: str) -> str:
            with frame.guard():
                return token if functions.desk.knows(token) else functions.desk.open()

        opened = page.load(begin, frame.token, frame.token, js=FIND, **PRIVATE)
        opened.then(None, frame.token, None, js=KEEP, **PRIVATE)
        opened.then(redraw, frame.token, outputs, **PRIVATE, show_progress="hidden")
        # After an error gradio passes `then` over: edits are as they were, but the list shows another editor.
        for follow in (*(event.then for event in frame.changes), frame.chosen.failure):
            follow(redraw, frame.token, outputs, **PRIVATE, show_progress="hidden")
    page.queue(default_concurrency_limit=AT_ONCE)
    return page


def _lay_frame(functions: Functions) -> Frame:
    """The head of the page: what is edited, by what, and who is there."""
    desk = functions.desk
    guard = partial(shown_errors, desk, escape)
    token = gr.Textbox("", visible="hidden")
    gr.Markdown("# Edit what a language model believes")
    facts = gr.HTML("Loading …", elem_id="facts")
    with gr.Row():
        editor = gr.Dropdown(
            [(_name_choice(name, desk.models.get(name)), name) for name in desk.editors],
            value=desk.editors[0],
            label="Editor and its model",
            visible=len(desk.editors) > 1,
            elem_id="editor",
        )
        by = gr.Textbox(
            "",
            label="Your name",
            info="Written beside your edits, for all who see them",
            visible=desk.store is not None,
            max_lines=1,
        )

    def choose(token: str, editor: str, progress: Any = PROGRESS) -> None:
        with guard(token):
            functions.choose(token, editor, teller(progress))

    chosen = editor.input(choose, [token, editor], facts, **PRIVATE)
    return Frame(functions, guard, token, facts, editor, by, chosen, [chosen])


def _name_choice(editor: str, model: str | None) -> str:
    return f"{editor}, for {model}" if model else editor


@contextmanager
def shown_errors(desk: Desk, form: Callable[[str], str], *said: str) -> Iterator[None]:
    """Turn what goes wrong into one message without the server's paths, in the form that its reader needs.

    What the reader `said`, and what the edits say of a session whose token is in it, is shown as it is.
    A mistake of the program itself is logged on the server, and said to be one.
    """
    try:
        yield
    except InstructEditError as error:
        texts = [*said, *(desk.words(token) for token in said)]
        message = hide_paths(one_line(error), desk.hidden(), texts)
        raise gr.Error(form(message), print_exception=False) from None
    except OSError as error:
        logging.getLogger(__name__).exception("the system refused something")
        reason = error.strerror or type(error).__name__
        raise gr.Error(
            form(f"The server could not read or write what it needs: {reason}."), print_exception=False
        ) from None
    except Exception:
        logging.getLogger(__name__).exception("a request failed")
        raise gr.Error(
            "Something went wrong on the server; its log says what.", print_exception=False
        ) from None
