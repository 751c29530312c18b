"""The shipped workflows in ComfyUI's real frontend, in a headless Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import browsers
import fetch_host
import frontends
import pytest
from comfy_host import since
from comfy_server import PACK, Server

from tools import build_workflows, frontend
from tools.prompts import BLUEPRINTS, NOTES, ROOT, WORKFLOWS, prompt_of, read

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# Widgets of the frontend alone, in which nodes show text and clips.
PREVIEWS = ("preview", "video-preview")
browser = browsers.browser  # found, or the test fails or is skipped
page, page_2 = frontends.page, frontends.page_2


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_workflow_opens(path: Path, page: Page, host: Server) -> None:
    workflow = read(path)
    if any(node["type"] == "LoadImageDataSetFromFolder" for node in workflow["nodes"]):
        since("0.3.75", "Load Image Dataset from Folder")
    assert frontend.open_graph(page, workflow) == [], "nodes are missing"
    # What the frontend posts is what was meant, and what the server's tests run.
    wanted = prompt_of(workflow, host.get("/object_info"))
    found = frontend.prompt(page)
    assert found.keys() == wanted.keys()
    for name, node in wanted.items():
        inputs = {k: v for k, v in found[name]["inputs"].items() if k not in PREVIEWS}
        assert (found[name]["class_type"], inputs) == tuple(node.values())
    # Nothing lies on anything else, every node in one frame, and links lead to the right.
    boxes = {b["id"]: b for b in frontend.nodes(page)}
    frontends.assert_apart(list(boxes.values()), frontend.frames(page))
    for _, source, _, target, *_ in workflow["links"]:
        a, b = boxes[source], boxes[target]
        below = a["x"] == b["x"] and a["y"] < b["y"]
        assert below or a["x"] + a["width"] <= b["x"], f"{a['title']} to {b['title']}"
    _assert_notes_fit(page)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_nodes_2_keep_apart(path: Path, page_2: Page) -> None:
    """The other renderer, whose nodes are taller."""
    assert frontend.open_graph(page_2, read(path)) == []
    frontends.wait_until_drawn(page_2, len(read(path)["nodes"]))
    frontends.assert_apart(frontend.drawn(page_2), frontend.frames(page_2))


@pytest.mark.parametrize("name", build_workflows.EXPORTED)
def test_a_graph_of_export_alone_opens(name: str, page: Page) -> None:
    assert frontend.open_graph(page, read(ROOT / name)) == []
    frontends.assert_apart(frontend.nodes(page), frontend.frames(page))


def _assert_notes_fit(page: Page) -> None:
    """The words for the artist are seen whole, and without much empty paper."""
    note, *_ = page.evaluate(
        """() => [...document.querySelectorAll(".comfy-markdown")].map((paper) => {
            const lines = [...paper.querySelectorAll(".ProseMirror > *")];
            const last = lines[lines.length - 1];
            return [last.offsetTop + last.offsetHeight, paper.clientHeight];
        })"""
    )
    text, paper = note
    # Fonts differ: with Liberation Sans the same words need some 30 px less than with DejaVu Sans.
    assert paper - 120 < text <= paper, note


def test_a_workflow_opens_by_its_address(browser: Browser, host: Server) -> None:
    """As the template browser opens it."""
    since("0.3.75", "addresses of templates")
    path, page = WORKFLOWS[0], browser.new_page(viewport=frontend.VIEW)
    frontend.start(page, f"{host.address}/?template={path.stem}&source={PACK}")
    nodes = [node["type"] for node in read(path)["nodes"]]
    page.wait_for_function(f"() => {nodes}.every((n, i) => app.graph._nodes[i]?.type === n)")
    assert len(frontend.prompt(page)) == len([kind for kind in nodes if kind not in NOTES])
    page.close()


def test_workflows_and_boxes_are_listed(browser: Browser, host: Server) -> None:
    """The templates of the pack with their pictures, and the blueprints beside the nodes."""
    page = browser.new_page(viewport=frontend.VIEW)
    frontend.start(page, host.address)
    if fetch_host.version() >= (0, 3, 66):  # the first with blueprints of node packs
        page.click("[aria-label='Node Library (n)']")
        page.fill("input[placeholder*=earch]", "ByG")
        for path in BLUEPRINTS:
            page.wait_for_selector(f"text='{path.stem}'")
    frontend.open_templates(page, PACK)
    page.mouse.move(frontend.VIEW["width"] / 2, frontend.VIEW["height"] / 2)
    for path in WORKFLOWS:
        page.mouse.wheel(0, 2000)  # some frontends list the later ones as one scrolls
        page.wait_for_selector(f"text='{path.stem}'")
    # The first rows of pictures; the others are drawn as one scrolls.
    page.wait_for_function(
        """() => [...document.querySelectorAll("[role=dialog] img")].filter((i) =>
            i.complete && i.naturalWidth >= 256).length > 3"""
    )
    page.close()


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda p: p.stem)
def test_a_blueprint_is_one_node(path: Path, page: Page, host: Server) -> None:
    blueprint = read(path)
    assert frontend.open_graph(page, blueprint) == []
    (box,) = page.evaluate("() => app.graph._nodes.map((n) => n.widgets?.map((w) => w.name))")
    inputs = blueprint["nodes"][0]["inputs"]
    assert set(box) >= {entry["name"] for entry in inputs if "widget" in entry}
    found = frontend.prompt(page)
    wanted = prompt_of(blueprint, host.get("/object_info"))
    assert found.keys() == wanted.keys()
    for name, node in wanted.items():
        assert found[name]["inputs"] == node["inputs"], name


@pytest.mark.parametrize("node", sorted(p.stem for p in (ROOT / "web" / "docs").glob("*.md")))
def test_the_help_panel_shows_the_page_and_its_picture(node: str, page: Page, host: Server) -> None:
    def holds(workflow: Path) -> bool:
        return node in [n["type"] for n in read(workflow)["nodes"]]

    frontend.open_graph(page, read(next(filter(holds, WORKFLOWS))))
    page.evaluate(
        """(type) => {
            app.canvas.deselectAll();
            const node = app.graph._nodes.find((n) => n.type === type);
            app.canvas.ds.offset = [700 - node.pos[0], 300 - node.pos[1]];
            app.canvas.ds.scale = 1;
            app.canvas.selectNode(node);
            app.canvas.setDirty(true, true);
        }""",
        node,
    )
    page.click("[data-testid=info-button]")
    text = (ROOT / "web" / "docs" / f"{node}.md").read_text(encoding="utf-8")
    title = text.splitlines()[0].removeprefix("# ")
    page.wait_for_selector(f".node-help-content h1:has-text('{title}')")
    page.wait_for_function(
        """() => {
            const picture = document.querySelector(".node-help-content img");
            return picture?.complete && picture.naturalWidth > 100;
        }"""
    )
