"""Editing a picture: what the model sees of it, and what becomes of its edit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from ..media.fit import Fit
from ..media.grid import labelled_grid
from ..media.pixels import to_picture, to_pixels
from ..media.rgb import to_rgb
from ..media.writer import write_picture
from ..models.lora_file import LoraInfo

# Sides of a picture or clip among others that it is compared with, in pixels.
SMALLEST_CELL, LARGEST_CELL = 192, 512


class PictureToEdit:
    """A picture of any mode and size; its edits have exactly the upright picture's size."""

    def __init__(self, image: Image.Image, info: LoraInfo) -> None:
        """`info` says at what size a picture goes through the model."""
        self.image = ImageOps.exif_transpose(image)
        self.fit = fitted(info, *self.image.size)
        self.pixels = self.fit.apply(to_pixels(np.asarray(to_rgb(self.image))[None])[None])

    def result(self, pixels: Tensor) -> Image.Image:
        """The edit, with the picture's transparency and colour profile."""
        return finished(to_picture(self.fit.undo(pixels)[0]), self.image)

    def save(self, path: Path, result: Image.Image) -> None:
        """Write a result, in the format that the name's ending says."""
        write_picture(path, result)

    def save_comparison(
        self, path: Path, results: Sequence[Image.Image], names: Sequence[str]
    ) -> None:
        """Write the source and its results, under their names, beside each other."""
        rows = [[self.image, *results]]
        write_picture(path, labelled_grid(rows, ["source", *names], None, cell(*self.image.size)))


def fitted(info: LoraInfo, width: int, height: int) -> Fit:
    """How pictures of a size go through the model and come back."""
    return Fit.of(width, height, info.resolution, info.multiple)


def cell(width: int, height: int) -> int:
    """The side of a comparison's cells, in pixels, for pictures of a size."""
    return min(LARGEST_CELL, max(SMALLEST_CELL, width, height))


def finished(result: Image.Image, source: Image.Image) -> Image.Image:
    """With what a picture has besides colours: the source's transparency and colour profile.

    The profile of a grey or CMYK source says nothing about the result, which is RGB.
    """
    if source.has_transparency_data:
        result.putalpha(source.convert("RGBA").getchannel("A"))
    if "icc_profile" in source.info and source.mode in ("RGB", "RGBA", "P"):
        result.info["icc_profile"] = source.info["icc_profile"]
    return result
