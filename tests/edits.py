"""Edits by the library's calls, as `byg_train edit` makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from byg_train.editing.clip import ClipToEdit, EditedClip, open_clip
from byg_train.editing.opening import EditModel, open_lora
from byg_train.editing.overrides import SamplingOverrides
from byg_train.editing.picture import PictureToEdit

AS_TRAINED = SamplingOverrides()
Each = Callable[[int, int], None]


def in_float32(model: EditModel) -> EditModel:
    """The same on a base in float32, as ComfyUI computes with the tiny world."""
    return model._replace(base=model.base.model_copy(update={"dtype": "float32"}))


def edit_picture(
    model: Path | EditModel,
    image: Image.Image,
    instruction: str,
    *,
    overrides: SamplingOverrides = AS_TRAINED,
    strength: float = 1.0,
    seeds: Sequence[int] = (0,),
    on_progress: Each = lambda done, of: None,
    on_result: Callable[[Image.Image], None] = lambda result: None,
) -> list[Image.Image]:
    """A picture once per seed."""
    found = (open_lora(model, None) if isinstance(model, Path) else model).overridden(overrides)
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
    overrides: SamplingOverrides = AS_TRAINED,
    strength: float = 1.0,
    seeds: Sequence[int] = (0,),
    fps: float | Fraction | None = None,
    on_progress: Each = lambda done, of: None,
    on_result: Callable[[EditedClip], None] = lambda result: None,
) -> list[np.ndarray]:
    """A clip, or a folder of frames, once per seed: results (F, H, W, 3), uint8."""
    found, results = model.overridden(overrides), []
    source = ClipToEdit(open_clip(clip, found.info, fps), found.info)
    for result in found.load("cpu", strength).edit(source, instruction, seeds, on_progress):
        results.append(np.stack(list(result.frames())))
        on_result(result)
    return results
