"""Find near-duplicates: pictures or clips that look alike though their files differ.

A picture is reduced to 9 x 8 pixels. Its difference hash (is each pixel brighter than its left
neighbour?) finds candidates; comparing the 9 x 8 thumbnails confirms them, so that one drawing in
two colours does not count as a duplicate. For a clip, three moments are compared.
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

# Bits, of the 64 of a hash, in which a re-encoded, smaller or slightly cropped copy may differ.
MAX_HASH_DISTANCE = 6
# Mean and largest difference between the thumbnails of near-duplicates, of 255 levels.
MAX_MEAN, MAX_DIFFERENCE = 5.0, 32
# Levels by which a neighbour must be brighter: compression noise in a flat sky is no edge.
EDGE = 3
# A JPEG is decoded at a fraction of its size, from which the thumbnail can still be made.
ENOUGH = Size(72, 64)
# Moments of a clip that are compared.
MOMENTS = 3
POPCOUNT = np.array([bin(i).count("1") for i in range(1 << 16)], np.uint8)


class Signature(NamedTuple):
    """A compact description of a picture or clip for comparison."""

    hash: int  # 64 bits
    thumbnail: np.ndarray  # (8, 9, 3), uint8; the moments of a clip are stacked vertically


def signature(path: Path, clip: ClipFacts | None = None) -> Signature | None:
    """Describe a file that is known to open; None for a clip that decodes only in part."""
    if clip is None:
        return _signature([read_picture(path, at_least=ENOUGH)])
    try:
        return _signature([Image.fromarray(frame) for frame in moments(path, clip, MOMENTS)])
    except MediaError:
        return None


def _signature(images: Sequence[Image.Image]) -> Signature:
    small = [np.asarray(image.resize((9, 8), Image.Resampling.BOX)) for image in images]
    luma = small[len(small) // 2].astype(np.int32) @ np.array([299, 587, 114]) // 1000
    brighter = luma[:, 1:] - luma[:, :-1] >= EDGE
    bits = int.from_bytes(np.packbits(brighter).tobytes(), "big")
    return Signature(bits, np.concatenate(small))


def near_duplicates(signatures: Mapping[Path, Signature]) -> list[tuple[Path, Path]]:
    """Return (duplicate, the first file that looks like it), in the order of `signatures`."""
    pairs: list[tuple[Path, Path]] = []
    distinct: list[Path] = []
    hashes = np.zeros(len(signatures), np.uint64)
    for path, own in signatures.items():
        distance = _popcount(hashes[: len(distinct)] ^ np.uint64(own.hash))
        near = (distinct[i] for i in np.flatnonzero(distance <= MAX_HASH_DISTANCE))
        first = next((other for other in near if _look_alike(own, signatures[other])), None)
        if first is not None:
            pairs.append((path, first))
        else:
            hashes[len(distinct)] = own.hash
            distinct.append(path)
    return pairs


def _popcount(words: np.ndarray) -> np.ndarray:
    """Count the bits that are set in each 64-bit word."""
    return POPCOUNT[words.view(np.uint16).reshape(-1, 4)].sum(1)


def _look_alike(a: Signature, b: Signature) -> bool:
    difference = np.abs(a.thumbnail.astype(np.int16) - b.thumbnail)
    return difference.mean() <= MAX_MEAN and difference.max() <= MAX_DIFFERENCE
