"""Pictures and clips that show the same: equal files, and files that only look equal.

A picture is shrunk to 9 x 8 pixels. Its difference hash (is each pixel brighter than its left
neighbour?) finds candidates, and the small pictures themselves tell whether they are alike, so that
one drawing in two colours is not taken for a copy. Of a clip three moments are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..media import MediaError
from ..media.clips import ClipFacts, moments
from ..media.fit import Size
from ..media.pictures import read_picture

# Of 64 bits of the hash, how many a copy may differ in: one saved anew, smaller or lightly cropped.
BITS = 6
# Of 255 levels: mean and largest difference between the 9 x 8 pictures of a copy.
MEAN, LARGEST = 5.0, 32
# Levels by which a neighbour must be brighter: noise of compression in a flat sky is no edge.
EDGE = 3
# Pixels of a JPEG from which the small picture can be made: a fraction of the work.
ENOUGH = Size(72, 64)
# Moments of a clip.
MOMENTS = 3
ONES = np.array([bin(i).count("1") for i in range(1 << 16)], np.uint8)


class Look(NamedTuple):
    """What a comparison needs of a picture or clip."""

    bits: int  # 64
    small: np.ndarray  # (8, 9, 3), uint8; of a clip its moments, one below the other


def look(path: Path, clip: ClipFacts | None = None) -> Look | None:
    """Shrink and hash a file that is known to open; None of a clip that does so only in part."""
    if clip is None:
        return _look([read_picture(path, at_least=ENOUGH)])
    try:
        return _look([Image.fromarray(frame) for frame in moments(path, clip, MOMENTS)])
    except MediaError:
        return None


def _look(seen: Sequence[Image.Image]) -> Look:
    small = [np.asarray(image.resize((9, 8), Image.Resampling.BOX)) for image in seen]
    light = small[len(small) // 2].astype(np.int32) @ np.array([299, 587, 114]) // 1000
    brighter = light[:, 1:] - light[:, :-1] >= EDGE
    bits = int.from_bytes(np.packbits(brighter).tobytes(), "big")
    return Look(bits, np.concatenate(small))


def copies(looks: Mapping[Path, Look]) -> list[tuple[Path, Path]]:
    """(copy, the first that looks like it) for every copy, in the order of `looks`."""
    found: list[tuple[Path, Path]] = []
    firsts: list[Path] = []
    bits = np.zeros(len(looks), np.uint64)
    for path, seen in looks.items():
        distance = _ones(bits[: len(firsts)] ^ np.uint64(seen.bits))
        near = (firsts[i] for i in np.flatnonzero(distance <= BITS))
        first = next((other for other in near if _alike(seen, looks[other])), None)
        if first is not None:
            found.append((path, first))
        else:
            bits[len(firsts)] = seen.bits
            firsts.append(path)
    return found


def _ones(words: np.ndarray) -> np.ndarray:
    """How many bits are set in every 64-bit word."""
    return ONES[words.view(np.uint16).reshape(-1, 4)].sum(1)


def _alike(a: Look, b: Look) -> bool:
    difference = np.abs(a.small.astype(np.int16) - b.small)
    return difference.mean() <= MEAN and difference.max() <= LARGEST
