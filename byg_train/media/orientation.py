"""Which way up a clip is shown: the eight orientations of its display matrix.

Of pictures Pillow applies EXIF's. What is none of the eight (any other angle, or numbers that are
no orientation at all) is left aside, by the size and by the pixels alike.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from av import VideoFrame

# By how much of its larger numbers the smaller ones of a matrix may differ from nought.
NEAR = 0.01


class Orientation(NamedTuple):
    """The stored frame is transposed first, then mirrored."""

    transposed: bool = False
    mirrored_x: bool = False
    mirrored_y: bool = False

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) upright."""
        return (height, width) if self.transposed else (width, height)

    def apply(self, array: np.ndarray) -> np.ndarray:
        """(H, W, ...) as stored -> upright, a view."""
        array = array.swapaxes(0, 1) if self.transposed else array
        return array[:: -1 if self.mirrored_y else 1, :: -1 if self.mirrored_x else 1]


def orientation_of(frame: VideoFrame) -> Orientation:
    """The orientation that a decoded frame asks for; as stored where it asks for none."""
    from av.sidedata.sidedata import Type

    found = frame.side_data.get(Type.DISPLAYMATRIX)
    return from_matrix(*struct.unpack("=9i", bytes(found))) if found else Orientation()


def from_matrix(
    a: int, b: int, u: int, c: int, d: int, v: int, x: int, y: int, w: int
) -> Orientation:
    """FFmpeg's matrix: a stored pixel (x, y) is shown at (ax + cy, bx + dy)."""
    straight, crossed = (abs(a), abs(d)), (abs(b), abs(c))
    if min(straight) > 0 and max(crossed) <= NEAR * min(straight):
        return Orientation(mirrored_x=a < 0, mirrored_y=d < 0)
    if min(crossed) > 0 and max(straight) <= NEAR * min(crossed):
        return Orientation(transposed=True, mirrored_x=c < 0, mirrored_y=b < 0)
    return Orientation()
