"""The page in a real browser: an edit made, seen, taken back; nothing asked of anybody else."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app_browser import Visitor, open_visitor
from app_desk import EVIL, tiny_functions
from instructedit.app import directions
from instructedit.app.functions import Functions
from instructedit.app.session import Desk
from instructedit.errors import OutputError

pytest.importorskip("gradio", reason="the extra `page` is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
from instructedit.app.door import listen, make_application, served  # noqa: E402
from instructedit.app.pair import Pair  # noqa: E402

expect = sync_api.expect
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed on this system"),
]


@pytest.fixture(scope="module")
def url(pair: Pair) -> Iterator[str]:
    functions = tiny_functions(pair)
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
def visitor(browser: "sync_api.Browser", url: str) -> Iterator[Visitor]:
    with open_visitor(browser, url) as found:
        yield found


def test_an_edit_is_made_seen_and_taken_back(visitor: Visitor) -> None:
    visitor.page.click("#back")
    expect(visitor.page.locator("#result")).to_contain_text("No edit was made here yet")
    result = visitor.edit("The capital of France is", "Rome")
    expect(result).to_contain_text("The capital of France is → Rome")
    first = result.locator("tbody tr").first
    expect(result).to_contain_text("probability in percent")
    expect(first).to_contain_text("the prompt")
    expect(first.locator("td").nth(1).locator(".ie-token")).not_to_have_count(0)
    expect(first.locator("td").nth(3)).to_contain_text("before")
    visitor.wait_for_edits(1)
    visitor.open_tab("Edits")
    expect(visitor.page.locator("#edits")).to_contain_text("in force")
    visitor.open_tab("Edit")
    visitor.page.click("#back")
    expect(result).to_contain_text("Taken back: 0001")
    visitor.wait_for_edits(0)
    visitor.open_tab("Edits")
    expect(visitor.page.locator("#edits")).to_contain_text("undone")
    visitor.page.click("#redo")
    expect(visitor.page.locator("#undone")).to_contain_text("No edit was chosen")
    visitor.choose_first("#chosen")
    visitor.page.click("#redo")
    expect(visitor.page.locator("#undone")).to_contain_text("In force again: 0001")
    visitor.wait_for_edits(1)


def test_two_people_see_their_own_edits_and_keep_them(
    browser: "sync_api.Browser", url: str, visitor: Visitor
) -> None:
    visitor.edit("The capital of France is", "Rome")
    visitor.wait_for_edits(1)
    with open_visitor(browser, url) as other:
        other.open_tab("Edits")
        expect(other.page.locator("#edits")).not_to_contain_text("France")
    visitor.page.reload()
    visitor.wait_for_edits(1)
    visitor.open_tab("Edits")
    expect(visitor.page.locator("#edits")).to_contain_text("France")


def test_an_edit_is_looked_at_again_drawn_and_downloaded(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    few = directions.reference_cases()[::8]
    monkeypatch.setattr(directions, "reference_cases", lambda: few)
    page = visitor.page
    visitor.edit("The capital of France is", "Rome")
    visitor.wait_for_edits(1)
    visitor.open_tab("Edits")
    visitor.choose_first("#chosen")
    page.click("#look")
    expect(page.locator("#undone h3")).to_contain_text("The capital of France is → Rome edit 0001, in force")
    visitor.open_tab("Direction")
    page.click("#draw")
    expect(page.locator("#picture svg circle title", has_text=directions.THIS)).to_have_count(3)
    visitor.open_tab("Files")
    page.click("#adapter")
    with page.expect_download() as download:
        page.click("#link a")
    assert Path(download.value.path()).read_bytes()[:2] == b"PK"


def test_work_that_waits_is_told_of_and_can_be_cancelled(visitor: Visitor, pair: Pair) -> None:
    with pair.lock:
        visitor.ask_for_edit("The capital of France is", "Rome")
        expect(visitor.page.locator("#result")).to_contain_text("Waiting until the model is free")
        visitor.page.click("#stop")
        visitor.wait_for_message("Cancelled: nothing was changed.")
    visitor.edit("The capital of France is", "London")  # which would be refused, were the first in force
    visitor.wait_for_edits(1)


def test_an_editor_is_chosen(browser: "sync_api.Browser", pair: Pair) -> None:
    def load(name: str) -> Pair:
        if name == "three":
            raise OutputError("there is no room for another model")
        return replace(pair, name=name)

    desk = Desk(load, ["one", "two", "three"], models={"two": "a small model"})
    with (
        served(make_application(Functions(desk)), listen("127.0.0.1", 0)) as url,
        open_visitor(browser, url) as visitor,
    ):
        facts, choice = visitor.page.locator("#facts"), visitor.page.locator("#editor input")
        expect(facts).to_contain_text("editor one")
        visitor.edit("The capital of France is", "Rome")
        visitor.wait_for_edits(1)
        visitor.open_tab("Chat")
        visitor.page.locator("#message textarea").fill("The capital of France is")
        visitor.page.get_by_role("button", name="Send").click()
        expect(visitor.page.locator("#chat")).to_contain_text("edited model")
        choice.click()
        visitor.page.get_by_role("option", name="two, for a small model").click()
        expect(facts).to_contain_text("editor two")
        visitor.wait_for_edits(0)
        expect(visitor.page.locator("#chat")).not_to_contain_text("edited model")
        visitor.open_tab("Edit")
        expect(visitor.page.locator("#result")).not_to_contain_text("France")
        visitor.page.click("#back")  # what was made under the other editor is not meant
        expect(visitor.page.locator("#result")).to_contain_text("No edit was made here yet")
        choice.click()
        visitor.page.get_by_role("option", name="three").click()
        visitor.wait_for_message("no room for another model")
        expect(choice).to_have_value("two, for a small model")
    desk.close()


def test_markup_in_a_prompt_is_text(visitor: Visitor) -> None:
    page, said = visitor.page, []
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    prompt = f"{EVIL}<img src=x onerror=alert(1)> is"
    result = visitor.edit(prompt, "<b>Rome</b>")
    assert prompt in result.inner_text()
    expect(result.locator("img, script")).to_have_count(0)
    visitor.open_tab("Edits")
    expect(page.locator("#edits")).to_contain_text("in force")
    expect(page.locator("#edits img, #edits script")).to_have_count(0)
    visitor.open_tab("Edit")
    page.locator("#target textarea").fill("another")
    page.click("#go")
    visitor.wait_for_message("contradicts edit 0001")  # with both prompts in it
    assert said == []


def test_a_file_goes_in_and_the_wrong_kind_is_refused(visitor: Visitor, tmp_path: Path) -> None:
    page = visitor.page
    picture, large, other, good = (
        tmp_path / name for name in ("edits.png", "large.jsonl", "other.jsonl", "edits.jsonl")
    )
    picture.write_bytes(b"\x89PNG\r\n")
    with large.open("wb") as file:
        file.truncate(100 * 2**20)
    other.write_text('{"prompt": "Málaga is in", "target_new": "Peru"}\n', "latin-1")
    good.write_text('{"prompt": "The capital of Spain is", "target_new": "Rome"}\n')
    visitor.open_tab("Files")
    for bad, message in (
        (picture, "edits.png is not the kind of file"),
        (large, "large.jsonl has 100.0 MB"),
        (other, "other.jsonl holds bytes that are not UTF-8"),
    ):
        visitor.upload(bad)
        visitor.wait_for_message(message)
    visitor.upload(good)
    expect(page.locator("#uploaded")).to_contain_text("Spain")
    visitor.wait_for_edits(1)
    page.click("#requests")
    with page.expect_download() as download:
        page.click("#link a")
    assert download.value.suggested_filename == "instructedit-edits.jsonl"
    assert "Spain" in Path(download.value.path()).read_text()


def test_both_models_answer(visitor: Visitor) -> None:
    visitor.open_tab("Chat")
    visitor.page.locator("#message textarea").fill("The capital of France is")
    visitor.page.get_by_role("button", name="Send").click()
    chat = visitor.page.locator("#chat")
    expect(chat).to_contain_text("edited model")
    expect(chat.locator(".ie-two p")).to_have_count(2)
    visitor.open_tab("Edit")
    visitor.page.get_by_role("button", name="Ask something else").click()
    visitor.fill_new(visitor.page.get_by_label("Prompt to ask"), "The capital of Spain is")
    visitor.page.get_by_role("button", name="Ask", exact=True).click()
    expect(visitor.page.locator("#answer .ie-token")).not_to_have_count(0)


def test_how_programs_call_is_shown_without_asking_anybody(visitor: Visitor) -> None:
    visitor.page.get_by_role("button", name="Use via API").click()
    expect(visitor.page.get_by_text("/export_adapter").first).to_be_visible()
