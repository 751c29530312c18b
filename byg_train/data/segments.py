"""Segments: which frames of a file are trained on, and those frames at the size of a bucket."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..config import DataConfig
from ..media import MediaError
from ..media.clips import frames, probe, verify
from ..media.fit import Size, cover
from ..media.formats import PICTURES, Formats
from ..media.pixels import frame_levels, from_levels
from ..media.reader import Facts, averaged_down, content_digest, picture_size, read_picture


class Segment(NamedTuple):
    """A part of a clip; a picture is the segment PICTURE."""

    start: int  # the first frame, counted at `fps`
    count: int
    fps: float

    @property
    def key(self) -> tuple[int | float, ...]:
        """What a cache key or fingerprint says about the segment; nothing for a picture."""
        return () if self == PICTURE else tuple(self)


# The one frame of a picture.
PICTURE = Segment(0, 1, 0.0)


def segments_of(length: int, data: DataConfig) -> list[Segment]:
    """Return the segments to train on for a clip of `length` frames at `data.fps`.

    Segments never overlap; the list is empty if the clip is too short.
    """
    fit, room = length // data.frames, length - data.frames
    number = {"head": min(1, fit), "uniform": min(data.segments, fit), "chunk": fit}
    starts = [i * data.frames for i in range(number[data.extraction])]
    if data.extraction == "uniform":
        last = len(starts) - 1
        starts = [i * room // last if last else room // 2 for i in range(len(starts))]
    return [Segment(start, data.frames, data.fps) for start in starts]


def trained_segments(facts: Facts, data: DataConfig | None) -> list[Segment]:
    """Return the segments that become items; without settings, one for the whole file."""
    if facts.clip is None or data is None:
        return [PICTURE]
    return segments_of(facts.clip.frames_at(data.fps), data)


def inspect_file(path: Path, kind: Formats, data: DataConfig | None) -> Facts:
    """Decode the segments that will be trained on, to prove them whole; raises MediaError.

    `data` says how segments are cut; None decodes only the first frame of a clip.
    """
    if kind is PICTURES:
        return Facts(*picture_size(path), content_digest(path))
    clip = probe(path)
    facts = Facts(clip.width, clip.height, content_digest(path), clip)
    if data:
        for start, count, fps in trained_segments(facts, data):
            verify(path, fps, start, count)
    return facts


def read_segment(path: Path, expected: str, segment: Segment, size: Size) -> Tensor:
    """Read pixels (1, 3, F, H, W) of the file whose digest is `expected`; raises MediaError.

    Each frame is scaled to cover `size` and centre-cropped as soon as it is decoded, so memory
    holds the segment at that size and a single frame at the file's own size. Pictures are float32
    in [-1, 1]; clips, which are large, stay uint8 levels 0 ... 255.
    """
    if content_digest(path) != expected:
        raise MediaError("the file has changed since it was checked")
    if segment == PICTURE:
        return cover(from_levels(_levels(read_picture(path), size)), *size)
    pixels = torch.empty(1, 3, segment.count, size.height, size.width, dtype=torch.uint8)
    start, count, fps = segment
    for i, frame in enumerate(frames(path, fps, start, count)):
        levels = _levels(Image.fromarray(frame), size).float()
        pixels[:, :, i : i + 1] = cover(levels, *size).round().to(torch.uint8)
    return pixels


def _levels(frame: Image.Image, size: Size) -> Tensor:
    """Levels (1, 3, 1, H, W), uint8, averaged down to little more than `size`."""
    return frame_levels(np.asarray(averaged_down(frame, size))[None])[None]
