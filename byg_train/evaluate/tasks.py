"""Folders of tasks and folders of results, paired by name.

A folder of tasks holds source pictures or clips, and their instructions in metadata.jsonl; a
method's folder holds one result for every task.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Protocol

from ..data import DataError, Problem, Row
from ..data.manifest import find_manifest, manifest_rows
from ..data.rows import on_disk
from ..media import MediaError
from ..media.formats import MEDIA
from ..media.reader import DecodedClip, read_media


class Files(Protocol):
    """What counts as a picture or clip; MEDIA, or what a browser shows."""

    @property
    def words(self) -> str:
        """What messages call them."""

    def holds(self, path: Path) -> bool:
        """Whether a file is one."""


@dataclass(frozen=True)
class Task:
    """One edit to make."""

    name: str  # name of its result in every method's folder, without suffix
    source: Path
    instruction: str
    group: str = ""  # a row of its own in tables
    src_caption: str = ""  # captions may be missing
    tgt_caption: str = ""
    intersection: bool = False  # GEdit-Bench: no service refused this edit


def read_tasks(
    root: Path, formats: Files, instruction: str | None, problems: list[Problem]
) -> dict[str, Task]:
    """Read the tasks by the names of their results; errors are appended to `problems`.

    The folder's metadata.jsonl gives for every edit `file_name` and `instruction`, and optionally
    `result` (the results' name, if it is not the source's), `group` or `edit_type`, and captions.

    Args:
        root: the folder of sources.
        formats: what counts as a source.
        instruction: the instruction of every edit, instead of a manifest.
        problems: receives what cannot be used.
    """
    if instruction is not None:
        files = named_files(root, formats, problems)
        return {name: Task(name, path, instruction) for name, path in files.items()}
    manifest = find_manifest(root) if root.is_dir() else None
    if manifest is None:
        raise DataError(
            f"{root} has no metadata.jsonl with the instruction of each edit; write one "
            '({"file_name": "cat.png", "instruction": "Put the cat on snow"} on each line), or '
            "give one instruction for all"
        )
    rows, broken = manifest_rows(manifest)
    problems += broken
    rows = on_disk(rows, root)
    tasks: dict[str, Task] = {}
    for row in rows:
        task = _task(row, root, formats, problems)
        if task and task.name in tasks:
            twice = f"a second edit with results named {task.name}"
            problems.append(Problem(row.where, twice, "a `result` of its own for every edit"))
        if task:
            tasks[task.name] = task
    return tasks


def expect_tasks(root: Path, instruction: str | None) -> dict[str, Task]:
    """Read the tasks of a folder of pictures and clips; DataError with everything that is wrong."""
    problems: list[Problem] = []
    tasks = read_tasks(root, MEDIA, instruction, problems)
    if problems or not tasks:
        raise DataError(f"{root} cannot be used as tasks", problems)
    return tasks


def named_files(root: Path, formats: Files, problems: list[Problem]) -> dict[str, Path]:
    """Map names without suffix to files of these formats, ignoring hidden ones."""
    if not root.is_dir():
        raise DataError(f"{root} is not a folder")
    files: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or not path.is_file() or not formats.holds(path):
            continue
        name = relative.with_suffix("").as_posix()
        if name in files:
            here = f"{files[name].name} and {path.name} in {root}"
            problems.append(Problem(name, here, "one file of that name"))
        files[name] = path
    return files


def read_clip(path: Path) -> DecodedClip:
    """Read a whole picture or clip; DataError if it cannot be read."""
    try:
        return read_media(path)
    except MediaError as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _task(row: Row, root: Path, formats: Files, problems: list[Problem]) -> Task | None:
    file, instruction = _text(row.fields, "file_name"), _text(row.fields, "instruction")
    name = _text(row.fields, "result") or Path(file).with_suffix("").as_posix() if file else ""
    if not file or not instruction:
        problems.append(Problem(row.where, "no file_name or no instruction", "both"))
    elif bad := next((each for each in (file, name) if _leads_out(each)), None):
        field = "file_name" if bad == file else "result"
        found = f"{field} {bad!r} leads out of the folder"
        problems.append(Problem(row.where, found, "a path inside it"))
    elif not (root / file).is_file() or not formats.holds(root / file):
        problems.append(Problem(row.where, f"no file {file} that can be shown", formats.words))
    else:
        return Task(
            name,
            root / file,
            instruction,
            _text(row.fields, "group") or _text(row.fields, "edit_type"),
            _text(row.fields, "src_caption"),
            _text(row.fields, "tgt_caption"),
            row.fields.get("intersection") is True,
        )
    return None


def _leads_out(name: str) -> bool:
    path, windows = Path(name), PureWindowsPath(name)
    return ".." in {*path.parts, *windows.parts} or path.is_absolute() or bool(windows.drive)


def _text(fields: dict[str, Any], name: str) -> str:
    return str(fields.get(name) or "").strip()
