"""ComfyUI's frontend in a headless Chromium: what its pages are asked."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from playwright.sync_api import Page

VIEW = {"width": 1920, "height": 1000}
# The setting of the second renderer.
NODES_2 = "Comfy.VueNodes.Enabled"
# No dialogs over the graph (the official models are not here), no counters in its corner, and text
# that stays where one zooms out.
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
    "Comfy.Graph.CanvasInfo": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}
TITLE = 30  # height of a node's title bar, above its position
MARGIN = 20
PATIENCE = 240_000  # milliseconds, for a machine that does much else

# It opens a graph by itself, the last thing when it starts: ours would be replaced.
_READY = """() => window.app?.graph?._nodes.length && window.LiteGraph
    && Object.keys(LiteGraph.registered_node_types).length > 50"""
_OPEN = """async (workflow) => {
    await app.loadGraphData(workflow);
    const unknown = app.graph._nodes.filter((n) => !LiteGraph.registered_node_types[n.type]);
    return unknown.map((n) => n.type);
}"""
_PROMPT = "async () => (await app.graphToPrompt()).output"
_NODES = """() => app.graph._nodes.map(({id, type, title, pos: [x, y], size: [w, h]}) =>
    ({id: Number(id), type, title, x, y, width: w, height: h}))"""
_GROUPS = """() => app.graph._groups.map(({title, pos: [x, y], size: [w, h]}) =>
    ({title, x, y, width: w, height: h}))"""
# Nodes 2.0 are elements of the page, as large as what is in them needs.
_DRAWN = """() => [...document.querySelectorAll("[data-node-id]")].map((element) => {
    const {id, type, title, pos: [x, y]} =
        app.graph._nodes.find((n) => String(n.id) === element.dataset.nodeId);
    return {id, type, title, x, y, width: element.offsetWidth, height: element.offsetHeight};
})"""
_RUN = """async () => {
    let known = [];
    app.api.addEventListener("execution_cached", ({detail}) => known = detail.nodes, {once: true});
    const ends = ["execution_success", "execution_error", "execution_interrupted"];
    const end = new Promise((found) => ends.forEach((name) =>
        app.api.addEventListener(name, ({detail}) => found([name, detail]), {once: true})));
    await app.queuePrompt(0, 1);
    return [...await end, known];
}"""
_LOOK_AT = """([x, y, scale]) => {
    app.canvas.ds.scale = scale;
    app.canvas.ds.offset[0] = -x;
    app.canvas.ds.offset[1] = -y;
    app.canvas.setDirty(true, true);
}"""
# The tool bars lie over the canvas.
_BARE = ".splitter-overlay-root, .selection-toolbox {display: none !important}"

Box = dict[str, Any]


def start(page: Page, address: str) -> None:
    """Open the frontend and wait for it."""
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_function(_READY)


def open_graph(page: Page, workflow: dict[str, Any]) -> list[str]:
    """Load a workflow; the types of nodes that are missing."""
    return page.evaluate(_OPEN, workflow)


def prompt(page: Page) -> dict[str, Any]:
    """What it would post for the graph that is open."""
    return page.evaluate(_PROMPT)


def run(page: Page) -> list[str]:
    """Press Run and wait; the nodes whose result was known. RuntimeError if the graph fails."""
    end, detail, known = page.evaluate(_RUN)
    if end != "execution_success":
        raise RuntimeError(f"{end}: {json.dumps(detail)[:500]}")
    return known


def open_templates(page: Page, pack: str) -> None:
    """The template browser, at the workflows of a pack."""
    page.click("[aria-label=Templates]")
    page.click(f"[role=dialog] >> text='{pack}'")


def nodes(page: Page) -> list[Box]:
    """Nodes with their title bars."""
    found = page.evaluate(_NODES)
    return [{**b, "y": b["y"] - TITLE, "height": b["height"] + TITLE} for b in found]


def drawn(page: Page) -> list[Box]:
    """Nodes as Nodes 2.0 draws them, with their title bars."""
    return [{**box, "y": box["y"] - TITLE} for box in page.evaluate(_DRAWN)]


def frames(page: Page) -> list[Box]:
    """Groups."""
    return page.evaluate(_GROUPS)


# ---------------------------------------------------------------- pictures


def picture(page: Page, boxes: list[Box], most: float = 1.0) -> Image.Image:
    """What the canvas shows around some boxes, enlarged at most so much."""
    left, top = (min(b[side] for b in boxes) - MARGIN for side in ("x", "y"))
    right = max(b["x"] + b["width"] for b in boxes) + MARGIN
    bottom = max(b["y"] + b["height"] for b in boxes) + MARGIN
    scale = min(most, VIEW["width"] / (right - left), VIEW["height"] / (bottom - top))
    page.add_style_tag(content=_BARE)
    page.evaluate("() => app.canvas.deselectAll()")
    page.evaluate(_LOOK_AT, [left, top, scale])
    page.wait_for_timeout(1500)  # pictures in nodes fade in
    size = {"width": (right - left) * scale, "height": (bottom - top) * scale}
    return screen(page, {"x": 0, "y": 0, **size})


def screen(page: Page, box: Box) -> Image.Image:
    """A part of the screen."""
    return Image.open(BytesIO(page.screenshot(clip=box))).convert("RGB")


def save(image: Image.Image, path: Path) -> None:
    """As a PNG of 128 colours: sharp text in few bytes, which the pack's archive counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
