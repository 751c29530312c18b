"""Picture files of every kind as upright 8-bit RGB."""

from __future__ import annotations

from pathlib import Path

from PIL import ExifTags, Image

from .clips import still
from .fit import Size
from .opener import UnknownPictureError, broken, open_picture
from .rgb import to_rgb

# Orientations of EXIF that change width for height; Pillow ignores values above 8, as we do.
LYING = (5, 6, 7, 8)
# How much larger than needed a picture stays when it is averaged down before its resize.
GAP = 3


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
    """By a whole factor, to no less than GAP times the size that a picture is needed for.

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
