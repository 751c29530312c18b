"""Small copies for the preview page, as browsers show them: WebP, and WebM for clips."""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..media.clips import frames, probe
from ..media.pictures import rgb
from .media_kind import CLIPS, Kind

# Longest sides: of a card, and of the picture alone.
THUMB, FULL = 480, 1600
QUALITY = 80
# Of a clip: longest sides, seconds and frames a second on a card; and the same alone.
CLIP_SIDE = {THUMB: 400, FULL: 960}
SECONDS = {THUMB: 5, FULL: 20}
RATE = {THUMB: 12, FULL: 30}
# VP9 at a constant quality, as fast as it goes.
VP9 = {"crf": "34", "deadline": "realtime", "cpu-used": "8", "row-mt": "1"}


class Copy(NamedTuple):
    """What a browser is sent."""

    mime: str
    data: bytes


def small_copy(path: Path, side: int, kind: Kind) -> Copy:
    """Of a picture or clip that opens; `side` is THUMB or FULL, and none is made larger."""
    return _small_clip(path, side) if kind is CLIPS else _small_picture(path, side)


def _small_picture(path: Path, side: int) -> Copy:
    """At most `side` on its longer side; a picture that is smaller stays as it is."""
    with Image.open(path) as picture:
        picture.draft("RGB", (2 * side, 2 * side))
        copy = rgb(picture)
    tiny = max(copy.size) <= side
    copy.thumbnail((side, side))
    out = BytesIO()
    copy.save(out, "WEBP", lossless=tiny and max(copy.size) <= THUMB, quality=QUALITY)
    return Copy("image/webp", out.getvalue())


def _small_clip(path: Path, side: int) -> Copy:
    """Its beginning, without sound."""
    import av

    facts = probe(path)
    rate = min(Fraction(RATE[side]), facts.frames / facts.duration).limit_denominator(1001)
    count = min(facts.frames_at(rate), round(SECONDS[side] * rate))
    scale = min(1.0, CLIP_SIDE[side] / max(facts.width, facts.height))
    size = [max(2, round(s * scale) // 2 * 2) for s in (facts.width, facts.height)]
    copies = (_resized(frame, size) for frame in frames(path, rate, 0, count))
    out = BytesIO()
    with av.open(out, "w", format="webm") as film:
        stream = film.add_stream("libvpx-vp9", rate=rate, options=VP9)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.bit_rate = 0
        for frame in chain(copies, [None]):
            film.mux(stream.encode(frame and av.VideoFrame.from_image(frame)))
    return Copy("video/webm", out.getvalue())


def _resized(frame: np.ndarray, size: list[int]) -> Image.Image:
    picture = Image.fromarray(frame)
    return picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
