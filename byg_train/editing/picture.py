"""Editing a picture: what the model sees of it, and what becomes of its edit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ..media.fit import Fit
from ..media.grid import labelled_grid
from ..media.pixels import to_picture, to_pixels
from ..media.profiles import with_profile
from ..media.rgb import to_rgb, upright
from ..media.writer import write_picture
from ..models.lora_file import LoraInfo

# Sides of a picture or clip among others that it is compared with, in pixels.
SMALLEST_CELL, LARGEST_CELL = 192, 512


class PictureToEdit:
    """A picture of any mode and size; its edits have exactly the upright picture's size."""

    def __init__(self, image: Image.Image, info: LoraInfo) -> None:
        """`info` says at what size it goes through the model; of several frames the first does."""
        self.image = upright(image)
        self.fit = fitted(info, *self.image.size)
        self.pixels = self.fit.apply(to_pixels(np.asarray(to_rgb(self.image))[None])[None])

    def result(self, pixels: Tensor) -> Image.Image:
        """The edit, with the picture's transparency and colour profile."""
        return finished(to_picture(self.fit.undo(pixels)[0]), self.image)

    def save(self, path: Path, result: Image.Image) -> None:
        """Write a result, in the format that the name's ending says."""
        # A BMP holds no profile, without which these would be other colours.
        write_picture(path, to_rgb(result) if path.suffix.lower() == ".bmp" else result)

    def save_comparison(
        self, path: Path, results: Sequence[Image.Image], names: Sequence[str]
    ) -> None:
        """Write the source and its results, under their names, beside each other."""
        rows = [[to_rgb(picture) for picture in (self.image, *results)]]
        write_picture(path, labelled_grid(rows, ["source", *names], None, cell(*self.image.size)))


def fitted(info: LoraInfo, width: int, height: int) -> Fit:
    """How pictures of a size go through the model and come back."""
    return Fit.of(width, height, info.resolution, info.multiple)


def cell(width: int, height: int) -> int:
    """The side of a comparison's cells, in pixels, for pictures of a size."""
    return min(LARGEST_CELL, max(SMALLEST_CELL, width, height))


def finished(result: Image.Image, source: Image.Image) -> Image.Image:
    """Give a result the source's transparency, and its colour profile if that is one of RGB."""
    result = with_profile(result, source)
    if source.has_transparency_data:
        result.putalpha(source.convert("RGBA").getchannel("A"))
    return result
