"""What is compared: results of two methods that have the same name, and their source."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from ..data import DataError, Problem, Row
from ..data.manifest import find_manifest, manifest_rows

# What a browser shows, and what it is told that it gets. A .mov is an .mp4 to browsers, or nothing.
PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
}
VIDEOS = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm"}
TYPES = PICTURES | VIDEOS
KINDS = "png, jpg, webp, gif, mp4, mov or webm"


@dataclass(frozen=True)
class Item:
    """One comparison: two results of one edit."""

    name: str  # the results' path in either folder, without suffix
    instruction: str
    group: str  # for a table of its own in the report; may be empty
    source: Path
    a: Path
    b: Path

    def digest(self) -> str:
        """Names the contents, instruction included: votes on other contents are other votes."""
        state = hashlib.sha256(self.instruction.encode())
        for path in (self.source, self.a, self.b):
            state.update(hashlib.sha256(path.read_bytes()).digest())
        return state.hexdigest()


@dataclass(frozen=True)
class Edit:
    """What the sources' folder says of one edit."""

    source: Path
    instruction: str
    group: str


def find_items(a: Path, b: Path, sources: Path, instruction: str | None) -> list[Item]:
    """Every comparison, by name; DataError with everything that does not fit.

    Args:
        a: folder of one method's results, one file per edit.
        b: folder of the other's, with the same names (suffixes may differ).
        sources: folder of what was edited. Its metadata.jsonl says for every edit `file_name` and
            `instruction`, where needed `result` (the results' name, if it is not the source's) and
            `group` or `edit_type`.
        instruction: of every edit, instead of a manifest.
    """
    problems: list[Problem] = []
    results_a, results_b = _media(a, problems), _media(b, problems)
    edits = _edits(sources, instruction, problems)
    for name in sorted(results_a.keys() ^ results_b.keys()):
        here, there = (a, b) if name in results_a else (b, a)
        problems.append(Problem(name, f"only in {here}", f"a result of that name in {there} too"))
    both = sorted(results_a.keys() & results_b.keys())
    for name in (name for name in both if name not in edits):
        problems.append(Problem(name, f"not among the edits of {sources}", "its source"))
    if problems or not both:
        head = f"{a} and {b} cannot be compared"
        raise DataError(head if problems else f"{head}: no {KINDS} in them", problems)
    return [
        Item(name, e.instruction, e.group, e.source, results_a[name], results_b[name])
        for name, e in ((name, edits[name]) for name in both)
    ]


def _media(root: Path, problems: list[Problem]) -> dict[str, Path]:
    """Name without suffix -> file, for all that can be shown."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or path.suffix.lower() not in TYPES or not path.is_file():
            continue
        name = relative.with_suffix("").as_posix()
        if name in found:
            here = f"{found[name].name} and {path.name} in {root}"
            problems.append(Problem(name, here, "one file of that name"))
        found[name] = path
    return found


def _edits(root: Path, instruction: str | None, problems: list[Problem]) -> dict[str, Edit]:
    """Name of the results -> what was edited, and how."""
    if instruction is not None:
        return {name: Edit(path, instruction, "") for name, path in _media(root, problems).items()}
    manifest = find_manifest(root) if root.is_dir() else None
    if manifest is None:
        raise DataError(
            f"{root} has no metadata.jsonl, so nobody would know what was asked for; write one "
            '({"file_name": "cat.png", "instruction": "Put the cat on snow"} on each line), or '
            "pass --instruction if it is the same for all"
        )
    rows, broken = manifest_rows(manifest)
    problems += broken
    edits: dict[str, Edit] = {}
    for row in rows:
        name, edit = _edit(row, root, problems)
        if name in edits:
            twice = f"a second edit with results named {name}"
            problems.append(Problem(row.where, twice, "a `result` of its own for every edit"))
        if name and edit:
            edits[name] = edit
    return edits


def _edit(row: Row, root: Path, problems: list[Problem]) -> tuple[str, Edit | None]:
    file, instruction = _text(row.fields, "file_name"), _text(row.fields, "instruction")
    parts = {*Path(file).parts, *PureWindowsPath(file).parts}
    if not file or not instruction:
        problems.append(Problem(row.where, "no file_name or no instruction", "both"))
    elif ".." in parts or Path(file).is_absolute() or PureWindowsPath(file).drive:
        leads = f"file_name {file!r} leads out of the folder"
        problems.append(Problem(row.where, leads, "a path inside it"))
    elif Path(file).suffix.lower() not in TYPES or not (root / file).is_file():
        problems.append(Problem(row.where, f"no file {file} that a browser shows", KINDS))
    else:
        name = _text(row.fields, "result") or Path(file).with_suffix("").as_posix()
        group = _text(row.fields, "group") or _text(row.fields, "edit_type")
        return name, Edit(root / file, instruction, group)
    return "", None


def _text(fields: dict[str, Any], name: str) -> str:
    return str(fields.get(name) or "").strip()
