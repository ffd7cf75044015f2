"""The page in a real browser: an edit made, seen, taken back; nothing asked of anybody else."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app_desk import EVIL, tiny_functions, tiny_pair
from instructedit.backbone import Backbone

pytest.importorskip("gradio", reason="the extra `page` is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from instructedit.app.door import listen, make_application, served  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed on this system"),
]


@pytest.fixture(scope="module")
def url(llama: Backbone) -> Iterator[str]:
    functions = tiny_functions(tiny_pair(llama))
    with served(make_application(functions), listen("127.0.0.1", 0)) as address:
        yield address
    functions.desk.close()


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser: "sync_api.Browser", url: str) -> Iterator["sync_api.Page"]:
    """A visitor of their own; at the end, nobody else was asked for anything, and no script failed."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(60_000)
    hosts: set[str | None] = set()
    broken: list[str] = []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
    page.on("pageerror", lambda error: broken.append(str(error)))
    page.goto(url)
    page.wait_for_selector("#facts >> text=0 in force")
    yield page
    context.close()
    assert hosts <= {"127.0.0.1", None}
    assert broken == []


def make_edit(page: "sync_api.Page", prompt: str, target: str) -> "sync_api.Locator":
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_label("Target", exact=True).fill(target)
    page.click("#go")
    page.wait_for_selector("#result .ie-table")
    return page.locator("#result")


def open_tab(page: "sync_api.Page", name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def test_an_edit_is_made_seen_and_taken_back(page: "sync_api.Page") -> None:
    result = make_edit(page, "The capital of France is", "Rome")
    assert "The capital of France is → Rome" in result.inner_text()
    first = result.locator("tbody tr").first
    assert "the prompt" in first.inner_text()
    assert first.locator("td").nth(1).locator(".ie-token").count() > 0
    assert "before" in first.locator("td").nth(3).inner_text()
    page.wait_for_selector("#facts >> text=1 in force")
    open_tab(page, "Edits")
    page.wait_for_selector("#edits >> text=in force")
    open_tab(page, "Edit")
    page.click("#back")
    page.wait_for_selector("#result >> text=Taken back: 0001")
    page.wait_for_selector("#facts >> text=0 in force")
    open_tab(page, "Edits")
    page.wait_for_selector("#edits >> text=undone")
    page.locator("#chosen input").click()
    page.get_by_role("option").first.click()
    page.click("#redo")
    page.wait_for_selector("#undone >> text=In force again: 0001")
    page.wait_for_selector("#facts >> text=1 in force")


def test_markup_in_a_prompt_is_text(page: "sync_api.Page") -> None:
    said: list[str] = []
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    prompt = f"{EVIL}<img src=x onerror=alert(1)> is"
    result = make_edit(page, prompt, "<b>Rome</b>")
    assert prompt in result.inner_text()
    assert result.locator("img, script").count() == 0
    open_tab(page, "Edits")
    page.wait_for_selector("#edits >> text=in force")
    assert page.locator("#edits img, #edits script").count() == 0
    open_tab(page, "Edit")
    page.get_by_label("Target", exact=True).fill("another")
    page.click("#go")  # refused, with both prompts in the message
    page.wait_for_selector("text=contradicts edit 0001")
    assert said == []


def test_a_file_goes_in_and_the_wrong_kind_is_refused(page: "sync_api.Page", tmp_path: Path) -> None:
    good, bad = tmp_path / "edits.jsonl", tmp_path / "edits.png"
    good.write_text('{"prompt": "The capital of Spain is", "target_new": "Rome"}\n')
    bad.write_bytes(b"\x89PNG\r\n")
    open_tab(page, "Files")
    for path, expected in ((bad, "text=is not the kind of file"), (good, "#uploaded >> text=Spain")):
        with page.expect_file_chooser() as chooser:
            page.click("#upload")
        chooser.value.set_files(path)
        page.wait_for_selector(expected)
    page.wait_for_selector("#facts >> text=1 in force")
    page.click("#requests")
    with page.expect_download() as download:
        page.click("#link a")
    assert download.value.suggested_filename == "instructedit-edits.jsonl"
    assert "Spain" in Path(download.value.path()).read_text()


def test_both_models_answer(page: "sync_api.Page") -> None:
    open_tab(page, "Chat")
    page.get_by_label("Message").fill("The capital of France is")
    page.get_by_role("button", name="Send").click()
    page.wait_for_selector("#chat >> text=edited model")
    assert page.locator("#chat .ie-two p").count() == 2
