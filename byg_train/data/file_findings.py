"""What the linter says of files: alike, not used, enlarged, cropped, or cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..config import DataConfig
from ..media.fit import Coverage, buckets, nearest_bucket
from ..media.reader import Facts
from . import Problem, Row, counted
from .finding import SET, Finding
from .media_kind import MediaKind
from .near_duplicates import near_duplicates, signature
from .text_rules import WARNING
from .unused import IN_NO_TUPLE, by_reason, told, unused_files

# Rule codes of warnings that only the linter gives.
DUPLICATE, UNUSED = "duplicate", "unused"
ENLARGED, CROPPED, CUT = "enlarged", "cropped", "cut"


def duplicates(
    root: Path, pairs: list[tuple[Row, Path]], facts: dict[Path, Facts], kind: MediaKind
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
    root: Path, rows: list[Row], kind: MediaKind, problems: list[Problem]
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
