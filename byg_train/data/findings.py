"""What the linter finds; and what it says of files: alike, not used, enlarged, cropped, or cut."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..config import DataConfig
from ..media import MediaError
from ..media.clips import ClipFacts, moments
from ..media.fit import Coverage, Size, buckets, nearest_bucket
from ..media.formats import Formats
from ..media.reader import Facts, read_picture
from . import Problem, Row, counted
from .rows import TEXTS
from .text_rules import WARNING
from .unused import IN_NO_TUPLE, by_reason, told, unused_files

# The `where` of findings about the data set as a whole.
SET = "the set"
# Rule codes of warnings that only the linter gives.
DUPLICATE, UNUSED = "duplicate", "unused"
ENLARGED, CROPPED, CUT = "enlarged", "cropped", "cut"
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
# The bits that are set in each word of 16.
POPCOUNT = np.array([bin(i).count("1") for i in range(1 << 16)], np.uint8)


class Finding(NamedTuple):
    """Something that is wrong with a tuple, or with the data set as a whole."""

    where: str
    rule: str
    level: str  # error: training refuses it or learns the wrong thing; warning: worth improving
    found: str
    wanted: str
    file_name: str = ""
    instruction: str = ""
    field: str = ""  # the text that the finding is about
    start: int = 0  # position of the found words in that text
    length: int = 0  # length of the found words; 0 if the finding is not about words
    other: str = ""  # for duplicates: the file that came first

    def at(self, row: Row) -> Finding:
        """Return the finding, located at a row."""
        file_name, instruction = (str(row.fields.get(n) or "") for n in ("file_name", TEXTS[2]))
        return self._replace(where=row.where, file_name=file_name, instruction=instruction)


def duplicates(
    root: Path, pairs: list[tuple[Row, Path]], facts: dict[Path, Facts], kind: Formats
) -> Iterator[Finding]:
    """Report equal files and near-duplicates, at the first tuple of the later file."""
    first_row: dict[Path, Row] = {}
    for row, path in pairs:
        first_row.setdefault(path, row)
    by_digest: dict[str, Path] = {}
    equal = []
    for path, fact in facts.items():
        first = by_digest.setdefault(fact.digest, path)
        if first != path:
            equal.append((path, first))
    described = {path: signature(path, facts[path].clip) for path in by_digest.values()}
    similar = near_duplicates({path: known for path, known in described.items() if known})
    wanted = f"each {kind.one} once, its tuples under one name"
    for relation, pairs in (("same file as", equal), ("looks like", similar)):
        for path, first in pairs:
            other = first.relative_to(root).as_posix()
            found = f"{relation} {other}"
            splits = {first_row[p].fields.get("split") or "train" for p in (path, first)}
            if len(splits) > 1:
                found += ", which is in the other split"
            finding = Finding("", DUPLICATE, WARNING, found, wanted, other=other)
            yield finding.at(first_row[path])


def left_over(
    root: Path, rows: list[Row], kind: Formats, problems: list[Problem]
) -> Iterator[Finding]:
    """Report the files that nothing is made of, by reason."""
    for why, names in by_reason(unused_files(root, rows, kind, problems)).items():
        if why == IN_NO_TUPLE:
            found = f"{counted(len(names), kind.one)} in no tuple, such as {names[0]}"
            yield Finding(SET, UNUSED, WARNING, found, "a tuple for each, or the files elsewhere")
        else:
            yield Finding(SET, UNUSED, WARNING, f"{why}: {told(names)}", "such files elsewhere")


def changes(
    pairs: list[tuple[Row, Path]], facts: dict[Path, Facts], multiple: int, data: DataConfig
) -> Iterator[Finding]:
    """Report what is enlarged or cropped in training, or lacks a part, at a file's first tuple."""
    choice = buckets(data.resolution, multiple, data.max_aspect if data.buckets else 1.0)
    for row, path in {path: (row, path) for row, path in reversed(pairs)}.values():
        if (fact := facts.get(path)) is None:
            continue
        bucket = nearest_bucket(fact.width, fact.height, choice)
        covered = Coverage.of(fact.width, fact.height, bucket)
        size, trained = (f"{w} x {h}" for w, h in (fact[:2], bucket))
        if covered.enlarged:
            found = f"{size} pixels, enlarged {covered.scale:.1f} times to {trained}"
            yield Finding("", ENLARGED, WARNING, found, "larger ones, or a lower resolution").at(
                row
            )
        if covered.cropped:
            found = f"{size} pixels, of which {covered.seen:.0%} are left at {trained}"
            yield Finding("", CROPPED, WARNING, found, "the rest cropped away by hand").at(row)
        if fact.clip and fact.clip.lost_start:
            frames = counted(fact.clip.lost_start, "frame")
            found = f"cut off a key frame: {frames} at its beginning cannot be decoded"
            yield Finding("", CUT, WARNING, found, "a clip that begins with a key frame").at(row)


# ---------------------------------------------------------------- what looks alike


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
    """Return (duplicate, the first file that looks like it), in the order of `signatures`.

    The difference hash of 9 x 8 pixels (is each brighter than its left neighbour?) finds
    candidates; comparing the thumbnails confirms them, so that one drawing in two colours does not
    count as a duplicate. Of a clip three moments are compared.
    """
    pairs: list[tuple[Path, Path]] = []
    distinct: list[Path] = []
    hashes = np.zeros(len(signatures), np.uint64)
    for path, own in signatures.items():
        unlike = hashes[: len(distinct)] ^ np.uint64(own.hash)
        distance = POPCOUNT[unlike.view(np.uint16).reshape(-1, 4)].sum(1)
        near = (distinct[i] for i in np.flatnonzero(distance <= MAX_HASH_DISTANCE))
        first = next((other for other in near if _look_alike(own, signatures[other])), None)
        if first is not None:
            pairs.append((path, first))
        else:
            hashes[len(distinct)] = own.hash
            distinct.append(path)
    return pairs


def _look_alike(a: Signature, b: Signature) -> bool:
    difference = np.abs(a.thumbnail.astype(np.int16) - b.thumbnail)
    return difference.mean() <= MAX_MEAN and difference.max() <= MAX_DIFFERENCE
