"""The types that travel between ByG's nodes, and what their schemas share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from comfy_api.v0_0_2 import io
from torch import Tensor

from ..byg_train.media.fit import Fit, Frames
from .host.canvas import show_text
from .pixels import Box

# A `byg_train.models.lora_file.LoraInfo`: what the LoRA's file says of its training.
INFO = io.Custom("BYG_INFO")
# A `Restore`: how ByG Finish undoes what ByG Image Edit or ByG Video Edit did.
FIT = io.Custom("BYG_FIT")


@dataclass(frozen=True)
class ClipTiming:
    """The timing of a video: as the model sees it, and as it was."""

    frames: Frames
    fps: Fraction  # of the source
    model_fps: float
    audio: dict[str, Any] | None  # ComfyUI's AUDIO, cut to the frames


@dataclass(frozen=True)
class Restore:
    """What is needed to restore the source's form for a result."""

    fit: Fit  # of the source, or of the part in `box`
    source: Tensor  # pictures or frames (N, H, W, 3) in [0, 1], as they came
    mask: Tensor | None  # (1 or N, H, W), 1 = may change
    variations: int = 1  # results per source picture
    clip: ClipTiming | None = None  # None: pictures
    box: Box | None = None  # the part that was edited; None: all


def advanced(widget: io.WidgetInput) -> io.WidgetInput:
    """Hide a rare widget under "advanced", on hosts that support it."""
    widget.extra_dict["advanced"] = True
    return widget


def schema(
    node_id: str,
    category: str,
    inputs: list[io.Input],
    outputs: list[io.Output],
    found_by: list[str],
    is_output_node: bool = False,
) -> io.Schema:
    """Build a node's schema; its name, description and tooltips are those of `locales/en`.

    `found_by` are search aliases, on hosts that support them; an output node runs by itself.
    """
    texts = _texts()[node_id]
    for each in inputs:
        each.tooltip = texts["inputs"][each.id].get("tooltip")
    for i, each in enumerate(outputs):
        said = texts["outputs"][str(i)]
        each.display_name, each.tooltip = said["name"], said.get("tooltip")
    name, about = texts["display_name"], texts["description"]
    made = io.Schema(node_id, name, category, inputs, outputs, description=about)
    made.is_output_node = is_output_node
    made.search_aliases = found_by
    return made


@cache
def _texts() -> dict[str, Any]:
    file = Path(__file__).parents[1] / "locales" / "en" / "nodeDefs.json"
    return json.loads(file.read_text(encoding="utf-8"))


def to_text(lines: list[str]) -> str:
    """Join lines so that Preview as Text, which renders Markdown, keeps them apart."""
    return "  \n".join(lines)


@contextmanager
def named(node: str) -> Iterator[None]:
    """Prefix error messages with the name of the node."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{node}: {error}") from error


@contextmanager
def reporting(node: str) -> Iterator[None]:
    """Wrap a node that shows what it says: an error replaces what it said before."""
    try:
        with named(node):
            yield
    except Exception as error:
        show_text(str(error) or "stopped")
        raise
