"""A visitor of the page in a browser, who waits for what is to be seen."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

POLICY = "Content Security Policy"  # in what a browser says of contents that it was told to refuse
LONGEST = 120_000  # milliseconds until something that should be seen is missed
KEPT = 1_000  # milliseconds that a field holds its text, once it is set up


@dataclass
class Visitor:
    """One person in a browser; `hosts` they asked for anything, and `broken` scripts or refused contents."""

    page: "Page"
    hosts: set[str | None] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)

    def ask_for_edit(self, prompt: str, target: str) -> None:
        """Fill in an edit and ask for it."""
        self.page.locator("#prompt textarea").fill(prompt)
        self.page.locator("#target textarea").fill(target)
        self.page.click("#go")

    def edit(self, prompt: str, target: str) -> "Locator":
        """Make an edit; where its result is shown."""
        self.ask_for_edit(prompt, target)
        self.page.wait_for_selector("#result .ie-table")
        return self.page.locator("#result")

    def open_tab(self, name: str) -> None:
        """Go to another tab."""
        tab = self.page.get_by_role("tab", name=name, exact=True)
        tab.click()
        _expect(tab).to_have_attribute("aria-selected", "true")

    def fill_new(self, box: "Locator", text: str) -> None:
        """Fill in a field that has just come up: again, as long as its setting up takes the text away."""
        end = time.monotonic() + LONGEST / 1000
        while True:
            box.fill(text)
            self.page.wait_for_timeout(KEPT)
            if box.input_value() == text:
                return
            assert time.monotonic() < end, f"{text!r} was filled in and is never kept"

    def wait_for_edits(self, count: int) -> None:
        """The head of the page says how many edits are in force; it is written last."""
        _expect(self.page.locator("#facts")).to_contain_text(f"{count} in force")

    def wait_for_message(self, text: str) -> None:
        """An error is shown."""
        _expect(self.page.get_by_test_id("toast-body").filter(has_text=text).first).to_be_visible()

    def choose_first(self, place: str) -> None:
        """Take the first of a list of choices."""
        self.page.locator(f"{place} input").click()
        self.page.get_by_role("option").first.click()
        self.page.keyboard.press("Escape")

    def upload(self, path: Path) -> None:
        """Hand a file in."""
        with self.page.expect_file_chooser() as chooser:
            self.page.click("#upload")
        chooser.value.set_files(path)


def _expect(locator: "Locator") -> Any:
    from playwright.sync_api import expect

    return expect(locator)


@contextmanager
def open_visitor(browser: "Browser", url: str) -> Iterator[Visitor]:
    """A visitor of their own; at the end, nobody else was asked for anything, and no script failed."""
    from playwright.sync_api import expect

    expect.set_options(timeout=LONGEST)
    context = browser.new_context()
    visitor = Visitor(context.new_page())
    page = visitor.page
    page.set_default_timeout(LONGEST)
    page.on("request", lambda request: visitor.hosts.add(urlsplit(request.url).hostname))
    page.on("pageerror", lambda error: visitor.broken.append(str(error)))
    page.on("console", lambda said: visitor.broken.append(said.text) if POLICY in said.text else None)
    page.goto(url)
    visitor.wait_for_edits(0)
    yield visitor
    context.close()
    assert visitor.hosts <= {"127.0.0.1", None}
    assert visitor.broken == []
