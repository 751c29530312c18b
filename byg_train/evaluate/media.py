"""Pictures and clips as frames that metrics compare."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..data import DataError
from ..media import clips, pictures
from .models import Frames
from .tasks import Formats

MEDIA = Formats((*pictures.SUFFIXES, *clips.SUFFIXES), f"{pictures.KINDS}; {clips.KINDS}")


class Film(NamedTuple):
    """Upright RGB frames (F, H, W, 3), uint8; a picture is one frame without a rate."""

    frames: Frames
    fps: float | None

    @property
    def picture(self) -> Image.Image:
        """The frame of a picture."""
        return Image.fromarray(self.frames[0])


def read_film(path: Path) -> Film:
    """Read a whole file; DataError if it cannot be read."""
    try:
        if path.suffix.lower() in clips.SUFFIXES:
            return Film(np.stack(list(clips.frames(path))), clips.probe(path).fps)
        with Image.open(path) as picture:
            return Film(np.array(pictures.rgb(picture))[None], None)
    except clips.ClipError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # decoders raise whatever they like on broken bytes
        raise DataError(f"{path} cannot be read: {error}") from None


def at_size_of(frames: Frames, source: Frames) -> Frames:
    """Frames resized (Pillow, bicubic) to the height and width of the source's."""
    height, width = source.shape[1:3]
    if frames.shape[1:3] == (height, width):
        return frames
    resized = [Image.fromarray(f).resize((width, height), Image.Resampling.BICUBIC) for f in frames]
    return np.stack([np.asarray(picture) for picture in resized])
