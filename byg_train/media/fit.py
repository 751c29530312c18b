"""Bringing pictures and clips to sizes a model takes, and back. Torch only.

Sizes are (width, height) in pixels; pixels are (B, 3, F, H, W) of any range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

# A bucket's area may differ from resolution squared by this share (the square one by any).
AREA_TOLERANCE = 0.2
# It is said that a picture is enlarged from this factor on, and cropped below this share.
ENLARGED, WHOLE = 1.05, 0.9


class Size(NamedTuple):
    """Pixels."""

    width: int
    height: int


# ---------------------------------------------------------------- training: crop


def buckets(resolution: int, multiple: int, max_aspect: float) -> list[Size]:
    """The sizes of about resolution x resolution pixels, from tallest to widest.

    Both sides are multiples of `multiple`; the longer is at most `max_aspect` times the shorter.
    The square is always among them, and with max_aspect = 1 alone.
    """
    units = resolution / multiple
    side = max(1, round(units))
    wide = []
    for short in range(math.ceil(units / math.sqrt(max_aspect)), side):
        long = round(units * units / short)
        fits = abs(long * short / units**2 - 1) <= AREA_TOLERANCE
        if fits and short < long <= short * max_aspect:
            wide.append(Size(long * multiple, short * multiple))
    tall = [Size(height, width) for width, height in wide]
    return sorted([*tall, Size(side * multiple, side * multiple), *wide])


def nearest_bucket(width: int, height: int, buckets: list[Size]) -> Size:
    """The bucket with the nearest aspect ratio, so that cropping to it loses the least."""
    aspect = math.log(width / height)
    return min(buckets, key=lambda b: abs(math.log(b[0] / b[1]) - aspect))


class Coverage(NamedTuple):
    """What becomes of a picture that is scaled to cover a bucket and cropped to it."""

    scale: float  # above 1: enlarged
    seen: float  # the share of its area that is left

    @classmethod
    def of(cls, width: int, height: int, bucket: Size) -> Coverage:
        """The coverage of a bucket by a width x height picture."""
        scales = bucket.width / width, bucket.height / height
        return cls(max(scales), min(scales) / max(scales))

    @property
    def enlarged(self) -> bool:
        """Whether it is worth a word that it is enlarged."""
        return self.scale >= ENLARGED

    @property
    def cropped(self) -> bool:
        """Whether it is worth a word what the crop takes away."""
        return self.seen < WHOLE


def cover(pixels: Tensor, width: int, height: int) -> Tensor:
    """Resize so that both sides are covered, then crop the centre: (B, C, F, height, width)."""
    tall, broad = pixels.shape[-2:]
    scale = max(width / broad, height / tall)
    resized = _resize(pixels, max(width, round(broad * scale)), max(height, round(tall * scale)))
    top, left = (resized.shape[-2] - height) // 2, (resized.shape[-1] - width) // 2
    return resized[..., top : top + height, left : left + width]


# ---------------------------------------------------------------- editing: pad, and undo


@dataclass(frozen=True)
class Fit:
    """How a picture of any size goes through a model and comes back, uncropped and undistorted.

    The picture is resized from `source` to `inner` (about resolution squared pixels, its aspect
    kept to the pixel) and its border is repeated outwards up to `outer` (the model's multiples).
    """

    source: Size
    inner: Size
    outer: Size

    @classmethod
    def of(cls, width: int, height: int, resolution: int, multiple: int) -> Fit:
        """The fit of a width x height picture."""
        scale = resolution / math.sqrt(width * height)
        inner = Size(max(1, round(width * scale)), max(1, round(height * scale)))
        outer = Size(*(math.ceil(side / multiple) * multiple for side in inner))
        return cls(Size(width, height), inner, outer)

    @classmethod
    def within(cls, width: int, height: int, outer: Size) -> Fit:
        """The fit of a width x height picture into exactly `outer`: as large as goes in whole."""
        scale = min(outer.width / width, outer.height / height)
        inner = Size(max(1, round(width * scale)), max(1, round(height * scale)))
        return cls(Size(width, height), inner, outer)

    @property
    def _left_top(self) -> tuple[int, int]:
        """The left and top of the inner picture in the outer one."""
        return (
            (self.outer.width - self.inner.width) // 2,
            (self.outer.height - self.inner.height) // 2,
        )

    def apply(self, pixels: Tensor) -> Tensor:
        """Pixels of the source's size -> of the outer size."""
        _expect(pixels, self.source)
        resized = _resize(pixels, *self.inner)
        left, top = self._left_top
        right = self.outer.width - self.inner.width - left
        bottom = self.outer.height - self.inner.height - top
        padded = F.pad(resized.flatten(1, 2), (left, right, top, bottom), mode="replicate")
        return padded.unflatten(1, resized.shape[1:3])

    def undo(self, pixels: Tensor) -> Tensor:
        """Pixels of the outer size -> of exactly the source's; the padding is dropped first."""
        _expect(pixels, self.outer)
        left, top = self._left_top
        inner = pixels[..., top : top + self.inner.height, left : left + self.inner.width]
        return _resize(inner, *self.source)


# ---------------------------------------------------------------- clips: frames, and back


@dataclass(frozen=True)
class Frames:
    """How a clip of any length and rate goes through a video model and comes back.

    Args:
        seen: the clip's frame behind each of the model's frames, the last one repeated.
        count: how many of those are the clip and not padding.
        back: the model's frame behind each of the clip's frames.
    """

    seen: tuple[int, ...]
    count: int
    back: tuple[int, ...]

    @classmethod
    def of(cls, length: int, fps: float = 1.0, model_fps: float = 1.0, *, group: int) -> Frames:
        """Frames of a clip of `length` frames at `fps`, seen at `model_fps`; nearest in time.

        The model takes `group` k + 1 frames, as its family says.
        """
        if length < 1 or fps <= 0 or model_fps <= 0:
            raise ValueError(f"{length} frames at {fps} fps, seen at {model_fps}: wanted above 0")
        step = fps / model_fps
        count = max(1, math.floor(length / step + 0.5))
        seen = [min(length - 1, math.floor(i * step + 0.5)) for i in range(count)]
        back = [min(count - 1, math.floor(i / step + 0.5)) for i in range(length)]
        padding = -(count - 1) % group
        return cls((*seen, *[seen[-1]] * padding), count, tuple(back))


def _expect(pixels: Tensor, size: Size) -> None:
    height, width = pixels.shape[-2:]
    if (width, height) != size:
        raise ValueError(f"got {width} x {height} pixels, wanted {size.width} x {size.height}")


def _resize(pixels: Tensor, width: int, height: int) -> Tensor:
    """Antialiased bicubic, without overshoot beyond each frame's own darkest and brightest."""
    if pixels.shape[-2:] == (height, width):
        return pixels
    frames = F.interpolate(
        pixels.flatten(1, 2), (height, width), mode="bicubic", antialias=True, align_corners=False
    )
    resized = frames.unflatten(1, pixels.shape[1:3])
    axes = (1, 3, 4)  # all of a frame
    return resized.clamp(pixels.amin(axes, keepdim=True), pixels.amax(axes, keepdim=True))
