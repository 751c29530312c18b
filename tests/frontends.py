"""ComfyUI's frontend in both of its renderers, for tests; a file takes fixtures by assignment."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING

import pytest
from comfy_host import since
from comfy_server import Server

from tools import frontend
from tools.frontend import Box

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def page(browser: Browser, host: Server) -> Iterator[Page]:
    """The frontend, ready."""
    yield from _opened(browser, host, nodes_2=False)


@pytest.fixture(scope="module")
def page_2(browser: Browser, host: Server) -> Iterator[Page]:
    """The frontend with Nodes 2.0, ready; that of 0.3.64 draws no notes, and nodes over others."""
    since("0.3.75", "Nodes 2.0 that keeps the sizes of nodes")
    yield from _opened(browser, host, nodes_2=True)


def _opened(browser: Browser, host: Server, *, nodes_2: bool) -> Iterator[Page]:
    host.post("/settings", {frontend.NODES_2: nodes_2}).raise_for_status()
    context = browser.new_context(viewport=frontend.VIEW)
    found = context.new_page()
    frontend.start(found, host.address)
    host.post("/settings", {frontend.NODES_2: False}).raise_for_status()  # of other tests' pages
    yield found
    context.close()
    # What these pages ran, other tests run as if for the first time.
    host.forget()


def wait_until_drawn(page: Page, count: int) -> None:
    """Until Nodes 2.0 has drawn so many nodes, and what is in them has its size."""
    page.wait_for_function(f"() => document.querySelectorAll('[data-node-id]').length == {count}")
    page.wait_for_timeout(1000)


def assert_apart(boxes: list[Box], frames: list[Box]) -> None:
    """Nothing lies on anything else, and every node in one frame."""
    for a, b in (*combinations(boxes, 2), *combinations(frames, 2)):
        assert not _overlap(a, b), f"{a['title']} and {b['title']} overlap: {a} {b}"
    for box in boxes:
        assert sum(_inside(box, frame) for frame in frames) == 1, box


def _overlap(a: Box, b: Box) -> bool:
    apart = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
    return not apart and not (a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"])


def _inside(box: Box, frame: Box) -> bool:
    return (
        frame["x"] <= box["x"]
        and frame["y"] <= box["y"]
        and box["x"] + box["width"] <= frame["x"] + frame["width"]
        and box["y"] + box["height"] <= frame["y"] + frame["height"]
    )
