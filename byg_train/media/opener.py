"""Opening picture files: what Pillow knows, HEIC by its plugin, and why a file does not open."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from . import MediaError

# HEIC, which Pillow opens with a plugin: what its files say at byte 8, and how they are called.
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
HEIC = (".heic", ".heif", ".hif")
# Pictures as a camera's sensor saw them. Pillow would take some for the thumbnail inside.
RAW = (".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")
# Formats of Pillow whose several frames are moments in time, not pages, sizes or layers.
MOVING = ("GIF", "PNG", "WEBP", "AVIF", "FLI")


class UnknownPictureError(MediaError):
    """Nothing that Pillow knows."""


def open_picture(file: Path | bytes) -> Image.Image:
    """Open a picture by its path or content, without decoding it; MediaError where nothing does."""
    try:
        if isinstance(file, Path) and file.suffix.lower() in RAW:
            raise MediaError("a camera's raw picture: develop it to a JPEG, PNG or TIFF first")
        try:
            return Image.open(BytesIO(file) if isinstance(file, bytes) else file)
        except UnidentifiedImageError:
            if not is_heic(_head(file)):
                raise
        if not _has_heic():
            raise MediaError("HEIC, for which Pillow needs a plugin: pip install pillow-heif")
        return Image.open(BytesIO(file) if isinstance(file, bytes) else file)
    except Exception as error:  # decoders raise whatever they like on broken bytes
        raise broken(error) from error


def moves(picture: Image.Image) -> bool:
    """Whether an open picture has several frames, one after the other."""
    return picture.format in MOVING and getattr(picture, "is_animated", False)


def is_heic(head: bytes) -> bool:
    """Whether a file begins as HEIC does; AVIF, which Pillow knows, may begin so too."""
    return head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS


def broken(error: Exception) -> MediaError:
    """What a decoder of pictures said, in one sentence."""
    if isinstance(error, MediaError):
        return error
    if isinstance(error, UnidentifiedImageError):
        return UnknownPictureError("not a picture")
    if isinstance(error, Image.DecompressionBombError):
        return MediaError(f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels")
    if isinstance(error, OSError) and error.strerror:
        return MediaError(error.strerror)
    return MediaError(str(error).removesuffix(".") or type(error).__name__)


def _head(file: Path | bytes) -> bytes:
    if isinstance(file, bytes):
        return file[:16]
    with file.open("rb") as opened:
        return opened.read(16)


@cache
def _has_heic() -> bool:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True
