"""The files that count as pictures and as clips, by their endings, and what messages call them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple


class Formats(NamedTuple):
    """Files of one sort."""

    suffixes: Collection[str]  # lower case, with the dot
    words: str  # png, jpg or mp4

    def holds(self, name: str | Path) -> bool:
        """Whether a file is of this sort, as far as its name tells; hidden ones never are."""
        path = Path(name)
        return path.suffix.lower() in self.suffixes and not path.name.startswith(".")


PICTURES = Formats(
    (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"), "png, jpg, webp, bmp or tif"
)
CLIPS = Formats(
    (
        ".mp4", ".webm", ".mov", ".mkv", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts",
        ".wmv", ".flv", ".ogv", ".3gp", ".mxf", ".gif",
    ),
    "mp4, webm, mov, mkv, avi, gif or another video",
)  # fmt: skip
MEDIA = Formats((*PICTURES.suffixes, *CLIPS.suffixes), f"{PICTURES.words}; {CLIPS.words}")
