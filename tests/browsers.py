"""A real browser, and pages in it that may not complain.

Runs where playwright finds a Chromium (`playwright install chromium`, or the system's own); with
BYG_REQUIRE_BROWSER=1 it must. A test file takes a fixture by `browser = browsers.browser`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import lanes
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests of a file."""
    lanes.needs("browser")
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        lanes.missing("browser", "playwright is not installed")
    own = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as play:
        try:
            found = play.chromium.launch(executable_path=own, args=["--no-sandbox"])
        except Error as error:
            said = str(error).splitlines()[0]
            lanes.missing("browser", f"no Chromium starts: {said}")
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that may not complain."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    yield from quiet(context.new_page())
    context.close()


def quiet(page: Page) -> Iterator[Page]:
    """The page, whose errors and warnings fail the test when it is done."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else 0)
    page.set_default_timeout(90_000)
    page.complaints = complaints
    yield page
    assert complaints == []
