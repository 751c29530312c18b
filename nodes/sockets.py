"""What travels between ByG's own nodes, and what their schemas have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from comfy_api.v0_0_2 import io
from torch import Tensor

from ..byg_train.media.fit import Fit, Frames

# A `byg_train.models.lora_file.LoraInfo`: what the LoRA's file says of its training.
INFO = io.Custom("BYG_INFO")
# A `Restore`: how ByG Finish undoes what ByG Image Edit or ByG Video Edit did.
FIT = io.Custom("BYG_FIT")


@dataclass(frozen=True)
class Clip:
    """The time of a video: how the model sees it and what it was."""

    frames: Frames
    fps: Fraction  # of the source
    model_fps: float
    audio: dict[str, Any] | None  # ComfyUI's AUDIO, cut to the frames


@dataclass(frozen=True)
class Restore:
    """What an edit's result is brought back to."""

    fit: Fit
    source: Tensor  # pictures or frames (N, H, W, 3) in [0, 1], as they came
    mask: Tensor | None  # (1 or N, H, W), 1 = may change
    variations: int = 1  # results per source picture
    clip: Clip | None = None  # None: pictures


def advanced(widget: io.WidgetInput) -> io.WidgetInput:
    """Fold a rare widget away, on hosts that can."""
    widget.extra_dict["advanced"] = True
    return widget


def found_by(schema: io.Schema, *words: str) -> io.Schema:
    """Words that find a node in the search, on hosts that know of them; others do not look."""
    schema.search_aliases = list(words)
    return schema


def to_text(lines: list[str]) -> str:
    """Lines that stay lines, also in Preview as Text, which shows Markdown."""
    return "  \n".join(lines)


@contextmanager
def named(node: str) -> Iterator[None]:
    """Every complaint says which node makes it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{node}: {error}") from error
