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
from PIL import ExifTags, Image

from . import MediaError, clips
from .clips import ClipFacts, still
from .fit import Size
from .formats import UnknownPictureError, broken, look, moves, open_picture
from .pixels import Frames
from .rgb import to_rgb

# Bytes of a file that are hashed at once.
BLOCK = 1 << 20
# Orientations of EXIF that change width for height; Pillow ignores values above 8, as we do.
LYING = (5, 6, 7, 8)
# How much larger than needed a picture stays when it is averaged down before its resize.
GAP = 3


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


def read_picture(file: Path | bytes, at_least: Size | None = None) -> Image.Image:
    """A picture in RGB, by its path or its content; raises MediaError.

    Args:
        file: of any format that Pillow opens, or FFmpeg; of a picture that moves the first frame.
        at_least: a JPEG that is larger may come smaller by a whole factor, but never smaller than
            this: much less work.
    """
    try:
        with _opened(file) as picture:
            if at_least is not None:
                picture.draft("RGB", at_least)
            return to_rgb(picture)
    except Exception as error:  # decoders raise whatever they like on broken bytes
        raise broken(error) from error


def opened_whole(path: Path) -> Image.Image:
    """An open picture that is known to be whole, as the file has it; raises MediaError."""
    try:
        picture = _opened(path)
        to_rgb(picture)
    except Exception as error:  # likewise
        raise broken(error) from error
    return picture


def picture_size(path: Path) -> Size:
    """The size of the upright picture, decoded to prove that it is whole; raises MediaError."""
    try:
        with _opened(path) as picture:
            full = picture.size
            # Of a JPEG an eighth of the resolution: cheap, and a missing end still shows.
            picture.draft(None, (1, 1))
            reduced = picture.size != full
            size = to_rgb(picture).size
            if reduced:
                lying = picture.getexif().get(ExifTags.Base.Orientation) in LYING
                size = full[::-1] if lying else full
    except Exception as error:  # likewise
        raise broken(error) from error
    return Size(*size)


def averaged_down(picture: Image.Image, size: Size) -> Image.Image:
    """Shrink a picture by a whole factor, to no less than GAP times the size that is needed.

    What is then resized to that size takes much less memory, and no difference is visible.
    """
    factor = min(have // (GAP * need) for have, need in zip(picture.size, size, strict=True))
    return picture.reduce(factor) if factor > 1 else picture


def _opened(file: Path | bytes) -> Image.Image:
    """Open, and not decoded, where Pillow knows the format; else what FFmpeg makes of it."""
    try:
        return open_picture(file)
    except UnknownPictureError:
        if isinstance(file, bytes):
            raise
    return Image.fromarray(still(file))
