"""The one reader: pictures and clips as frames, whichever a file is by its content.

Training, captioning, editing, evaluation and the data check read with it, so they see the same
pixels: upright, sRGB in 8 bits, of square pixels, HDR brought to SDR, transparency on white.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from . import MediaError, clips
from .clips import ClipFacts
from .formats import look
from .opener import UnknownPictureError, moves, open_picture
from .pictures import read_picture
from .pixels import Frames

# Bytes of a file that are hashed at once.
BLOCK = 1 << 20


class Facts(NamedTuple):
    """What a look at a file tells."""

    width: int  # pixels, upright
    height: int
    digest: str  # sha256 of the file's bytes
    clip: ClipFacts | None = None  # None for a picture


class DecodedClip(NamedTuple):
    """A whole file in memory; a picture is one frame without a rate."""

    frames: Frames  # (F, H, W, 3)
    fps: float | None

    @property
    def picture(self) -> Image.Image:
        """The first frame."""
        return Image.fromarray(self.frames[0])


def is_clip(path: Path) -> bool:
    """Whether a file holds a clip; by its content, whatever it is called.

    What Pillow opens is a picture, also of several frames, pages or layers, but a GIF that moves.
    """
    if look(path).sort == "clip":
        return True
    try:
        with open_picture(path) as picture:
            return picture.format == "GIF" and moves(picture)
    except UnknownPictureError:  # FFmpeg's decoders say what it is
        return True
    except MediaError:  # a picture that cannot be read, and why
        return False


def read_media(path: Path) -> DecodedClip:
    """Read a whole file; raises MediaError."""
    if is_clip(path):
        return DecodedClip(np.stack(list(clips.frames(path))), clips.probe(path).fps)
    return DecodedClip(np.array(read_picture(path))[None], None)


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
