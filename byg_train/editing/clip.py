"""Editing a clip: which of its frames the model sees, and what becomes of their edit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..family import family_of
from ..media import SourceError
from ..media.clip_grid import side_by_side
from ..media.fit import Fit, Frames
from ..media.opener import open_picture
from ..media.pixels import to_frames, to_pixels
from ..media.rgb import upright
from ..media.source_clip import SourceClip, open_source_clip
from ..media.writer import write_clip, write_frames
from ..models.lora_file import LoraInfo
from .picture import cell, finished, fitted


class ClipTooLongError(SourceError):
    """A clip has more frames than a base was made for; whole `seconds` of one are not too many."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True)
class EditedClip:
    """An edit as the model made it, which gives back the source's size and frames."""

    pixels: Tensor  # (1, 3, 4k + 1, H, W) in [-1, 1], of the model's size and rate, half precision
    fit: Fit
    plan: Frames

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the frames, as many as the source has and of its size: (H, W, 3), uint8."""
        shown, array = None, None
        for i in self.plan.back:
            if i != shown:
                frame = self.fit.undo(self.pixels[:, :, i : i + 1].float())
                shown, array = i, to_frames(frame[0])[0]
            yield array


class ClipToEdit:
    """A clip, or a folder of frames; its edits have the same size and number of frames.

    The model sees the clip at its own rate, padded to 4k + 1 frames; nothing is cut off.
    """

    def __init__(self, clip: SourceClip, info: LoraInfo) -> None:
        """Decode all of the clip; SourceError for a broken frame, or where it is too long.

        `info` says at what size and rate a clip goes through the model.
        """
        self.clip, self.plan = clip, seen_by_model(clip, info)
        self.fit = fitted(info, *clip.size)
        self.pixels = _seen_pixels(clip, self.fit, self.plan)

    def result(self, pixels: Tensor) -> EditedClip:
        """The edit, in half precision: several are kept at once."""
        return EditedClip(pixels.half(), self.fit, self.plan)

    def save(self, path: Path, result: EditedClip) -> None:
        """Write a result as a video with the source's sound, or as a new folder of frames.

        Frames also get back the transparency of the pictures that they were.
        """
        if path.suffix or not self.clip.pictures:
            self._write(path, result.frames())
            return
        frames = map(_like, map(Image.fromarray, result.frames()), self.clip.pictures)
        write_frames(path, frames, self.clip.names)

    def save_comparison(
        self, path: Path, results: Sequence[EditedClip], names: Sequence[str]
    ) -> None:
        """Write the source and its results, under their names, beside each other, in motion."""
        clips = (self.clip.frames(), *(result.frames() for result in results))
        moments = (
            [[Image.fromarray(array) for array in arrays]] for arrays in zip(*clips, strict=True)
        )
        columns, side = ["source", *names], cell(*self.clip.size)
        self._write(path, side_by_side(moments, columns, None, side))

    def _write(self, path: Path, frames: Iterator[np.ndarray]) -> None:
        if path.suffix:
            write_clip(path, frames, self.clip.fps, self.clip.sound)
        else:
            write_frames(path, map(Image.fromarray, frames), self.clip.names)


def _like(frame: Image.Image, source: Path) -> Image.Image:
    with open_picture(source) as picture:
        return finished(frame, upright(picture))


def open_clip(path: Path, info: LoraInfo, fps: float | None = None) -> SourceClip:
    """Look at a clip's file, or at a folder of frames; SourceError says why it cannot be used.

    Args:
        path: a file of any container and codec, or a folder of pictures.
        info: whose frame rate a folder has without `fps`.
        fps: frames a second of a folder.
    """
    return open_source_clip(path, fps, model_fps(info))


def seen_by_model(clip: SourceClip, info: LoraInfo) -> Frames:
    """Which frames the model sees; ClipTooLongError where they are more than it was made for."""
    fps = model_fps(info)
    plan = Frames.of(clip.count, float(clip.fps), fps, family_of(info.family).frame_group)
    limit = longest(info)
    if plan.count > limit:
        raise ClipTooLongError(
            f"{clip.path} is {clip.seconds:.2f} s long, and the base edits up to {limit} frames at "
            f"{fps:g} a second, {limit / fps:.2f} s; choose a part of it",
            floor(limit / fps),
        )
    return plan


def model_fps(info: LoraInfo) -> float:
    """Frames a second at which the base sees a clip."""
    return info.fps or family_of(info.family).usual.fps


def longest(info: LoraInfo) -> int:
    """Frames that the base can edit at once: as many as it was made for; more if trained so."""
    family = family_of(info.family)
    group = family.frame_group
    frames = floor(family.usual.seconds * model_fps(info)) // group * group + 1
    return max(frames, info.frames or 0)


def _seen_pixels(clip: SourceClip, fit: Fit, plan: Frames) -> Tensor:
    """What the model sees, (1, 3, 4k + 1, H, W) in [-1, 1]; all of the clip is decoded."""
    pixels = torch.empty(1, 3, len(plan.seen), fit.outer.height, fit.outer.width)
    shown = 0
    for i, array in enumerate(clip.frames()):
        while shown < len(plan.seen) and plan.seen[shown] == i:
            pixels[:, :, shown : shown + 1] = fit.apply(to_pixels(array[None])[None])
            shown += 1
    return pixels
