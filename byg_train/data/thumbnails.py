"""Thumbnails for the preview page, in formats that browsers play: WebP, and WebM for clips."""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..media.clips import frames, probe
from ..media.fit import Size
from ..media.pictures import read_picture
from ..media.writer import clip_bytes
from .media_kind import CLIPS, MediaKind

# Longest sides in pixels: on a card of the page, and in the view of a single file.
THUMB, FULL = 480, 1600
QUALITY = 80
# Longest side, seconds and frames per second of a clip, for the same two sizes.
CLIP_SIDE = {THUMB: 400, FULL: 960}
SECONDS = {THUMB: 5, FULL: 20}
RATE = {THUMB: 12, FULL: 30}


class Thumbnail(NamedTuple):
    """The bytes that a browser is sent, with their type."""

    mime: str
    data: bytes


def thumbnail(path: Path, side: int, kind: MediaKind) -> Thumbnail:
    """Make a thumbnail of a file that opens; `side` is THUMB or FULL, nothing is enlarged."""
    return _clip_thumbnail(path, side) if kind is CLIPS else _picture_thumbnail(path, side)


def _picture_thumbnail(path: Path, side: int) -> Thumbnail:
    """Encode as WebP, at most `side` pixels on the longer side."""
    copy = read_picture(path, at_least=Size(2 * side, 2 * side))
    tiny = max(copy.size) <= side
    copy.thumbnail((side, side))
    out = BytesIO()
    copy.save(out, "WEBP", lossless=tiny and max(copy.size) <= THUMB, quality=QUALITY)
    return Thumbnail("image/webp", out.getvalue())


def _clip_thumbnail(path: Path, side: int) -> Thumbnail:
    """Encode the beginning of a clip as WebM, without sound."""
    facts = probe(path)
    rate = min(Fraction(RATE[side]), facts.frames / facts.duration).limit_denominator(1001)
    count = min(facts.frames_at(rate), round(SECONDS[side] * rate))
    scale = min(1.0, CLIP_SIDE[side] / max(facts.width, facts.height))
    size = [max(2, round(s * scale) // 2 * 2) for s in (facts.width, facts.height)]
    copies = (_resized(frame, size) for frame in frames(path, rate, 0, count))
    return Thumbnail("video/webm", clip_bytes(copies, rate))


def _resized(frame: np.ndarray, size: list[int]) -> np.ndarray:
    picture = Image.fromarray(frame)
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2))
