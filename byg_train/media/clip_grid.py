"""Clips beside each other: as a clip of labelled grids, or as one picture of a few moments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from PIL import Image

from .grid import PAPER, labelled_grid

# Moments of a clip on its strip.
MOMENTS = 5


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
