"""Folders of tasks and folders of results, paired by name.

A folder of tasks holds source pictures or clips, and their instructions in metadata.jsonl; a
method's folder holds one result for every task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data import DataError, Problem, Row
from ..data.manifest import find_manifest, manifest_rows
from ..data.names import leads_out
from ..data.rows import on_disk, optional
from ..media import MediaError
from ..media.formats import MEDIA, Formats
from ..media.reader import DecodedClip, read_media


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
    root: Path, formats: Formats, instruction: str | None, problems: list[Problem]
) -> dict[str, Task]:
    """Read the tasks by the names of their results; errors are appended to `problems`.

    The folder's metadata.jsonl gives for every edit `file_name` and `instruction`, and optionally
    `result` (the results' name, if it is not the source's), `group` or `edit_type`, and captions.
    An `instruction` is that of every edit, instead of a manifest. `formats` count as sources.
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


def named_files(root: Path, formats: Formats, problems: list[Problem]) -> dict[str, Path]:
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


def expect_files(root: Path, what: str) -> dict[str, Path]:
    """The pictures and clips of a folder by their names; DataError if it has none, or two alike."""
    problems: list[Problem] = []
    files = named_files(root, MEDIA, problems)
    if problems or not files:
        raise DataError(f"{root} cannot be used as {what}", problems)
    return files


def short_names(folders: Sequence[Path]) -> dict[Path, str]:
    """Names of folders, each with as many parents as are needed to tell it from every other."""
    parts = {folder: folder.resolve().parts for folder in folders}

    def name(folder: Path) -> str:
        own, others = parts[folder], [parts[other] for other in folders if other is not folder]
        apart = (
            next(d for d in range(1, len(own) + len(other)) if own[-d:] != other[-d:])
            for other in others
        )
        return "/".join(own[-max(apart, default=1) :])

    return {folder: name(folder) for folder in folders}


def read_clip(path: Path) -> DecodedClip:
    """Read a whole picture or clip; DataError if it cannot be read."""
    try:
        return read_media(path)
    except MediaError as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _task(row: Row, root: Path, formats: Formats, problems: list[Problem]) -> Task | None:
    file, instruction = optional(row.fields, "file_name"), optional(row.fields, "instruction")
    name = optional(row.fields, "result") or Path(file).with_suffix("").as_posix() if file else ""
    if not file or not instruction:
        problems.append(Problem(row.where, "no file_name or no instruction", "both"))
    elif bad := next((each for each in (file, name) if leads_out(each)), None):
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
            optional(row.fields, "group") or optional(row.fields, "edit_type"),
            optional(row.fields, "src_caption"),
            optional(row.fields, "tgt_caption"),
            row.fields.get("intersection") is True,
        )
    return None
