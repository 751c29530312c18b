"""Make the small JPEGs that a model is shown, from the same pixels that training sees."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ...media import MediaError
from ...media.clips import frames_at, probe
from ...media.fit import Size
from ...media.pictures import read_picture

# Longest side in pixels, of a picture and of each frame of a clip.
SIDE, FRAME_SIDE = 1024, 512
# Of each clip so many frames are shown.
FRAMES = 8
HALF = Fraction(1, 2)


def picture_jpeg(path: Path) -> bytes:
    """Encode a picture, upright, at most SIDE pixels long; raises MediaError."""
    try:
        return _jpeg(read_picture(path, at_least=Size(SIDE, SIDE)), SIDE)
    except MediaError as error:
        raise MediaError(f"it cannot be read: {error}") from error


def clip_jpegs(path: Path) -> list[bytes]:
    """Encode at most FRAMES evenly spread frames of a clip; raises MediaError."""
    return [_jpeg(Image.fromarray(frame), FRAME_SIDE) for frame in shown_frames(path)]


def shown_frames(path: Path) -> Iterator[np.ndarray]:
    """Yield the frames (H, W, 3) in the middle of equal parts of a clip, each one once."""
    facts = probe(path)
    number = min(FRAMES, facts.frames)
    part, frame = facts.duration / number, facts.duration / facts.frames
    return frames_at(path, [(i + HALF) * part - HALF * frame for i in range(number)])


def _jpeg(image: Image.Image, side: int) -> bytes:
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = BytesIO()
    image.save(data, "JPEG", quality=90)
    return data.getvalue()
