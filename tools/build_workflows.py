"""Write `workflows/*.json` and `subgraphs/*.json`, asking a running ComfyUI with ByG for its nodes.

And what `export` fills in: for a LoRA of Wan the workflows that edit a clip, and for all templates
the names of the widgets, of which the files themselves hold the values alone.

python -m tools.build_workflows [--server http://127.0.0.1:8188]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import byg_train

from . import clip_graphs, notes, picture_graphs
from .blueprints import BOXES
from .canvas import Canvas, Info, widgets_of
from .kits import (
    FEW_STEPS_KIT,
    FLUX_KIT,
    OWN_FEW_STEPS_5B_KIT,
    OWN_FEW_STEPS_KIT,
    TINY_CLIP_FEW_STEPS_KIT,
    TINY_CLIP_KIT,
    TINY_FEW_STEPS_KIT,
    TINY_KIT,
    WAN_5B_KIT,
    WAN_FEW_STEPS_KIT,
    WAN_KIT,
    WAN_LONG_KIT,
    Z_IMAGE_KIT,
    Z_TURBO_KIT,
    Kit,
)
from .parts import Note

ROOT = Path(__file__).parents[1]
# Template of `export` -> the workflow that it is.
TEMPLATES = {
    "byg_train/models/wan/workflow.json": "workflows/byg_wan22_video_edit.json",
    "byg_train/models/wan/workflow_5b.json": "workflows/byg_wan22_5b_video_edit.json",
}
# Templates of stock nodes alone are written by hand; the examples of the embedded bases.
STOCK = tuple(f"byg_train/models/{family}/workflow.json" for family in ("flux", "z_image"))
FILLED = (*STOCK, *TEMPLATES.values())
FILLED += ("workflows/byg_1_tiny_image_edit.json", "workflows/byg_2_tiny_video_edit.json")
FILLED += ("workflows/byg_4_tiny_few_steps.json", "workflows/byg_5_tiny_video_few_steps.json")
# What `export` calls their widgets.
WIDGETS = "byg_train/export/templates/widgets.json"
NOTE = "MarkdownNote"  # a node of the frontend alone


class Workflow(NamedTuple):
    """A graph, what it edits with, and what it says to the artist."""

    graph: Callable[[Canvas, Kit, Note], None]
    kit: Kit
    text: str
    height: int  # of the text


WORKFLOWS = {
    "byg_1_tiny_image_edit": Workflow(picture_graphs.image_edit, TINY_KIT, notes.TINY_IMAGE, 240),
    "byg_2_tiny_video_edit": Workflow(clip_graphs.video_edit, TINY_CLIP_KIT, notes.TINY_VIDEO, 230),
    "byg_3_tiny_debug": Workflow(picture_graphs.debug, TINY_KIT, notes.TINY_DEBUG, 220),
    "byg_4_tiny_few_steps": Workflow(
        picture_graphs.few_steps, TINY_FEW_STEPS_KIT, notes.TINY_FEW_STEPS, 240
    ),
    "byg_5_tiny_video_few_steps": Workflow(
        clip_graphs.few_steps, TINY_CLIP_FEW_STEPS_KIT, notes.TINY_VIDEO_FEW_STEPS, 240
    ),
    "byg_flux_image_edit": Workflow(picture_graphs.image_edit, FLUX_KIT, notes.IMAGE, 490),
    "byg_flux_few_steps": Workflow(picture_graphs.image_edit, FEW_STEPS_KIT, notes.FEW_STEPS, 570),
    "byg_flux_mask_edit": Workflow(picture_graphs.mask_edit, FLUX_KIT, notes.MASK, 480),
    "byg_flux_folder_style": Workflow(picture_graphs.folder_style, FLUX_KIT, notes.FOLDER, 440),
    "byg_flux_cycle_check": Workflow(picture_graphs.cycle_check, FLUX_KIT, notes.CYCLE, 490),
    "byg_flux_debug": Workflow(picture_graphs.debug, FLUX_KIT, notes.DEBUG, 480),
    "byg_z_image_edit": Workflow(picture_graphs.image_edit, Z_IMAGE_KIT, notes.Z_IMAGE, 490),
    "byg_z_image_mask_edit": Workflow(picture_graphs.mask_edit, Z_IMAGE_KIT, notes.Z_MASK, 450),
    "byg_z_image_folder_style": Workflow(
        picture_graphs.folder_style, Z_IMAGE_KIT, notes.Z_FOLDER, 440
    ),
    "byg_z_image_debug": Workflow(picture_graphs.debug, Z_IMAGE_KIT, notes.Z_DEBUG, 480),
    "byg_z_image_turbo_edit": Workflow(picture_graphs.image_edit, Z_TURBO_KIT, notes.Z_TURBO, 420),
    "byg_wan22_video_edit": Workflow(clip_graphs.video_edit, WAN_KIT, notes.VIDEO, 530),
    "byg_wan22_5b_video_edit": Workflow(clip_graphs.video_edit_5b, WAN_5B_KIT, notes.VIDEO_5B, 500),
    "byg_wan22_few_steps": Workflow(
        clip_graphs.video_edit, WAN_FEW_STEPS_KIT, notes.VIDEO_FEW_STEPS, 640
    ),
    "byg_wan22_long_video": Workflow(clip_graphs.video_edit, WAN_LONG_KIT, notes.LONG_VIDEO, 540),
    "byg_wan22_debug": Workflow(clip_graphs.video_debug, WAN_KIT, notes.VIDEO_DEBUG, 480),
}

# Templates of `export` alone; it writes its own note.
WAN = "byg_train/models/wan/workflow"
EXPORTED = {
    f"{WAN}_few_steps.json": Workflow(clip_graphs.few_steps, OWN_FEW_STEPS_KIT, "", 530),
    f"{WAN}_5b_few_steps.json": Workflow(clip_graphs.few_steps_5b, OWN_FEW_STEPS_5B_KIT, "", 500),
}


def build(infos: dict[str, Info]) -> dict[str, dict[str, Any]]:
    """Path in the repository -> content of every workflow and blueprint."""
    shipped = {f"workflows/{name}.json": workflow for name, workflow in WORKFLOWS.items()}
    files = {}
    for path, (graph, kit, words, height) in (shipped | EXPORTED).items():
        canvas = Canvas(infos, Path(path).stem, byg_train.__version__)
        loras = dict.fromkeys((kit.lora, kit.lora.replace("_high_noise", "_low_noise")))
        words = notes.with_files(words, kit.files, tuple(loras))
        graph(canvas, kit, Note(words, height))
        files[path] = canvas.file()
    for title, box in BOXES.items():
        canvas = Canvas(infos, title, byg_train.__version__)
        files[f"subgraphs/{title}.json"] = box(canvas, title)
    files |= {template: files[workflow] for template, workflow in TEMPLATES.items()}
    return files | {WIDGETS: _widgets(infos, files)}


def _widgets(infos: dict[str, Info], files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Kind of node -> the names of its widgets, of all that `export` fills in."""
    names = (*FILLED, *EXPORTED)
    graphs = [files.get(name) or json.loads((ROOT / name).read_text()) for name in names]
    kinds = {node["type"] for graph in graphs for node in graph["nodes"]} - {NOTE}
    found = {kind: widgets_of(infos[kind]) for kind in kinds} | {NOTE: ["text"]}
    return {kind: found[kind] for kind in sorted(found) if found[kind]}


def text(content: dict[str, Any]) -> str:
    """As the files are written."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="http://127.0.0.1:8188")
    with urlopen(f"{parser.parse_args().server}/object_info") as answer:
        infos = json.load(answer)
    for path, content in build(infos).items():
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text(text(content), encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
