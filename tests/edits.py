"""Edits by the library's calls, as `byg_train edit` makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from byg_train.editing.opening import EditModel, open_lora
from byg_train.editing.sources import ClipToEdit, EditedClip, PictureToEdit, model_fps
from byg_train.media.source_clip import open_source_clip

AS_TRAINED: dict[str, object] = {}
Each = Callable[[int, int], None]


def in_float32(model: EditModel) -> EditModel:
    """The same on a base in float32, as ComfyUI computes with the tiny world."""
    return model._replace(base=model.base.model_copy(update={"dtype": "float32"}))


def edit_picture(
    model: Path | EditModel,
    image: Image.Image,
    instruction: str,
    *,
    overrides: dict[str, object] = AS_TRAINED,
    strength: float = 1.0,
    seeds: Sequence[int] = (0,),
    on_progress: Each = lambda done, of: None,
    on_result: Callable[[Image.Image], None] = lambda result: None,
) -> list[Image.Image]:
    """A picture once per seed."""
    found = (open_lora(model, None) if isinstance(model, Path) else model).sampled(overrides)
    source, editor, results = PictureToEdit(image, found.info), found.load("cpu", strength), []
    for result in editor.edit(source, instruction, seeds, on_progress):
        results.append(result)
        on_result(result)
    return results


def edit_clip(
    model: EditModel,
    clip: Path,
    instruction: str,
    *,
    overrides: dict[str, object] = AS_TRAINED,
    strength: float = 1.0,
    seeds: Sequence[int] = (0,),
    fps: float | Fraction | None = None,
    on_progress: Each = lambda done, of: None,
    on_result: Callable[[EditedClip], None] = lambda result: None,
) -> list[np.ndarray]:
    """A clip, or a folder of frames, once per seed: results (F, H, W, 3), uint8."""
    found, results = model.sampled(overrides), []
    opened = open_source_clip(clip, fps, model_fps(found.info))
    source = ClipToEdit(opened, found.info)
    for result in found.load("cpu", strength).edit(source, instruction, seeds, on_progress):
        results.append(np.stack(list(result.frames())))
        on_result(result)
    return results
