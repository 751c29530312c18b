"""Small copies for the preview page, as browsers show them: WebP, and WebM for clips."""

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

# Longest sides: of a card, and of the picture alone.
THUMB, FULL = 480, 1600
QUALITY = 80
# Of a clip: longest sides, seconds and frames a second on a card; and the same alone.
CLIP_SIDE = {THUMB: 400, FULL: 960}
SECONDS = {THUMB: 5, FULL: 20}
RATE = {THUMB: 12, FULL: 30}


class Copy(NamedTuple):
    """What a browser is sent."""

    mime: str
    data: bytes


def small_copy(path: Path, side: int, kind: MediaKind) -> Copy:
    """Of a picture or clip that opens; `side` is THUMB or FULL, and none is made larger."""
    return _small_clip(path, side) if kind is CLIPS else _small_picture(path, side)


def _small_picture(path: Path, side: int) -> Copy:
    """At most `side` on its longer side; a picture that is smaller stays as it is."""
    copy = read_picture(path, at_least=Size(2 * side, 2 * side))
    tiny = max(copy.size) <= side
    copy.thumbnail((side, side))
    out = BytesIO()
    copy.save(out, "WEBP", lossless=tiny and max(copy.size) <= THUMB, quality=QUALITY)
    return Copy("image/webp", out.getvalue())


def _small_clip(path: Path, side: int) -> Copy:
    """Its beginning, without sound."""
    facts = probe(path)
    rate = min(Fraction(RATE[side]), facts.frames / facts.duration).limit_denominator(1001)
    count = min(facts.frames_at(rate), round(SECONDS[side] * rate))
    scale = min(1.0, CLIP_SIDE[side] / max(facts.width, facts.height))
    size = [max(2, round(s * scale) // 2 * 2) for s in (facts.width, facts.height)]
    copies = (_resized(frame, size) for frame in frames(path, rate, 0, count))
    return Copy("video/webm", clip_bytes(copies, rate))


def _resized(frame: np.ndarray, size: list[int]) -> np.ndarray:
    picture = Image.fromarray(frame)
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2))
