"""Stretches of clips: which frames are trained on, and these frames at the size of a bucket."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..config import DataConfig
from ..media.clips import ClipError, frames, probe, verify
from ..media.fit import cover
from ..media.pictures import GAP, Facts

# Bytes of a file that are hashed at once.
BLOCK = 1 << 20


class Stretch(NamedTuple):
    """A part of a clip."""

    start: int  # the first frame, counted at `fps`
    count: int
    fps: float


def stretches(length: int, data: DataConfig) -> list[Stretch]:
    """The parts that are trained on of a clip of `length` frames at `data.fps`.

    They never overlap, and there are none if the clip is too short.
    """
    fit, room = length // data.frames, length - data.frames
    number = {"head": min(1, fit), "uniform": min(data.stretches, fit), "chunk": fit}
    starts = [i * data.frames for i in range(number[data.extraction])]
    if data.extraction == "uniform":
        last = len(starts) - 1
        starts = [i * room // last if last else room // 2 for i in range(len(starts))]
    return [Stretch(start, data.frames, data.fps) for start in starts]


def inspect_clip(path: Path, data: DataConfig | None) -> Facts:
    """Decode what will be trained on, to prove that it is whole; raises ClipError.

    Args:
        path: the clip.
        data: how stretches are taken; None: no more than the first frame is decoded.
    """
    facts = probe(path)
    if data:
        for start, count, fps in stretches(facts.frames_at(data.fps), data):
            verify(path, fps, start, count)
    return Facts(facts.width, facts.height, content_digest(path), facts)


def read_stretch(path: Path, expected: str, stretch: Stretch, size: tuple[int, int]) -> Tensor:
    """Pixels (1, 3, F, H, W) in 0 ... 255, uint8, of the clip whose digest is `expected`.

    Every frame is brought to (width, height) as it comes, covered and its centre cropped, so that
    memory holds the stretch at that size and one frame of the clip's.
    """
    if content_digest(path) != expected:
        raise ClipError("the file has changed since it was checked")
    width, height = size
    pixels = torch.empty(1, 3, stretch.count, height, width, dtype=torch.uint8)
    start, count, fps = stretch
    for i, frame in enumerate(frames(path, fps, start, count)):
        pixels[:, :, i : i + 1] = _covered(frame, width, height)
    return pixels


def _covered(frame: np.ndarray, width: int, height: int) -> Tensor:
    """(H, W, 3) -> (1, 3, 1, height, width), uint8; large frames are averaged down before."""
    factor = min(frame.shape[1] // (GAP * width), frame.shape[0] // (GAP * height))
    if factor > 1:
        frame = np.array(Image.fromarray(frame).reduce(factor))
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None, :, None].float()
    return cover(pixels, width, height).round().to(torch.uint8)


def content_digest(path: Path) -> str:
    """The sha256 of a file, read once as long as it stays as it is."""
    stat = path.stat()
    return _digest(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=100_000)
def _digest(path: Path, changed: int, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
