"""What is edited, a picture or a clip: what the model sees of it, and what becomes of its edit."""

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
from ..media.formats import open_picture
from ..media.grid import labelled_grid
from ..media.pixels import to_frames, to_picture, to_pixels
from ..media.profiles import with_profile
from ..media.rgb import to_rgb, upright
from ..media.source_clip import SourceClip
from ..media.writer import write_clip, write_frames, write_picture
from ..models.lora_file import LoraInfo

# Sides of a picture or clip among others that it is compared with, in pixels.
SMALLEST_CELL, LARGEST_CELL = 192, 512


class PictureToEdit:
    """A picture of any mode and size; its edits have exactly the upright picture's size."""

    def __init__(self, image: Image.Image, info: LoraInfo) -> None:
        """`info` says at what size it goes through the model; of several frames the first does."""
        self.image = upright(image)
        self.fit = fitted(info, *self.image.size)
        self.pixels = self.fit.apply(to_pixels(np.asarray(to_rgb(self.image))[None])[None])

    def result(self, pixels: Tensor) -> Image.Image:
        """The edit, with the picture's transparency and colour profile."""
        return finished(to_picture(self.fit.undo(pixels)[0]), self.image)

    def save(self, path: Path, result: Image.Image) -> None:
        """Write a result, in the format that the name's ending says."""
        # A BMP holds no profile, without which these would be other colours.
        write_picture(path, to_rgb(result) if path.suffix.lower() == ".bmp" else result)

    def save_comparison(
        self, path: Path, results: Sequence[Image.Image], names: Sequence[str]
    ) -> None:
        """Write the source and its results, under their names, beside each other."""
        rows = [[to_rgb(picture) for picture in (self.image, *results)]]
        write_picture(path, labelled_grid(rows, ["source", *names], None, cell(*self.image.size)))


def fitted(info: LoraInfo, width: int, height: int) -> Fit:
    """How pictures of a size go through the model and come back."""
    return Fit.of(width, height, info.resolution, info.multiple)


def cell(width: int, height: int) -> int:
    """The side of a comparison's cells, in pixels, for pictures of a size."""
    return min(LARGEST_CELL, max(SMALLEST_CELL, width, height))


def finished(result: Image.Image, source: Image.Image) -> Image.Image:
    """Give a result the source's transparency, and its colour profile if that is one of RGB."""
    result = with_profile(result, source)
    if source.has_transparency_data:
        result.putalpha(source.convert("RGBA").getchannel("A"))
    return result


# ---------------------------------------------------------------- clips


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
        write_frames(path, self._like_sources(result), self.clip.names)

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

    def _like_sources(self, result: EditedClip) -> Iterator[Image.Image]:
        for frame, source in zip(result.frames(), self.clip.pictures, strict=True):
            with open_picture(source) as picture:
                yield finished(Image.fromarray(frame), upright(picture))

    def _write(self, path: Path, frames: Iterator[np.ndarray]) -> None:
        if path.suffix:
            write_clip(path, frames, self.clip.fps, self.clip.sound)
        else:
            write_frames(path, map(Image.fromarray, frames), self.clip.names)


def seen_by_model(clip: SourceClip, info: LoraInfo) -> Frames:
    """Which frames the model sees; ClipTooLongError where they are more than it was made for."""
    fps = model_fps(info)
    group = family_of(info.family).frame_group
    plan = Frames.of(clip.count, float(clip.fps), fps, group=group)
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
