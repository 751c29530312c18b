"""Clips beside each other: as a clip of labelled grids, or as one picture of a few moments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from PIL import Image

from .grid import PAPER, labelled_grid

# Moments of a clip on its strip.
MOMENTS = 5
# The side of a clip beside others, in pixels: in full size those of a run would fill gigabytes.
CELL = 256


def side_by_side(
    moments: Iterable[Sequence[Sequence[Image.Image]]],
    columns: Sequence[str],
    row_labels: Sequence[str] | None = None,
    cell: int = 256,
) -> Iterator[np.ndarray]:
    """A clip of labelled grids, frame by frame: each moment's rows -> (H, W, 3), of even sides."""
    for rows in moments:
        sheet = labelled_grid(rows, columns, row_labels, cell)
        even = Image.new("RGB", [side + side % 2 for side in sheet.size], PAPER)
        even.paste(sheet)
        yield np.asarray(even)


def frame_strip(
    clips: Sequence[np.ndarray], labels: Sequence[str], fps: float, cell: int = 192
) -> Image.Image:
    """Clips (F, H, W, 3) of one length as rows of the same few moments, from first to last."""
    length = len(clips[0])
    number = min(MOMENTS, length)
    shown = [round(i * (length - 1) / max(1, number - 1)) for i in range(number)]
    rows = [[Image.fromarray(clip[i]) for i in shown] for clip in clips]
    return labelled_grid(rows, [f"{i / fps:.1f} s" for i in shown], labels, cell)


class ClipComparison(NamedTuple):
    """Clips in rows and columns: a row for each item, frames of at most CELL pixels."""

    clips: list[list[np.ndarray]]  # of each item: for each column (F, h, w, 3), uint8
    columns: list[str]
    captions: list[str]
    fps: Fraction

    def frames(self) -> Iterator[np.ndarray]:
        """The clip of labelled rows and columns, frame by frame: (H, W, 3)."""
        moments = (
            [[Image.fromarray(clip[i]) for clip in row] for row in self.clips]
            for i in range(len(self.clips[0][0]))
        )
        return side_by_side(moments, self.columns, self.captions, CELL)

    def strip(self) -> Image.Image:
        """Draw the same few moments of every clip, one clip below the other."""
        clips = [clip for row in self.clips for clip in row]
        names = [f"edit: {caption}" for caption in self.captions]
        labels = [name if c == "edit" else c for name in names for c in self.columns]
        return frame_strip(clips, labels, float(self.fps))
