"""What the pack adds to ComfyUI's pages: a slider, greyed sizes, the order of templates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import browsers
import frontends
import numpy as np
import pytest
from comfy_server import PACK, Server, server

from byg_train.world import scenes
from byg_train.world.scenes import Scene
from tools import frontend
from tools.prompts import WORKFLOWS, read

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.host, pytest.mark.browser]
browser = browsers.browser
page, page_2 = frontends.page, frontends.page_2
TINY = [path for path in WORKFLOWS if "_tiny_" in path.stem]
RENDERERS = ["page", "page_2"]
TRIES = 10  # until a busy server has forgotten its results
SLIDER = ".byg-slider"
INK = Scene("fox", "ink", "blue", "plain", canvas=(48, 48))
_CANVAS = """() => {
    const canvas = document.querySelector(".byg-slider canvas");
    const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return [canvas.height, canvas.width, Array.from(data)];
}"""
_SIZES = """() => app.graph._nodes.find((n) => n.type === "ByG_ImageEdit").widgets
    .filter((w) => ["megapixels", "width", "height"].includes(w.name))
    .map((w) => [w.label, !!w.disabled])"""
_CHOOSE = """(mode) => {
    const node = app.graph._nodes.find((n) => n.type === "ByG_ImageEdit");
    const widget = node.widgets.find((w) => w.name === "size_mode");
    widget.value = mode;
    widget.callback(mode);
}"""


@pytest.fixture(scope="session")
def host() -> Server:
    """The server."""
    return server()


@pytest.fixture(params=RENDERERS)
def ran(request: pytest.FixtureRequest) -> Page:
    """The tiny image edit in either renderer, after a run."""
    found = request.getfixturevalue(request.param)
    _open_and_run(found, "byg_1_tiny_image_edit")
    return found


def _open_and_run(page: Page, name: str) -> None:
    (path,) = (path for path in TINY if path.stem == name)
    assert frontend.open_graph(page, read(path)) == []
    # Nodes say something when they run, not when their result is known from before.
    for _ in range(TRIES):
        page.evaluate("() => app.api.freeMemory({freeExecutionCache: true})")
        page.wait_for_timeout(1000)
        if not frontend.run(page):
            break
    page.wait_for_selector(SLIDER) if "edit" in name else page.wait_for_timeout(1000)


def _seen(page: Page, at: float) -> np.ndarray:
    """What the slider shows with its edge there."""
    box = page.locator(SLIDER).bounding_box()
    page.mouse.move(box["x"] + at * box["width"], box["y"] + box["height"] / 2)
    page.wait_for_timeout(300)
    height, width, values = page.evaluate(_CANVAS)
    return np.array(values).reshape(height, width, 4)[..., :3] / 255


def test_the_slider_moves_between_source_and_edit(ran: Page) -> None:
    source = scenes.draw(INK) / 255
    left, middle, right = (_seen(ran, at) for at in (0.01, 0.5, 0.99))
    assert np.allclose(right[:, :46], source[:, :46], atol=0.01)
    assert np.abs(left - source).mean() > 0.1
    assert np.allclose(middle[:, :22], source[:, :22], atol=0.01)
    assert np.array_equal(middle[:, 26:], left[:, 26:])
    assert ran.locator(SLIDER).inner_text().split() == ["source", "edit"]


def test_the_sliders_edge_follows_the_arrow_keys(ran: Page) -> None:
    _seen(ran, 0.5)
    ran.mouse.move(0, 0)
    ran.focus(SLIDER)
    for _ in range(5):
        ran.keyboard.press("ArrowLeft")
    assert int(ran.get_attribute(SLIDER, "aria-valuenow")) == pytest.approx(40, abs=1)


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_clip_plays_under_the_slider(renderer: str, request: pytest.FixtureRequest) -> None:
    page = request.getfixturevalue(renderer)
    _open_and_run(page, "byg_2_tiny_video_edit")
    first = _seen(page, 0.5)
    assert first.shape == (48, 48, 3)
    moved = False
    for _ in range(20):
        page.wait_for_timeout(100)
        moved |= not np.array_equal(_seen(page, 0.5), first)
    assert moved
    page.click(SLIDER)  # stops it
    page.wait_for_timeout(300)
    assert np.array_equal(_seen(page, 0.5), _seen(page, 0.5))
    # Both halves of one file: the source in front, the edit behind.
    assert np.abs(_seen(page, 0.99) - _seen(page, 0.01)).mean() > 0.03


def test_size_widgets_say_what_is_used(ran: Page) -> None:
    after = ran.evaluate(_SIZES)
    assert after == [
        ["megapixels: 0.0022, as trained", True],
        ["width: 48, as trained", True],
        ["height: 48, as trained", True],
    ]
    for mode, live in (("megapixels", [0]), ("exact size", [1, 2]), ("around the mask", [])):
        ran.evaluate(_CHOOSE, mode)
        found = ran.evaluate(_SIZES)
        assert [not disabled for _, disabled in found] == [i in live for i in range(3)], mode
        assert found[0][0] == ("megapixels" if mode == "megapixels" else f"megapixels: {mode}")
    # What is posted is what the artist typed.
    (edit,) = (n for n in frontend.prompt(ran).values() if n["class_type"] == "ByG_ImageEdit")
    assert (edit["inputs"]["width"], edit["inputs"]["megapixels"]) == (1024, 1.0)


@pytest.mark.parametrize("path", TINY, ids=lambda p: p.stem)
@pytest.mark.parametrize("renderer", RENDERERS)
def test_nodes_keep_apart_after_a_run(
    path: object, renderer: str, request: pytest.FixtureRequest
) -> None:
    """With results and reports in them."""
    page = request.getfixturevalue(renderer)
    _open_and_run(page, path.stem)
    page.wait_for_timeout(1500)
    boxes = frontend.drawn(page) if renderer == "page_2" else frontend.nodes(page)
    assert len(boxes) == len(json.loads(path.read_text())["nodes"])
    frontends.assert_apart(boxes, frontend.frames(page))


def test_tiny_templates_come_first(page: Page) -> None:
    names = page.evaluate("async () => await app.api.getWorkflowTemplates()")[PACK]
    assert names == sorted(path.stem for path in WORKFLOWS)
    first = [path.stem for path in TINY]
    assert names[: len(first)] == first and len(first) == 5
    frontend.open_templates(page, PACK)
    page.wait_for_selector(f"[role=dialog] >> text='{names[0]}'")
    shown = page.locator("[role=dialog]").inner_text()
    found = sorted(shown.find(name) for name in names if name in shown)
    assert [shown.find(name) for name in first] == found[: len(first)]
