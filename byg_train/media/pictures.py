"""Picture files of every kind as upright 8-bit RGB."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

if TYPE_CHECKING:
    from .clips import ClipFacts

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
KINDS = "png, jpg, webp, bmp or tif"
# How much larger than needed a picture stays when it is averaged down before its resize.
GAP = 3


class PictureError(ValueError):
    """A file that is not a picture, or not a whole one."""


class Facts(NamedTuple):
    """What a look at a file tells."""

    width: int  # pixels, upright
    height: int
    digest: str  # sha256 of the file's bytes
    clip: ClipFacts | None = None  # None for a picture


def inspect(path: Path) -> Facts:
    """Decode a file to prove that it is whole; raises PictureError."""
    try:
        data = path.read_bytes()
        with Image.open(BytesIO(data)) as picture:
            full = picture.size
            # Of a JPEG an eighth of the resolution: cheap, and a missing end still shows.
            picture.draft(None, (1, 1))
            reduced = picture.size != full
            size = rgb(picture).size
            if reduced:
                turned = picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5
                size = full[::-1] if turned else full
    except Exception as error:  # decoders raise whatever they like on broken bytes
        raise PictureError(_reason(error)) from error
    return Facts(*size, digest(data))


def read_pixels(path: Path, expected: str, size: tuple[int, int]) -> Tensor:
    """Pixels (1, 3, 1, H, W) in [-1, 1], float32, of the bytes whose digest is `expected`.

    A picture that is far larger than the (width, height) it is needed for comes averaged down by a
    whole factor, still `GAP` times as large: much less memory, no visible difference.
    """
    data = path.read_bytes()
    if digest(data) != expected:
        raise PictureError("the file has changed since it was checked")
    with Image.open(BytesIO(data)) as picture:
        upright = rgb(picture)
    factor = min(have // (GAP * need) for have, need in zip(upright.size, size, strict=True))
    array = np.array(upright.reduce(max(1, factor)))  # (H, W, 3), uint8
    return torch.from_numpy(array).permute(2, 0, 1)[None, :, None].float() / 127.5 - 1


def digest(data: bytes) -> str:
    """Names contents."""
    return hashlib.sha256(data).hexdigest()


def rgb(picture: Image.Image) -> Image.Image:
    """Upright (EXIF), 16 bits brought to 8, transparency on white, any colour model as RGB."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "F":
        raise PictureError("a floating-point picture: export it with 8 or 16 bits per channel")
    if picture.mode.startswith("I"):
        levels = np.asarray(picture).astype(np.float64) / 257  # 65535 / 255
        picture = Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        picture = Image.alpha_composite(white, layer)
    return picture.convert("RGB")


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels"
    return str(error).removesuffix(".") or type(error).__name__
