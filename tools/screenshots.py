"""Take the pictures of `docs/images` and of the help pages, in ComfyUI's own frontend.

python -m tools.screenshots [--server http://127.0.0.1:8188] [--chromium FILE] [NAME ...]

The server is a ComfyUI with ByG. Workflows of the tiny world are run first, so that pictures show
results; the models of the others are too large for that.
"""

from __future__ import annotations

import argparse
import re
import shutil
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

from . import frontend
from .prompts import BLUEPRINTS, ROOT, WORKFLOWS, read

if TYPE_CHECKING:
    from playwright.sync_api import Page

IMAGES = ROOT / "docs" / "images"
HELP = ROOT / "web" / "docs" / "images"
SHARP = 1.2  # pixels of a help page's picture for each of the canvas
# Node -> workflow, and the nodes around it that its help page shows.
PARTS = {
    "ByG_Loader": ("byg_1_tiny_image_edit", ("ByG Tiny World", "ByG Loader")),
    "ByG_Instruction": (
        "byg_2_tiny_video_edit",
        ("ByG Loader", "ByG Instruction", "Instruction"),
    ),
    "ByG_ImageEdit": ("byg_1_tiny_image_edit", ("Instruction", "ByG Image Edit", "KSampler")),
    "ByG_Finish": ("byg_1_tiny_image_edit", ("ByG Image Edit", "VAE Decode", "ByG Finish")),
    "ByG_Compare": ("byg_1_tiny_image_edit", ("ByG Compare",)),
    "ByG_TinyWorld": ("byg_1_tiny_image_edit", ("ByG Tiny World",)),
    "ByG_Debug": ("byg_3_tiny_debug", ("ByG Debug", "Preview Image", "Report")),
    "ByG_FewSteps": (
        "byg_4_tiny_few_steps",
        ("ByG Image Edit", "ByG Few Steps", "SamplerCustomAdvanced"),
    ),
    "ByG_VideoEdit": ("byg_wan22_video_edit", ("Instruction", "ByG Video Edit", "High noise")),
    "ByG_ExpertSplit": (
        "byg_wan22_video_edit",
        ("Steps of both together", "ByG Expert Split", "High noise", "Low noise"),
    ),
}


def _take(page: Page, name: str) -> None:
    """The pictures in which a workflow or blueprint appears."""
    (path,) = (path for path in (*WORKFLOWS, *BLUEPRINTS) if path.stem == name)
    missing = frontend.open_graph(page, read(path))
    if missing:
        raise RuntimeError(f"{name}: no {missing}; is ByG loaded?")
    if "_tiny_" in name:
        # Nodes say something when they run, not when their result is known from before.
        page.evaluate("() => app.api.freeMemory({freeExecutionCache: true})")
        page.wait_for_timeout(2000)
        frontend.run(page)
        page.wait_for_timeout(2000)
    boxes = frontend.nodes(page)
    whole = frontend.picture(page, frontend.frames(page) or boxes)
    frontend.save(whole, IMAGES / f"{re.sub(r'[^a-zA-Z0-9]+', '_', name).strip('_')}.png")
    for node, (workflow, titles) in PARTS.items():
        if workflow == name:
            part = [box for box in boxes if box["title"] in titles]
            frontend.save(frontend.picture(page, part, SHARP), HELP / f"{node}.png")


def _take_templates(page: Page, pack: str) -> None:
    """The template browser."""
    frontend.open_templates(page, pack)
    page.wait_for_timeout(5000)
    dialog = page.locator("[role=dialog]").bounding_box()
    frontend.save(frontend.screen(page, dialog), IMAGES / "templates.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="workflows and blueprints; all without")
    parser.add_argument("--server", default="http://127.0.0.1:8188")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="or playwright's own")
    parser.add_argument("--pack", default=ROOT.name, help="its folder in custom_nodes")
    options = parser.parse_args()
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=options.chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=frontend.VIEW)
        frontend.start(page, options.server)
        settings = list({**frontend.SETTINGS, frontend.NODES_2: False}.items())
        page.evaluate(
            "(all) => all.forEach(([k, v]) => app.ui.settings.setSettingValue(k, v))", settings
        )
        for name in options.names or [path.stem for path in (*WORKFLOWS, *BLUEPRINTS)]:
            _take(page, name)
            print(name)
        if not options.names:
            page = browser.new_page(viewport=frontend.VIEW)  # with its bars
            frontend.start(page, options.server)
            _take_templates(page, options.pack)
        browser.close()


if __name__ == "__main__":
    main()
