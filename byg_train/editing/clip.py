"""Editing a clip with a trained LoRA, outside of ComfyUI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import floor

import numpy as np
import torch
from torch import Tensor

from ..config import ConfigError
from ..family import family_of
from ..media.fit import FRAME_GROUP, Fit, Frames
from ..media.pixels import to_frames, to_pixels
from ..media.source_clip import SourceClip
from ..models.backbone import load_backbone
from ..models.lora_file import LoraInfo
from .editor import AS_TRAINED, Editor, Wishes, attach, edited, fitted


@dataclass(frozen=True)
class EditedClip:
    """An edit as the model made it, which gives back the source's size and frames."""

    pixels: Tensor  # (1, 3, 4k + 1, H, W) in [-1, 1], of the model's size and rate, half precision
    fit: Fit
    plan: Frames

    def frames(self) -> Iterator[np.ndarray]:
        """As many as the source has, of its size: (H, W, 3), uint8."""
        shown, array = None, None
        for i in self.plan.back:
            if i != shown:
                frame = self.fit.undo(self.pixels[:, :, i : i + 1].float())
                shown, array = i, to_frames(frame[0])[0]
            yield array


def edit_clip(
    editor: Editor,
    footage: SourceClip,
    instruction: str,
    *,
    strength: float,
    seeds: list[int],
    device: str,
    wishes: Wishes = AS_TRAINED,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
    on_result: Callable[[EditedClip], None] = lambda result: None,
) -> list[EditedClip]:
    """Edit a clip once per seed; every result has the source's size and number of frames.

    The model sees the clip at its own rate, padded to 4k + 1 frames; nothing is cut off.

    Args:
        editor: an opened LoRA; its metadata says how it is to be sampled.
        footage: at most as long as `longest`; broken frames show before the base is loaded.
        instruction: what to change.
        strength: of the LoRA in both experts; 1 as trained, 0 the bare base.
        seeds: of the noise, which is drawn on the CPU and so the same on every device.
        device: cpu or cuda.
        wishes: what is to be otherwise than in the metadata.
        on_progress: called with (done, of) after every sampling step.
        on_result: called with every result as soon as it is finished.
    """
    plan = seen_by_model(footage, editor.info)
    fit = fitted(editor.info, *footage.size, wishes)
    pixels = seen_pixels(footage, fit, plan)
    backbone = load_backbone(editor.model, device)
    attach(editor, backbone, strength)
    results = []
    for y_0 in edited(editor, backbone, pixels, instruction, seeds, wishes, on_progress):
        results.append(EditedClip(y_0.half(), fit, plan))
        on_result(results[-1])
    return results


def seen_by_model(footage: SourceClip, info: LoraInfo) -> Frames:
    """Which frames the model sees; ConfigError where they are more than it was made for."""
    fps = model_fps(info)
    plan = Frames.of(footage.count, float(footage.fps), fps)
    limit = longest(info)
    if plan.count > limit:
        raise ConfigError(
            f"--input {footage.path} is {footage.seconds:.2f} s long, and the base edits up to "
            f"{limit} frames at {fps:g} a second, {limit / fps:.2f} s; choose a part, such as "
            f"--start 0 --seconds {floor(limit / fps)}"
        )
    return plan


def model_fps(info: LoraInfo) -> float:
    """Frames a second at which the base sees a clip."""
    return info.fps or family_of(info.family).usual.fps


def longest(info: LoraInfo) -> int:
    """Frames that the base can edit at once: as many as it was made for; more if trained so."""
    seconds = family_of(info.family).usual.seconds
    frames = floor(seconds * model_fps(info)) // FRAME_GROUP * FRAME_GROUP + 1
    return max(frames, info.frames or 0)


def seen_pixels(footage: SourceClip, fit: Fit, plan: Frames) -> Tensor:
    """What the model sees, (1, 3, 4k + 1, H, W) in [-1, 1]; all of the clip is decoded."""
    pixels = torch.empty(1, 3, len(plan.seen), fit.outer.height, fit.outer.width)
    shown = 0
    for i, array in enumerate(footage.frames()):
        while shown < len(plan.seen) and plan.seen[shown] == i:
            pixels[:, :, shown : shown + 1] = fit.apply(to_pixels(array[None])[None])
            shown += 1
    return pixels
