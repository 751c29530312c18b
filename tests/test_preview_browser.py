"""The preview in a real browser: looking, excluding, taking back, and a page without a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import browsers
import pytest
from preview_set import make_set, report, serving

from byg_train.data.excluded import read_excluded
from byg_train.data.preview.page import inside, page

if TYPE_CHECKING:
    from playwright.sync_api import Page

browser = browsers.browser  # found, or the test fails or is skipped
tab = browsers.page  # which may not complain
HAT = ("sub/b.jpg", "Add a hat")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_set(tmp_path / "my set")


@pytest.fixture
def served(root: Path) -> Iterator[str]:
    with serving(root) as server:
        yield server.address


def saved(tab: Page) -> None:
    """The page says so once the server has answered."""
    tab.wait_for_function("() => /^saved/.test(document.querySelector('#saved').textContent)")


def test_decisions_go_to_the_file_and_come_back(tab: Page, served: str, root: Path) -> None:
    tab.goto(served)
    assert tab.locator(".card").count() == 3
    assert tab.locator(".problem.error").first.inner_text().startswith("change in caption: 'now'")
    tab.keyboard.press("p")  # the first picture with a problem
    tab.keyboard.press("x")
    saved(tab)
    assert read_excluded(root) == {("sub/b.jpg", None)}
    tab.select_option("#state", "excluded")
    assert tab.locator(".card").count() == 1
    tab.reload()
    assert "1 excluded" in tab.inner_text("#count")
    tab.fill("#search", "hat")
    tab.wait_for_function("() => document.querySelectorAll('.card').length === 1")


def test_one_of_several_tuples_is_excluded_and_undone(tab: Page, served: str, root: Path) -> None:
    tab.goto(served)
    tab.locator(".edit", has_text="Add a hat").get_by_role("button").click()
    saved(tab)
    assert read_excluded(root) == {HAT}
    tab.keyboard.press("u")
    tab.wait_for_function("() => !document.querySelector('.edit.gone')")
    saved(tab)
    assert read_excluded(root) == set()


def test_a_page_without_a_server_keeps_decisions_and_hands_them_out(
    tab: Page, root: Path, tmp_path: Path
) -> None:
    found = report(root)
    html = page(found, {HAT}, served=False, addresses=inside(found, lambda: None))
    (tmp_path / "review.html").write_text(html, encoding="utf-8")
    tab.goto((tmp_path / "review.html").as_uri())
    tab.locator(".card").first.get_by_role("button", name="Exclude").last.click()
    tab.reload()  # the browser has kept them
    with tab.expect_download() as download:
        tab.click("#download")
    download.value.save_as(root / "excluded.txt")
    assert read_excluded(root) == {("a.png", None), HAT}
