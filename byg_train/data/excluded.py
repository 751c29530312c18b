"""excluded.txt: what a person has excluded from training, kept apart from the data set itself.

A line with a file name, relative to the data folder, excludes all tuples of that file; a tab and an
instruction after the name exclude that one tuple. Lines that begin with # are comments.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path, PurePath

from ..files import write_text
from ..text_files import read_text
from . import Problem, Row
from .names import is_file

log = logging.getLogger("byg_train")
EXCLUDED = "excluded.txt"
# Its former name; still read, so that nobody's decisions are lost.
FORMER = "struck.txt"
HEAD = """\
# What training leaves out of this folder, one entry per line. A file name excludes all tuples of
# the file; a tab and an instruction after it exclude that tuple alone. Delete a line to undo it.
"""

# (file_name, instruction); instruction None stands for all tuples of the file.
Entry = tuple[str, str | None]


def file_key(name: str, root: Path) -> str:
    """The canonical spelling of a file name: relative to the data folder, with forward slashes."""
    base = root.resolve()
    path = base / (name if is_file(base / name) else name.strip())
    return (path.relative_to(base) if path.is_relative_to(base) else PurePath(name)).as_posix()


def row_entry(row: Row, root: Path) -> Entry | None:
    """The entry that excludes this tuple alone; None if the row names no file."""
    name, instruction = row.fields.get("file_name"), row.fields.get("instruction")
    if not isinstance(name, str) or not name.strip():
        return None
    return file_key(name, root), _flat(instruction) if isinstance(instruction, str) else ""


def read_excluded(root: Path) -> set[Entry]:
    """Read the entries of a folder's excluded.txt; empty if there is no such file."""
    path = root / EXCLUDED
    if not path.is_file():
        path = root / FORMER
        if not path.is_file():
            return set()
        log.warning("%s is read as %s, which is its name now: rename it", path, EXCLUDED)
    entries: set[Entry] = set()
    for line in read_text(path).split("\n"):
        name, tab, instruction = line.partition("\t")
        if name.strip() and not name.startswith("#"):
            entries.add((file_key(name, root), _flat(instruction) if tab else None))
    return entries


def write_excluded(root: Path, entries: Iterable[Entry]) -> None:
    """Replace a folder's excluded.txt, atomically."""
    lines = (_line(*entry) for entry in sorted(entries, key=lambda e: (e[0], e[1] or "")))
    write_text(root / EXCLUDED, HEAD + "".join(lines))


def drop_excluded(
    rows: list[Row], problems: list[Problem], root: Path
) -> tuple[list[Row], list[Problem], int]:
    """Return the remaining rows, the problems that concern no excluded file, and how many went."""
    excluded = read_excluded(root)
    if not excluded:
        return rows, problems, 0
    left = [row for row in rows if not is_excluded(row_entry(row, root), excluded)]
    files = {name for name, instruction in excluded if instruction is None}
    # A file of a style folder that cannot become tuples is reported under its name.
    kept = [problem for problem in problems if problem.where not in files]
    return left, kept, len(rows) - len(left) + len(problems) - len(kept)


def is_excluded(entry: Entry | None, excluded: set[Entry]) -> bool:
    """Whether a tuple is excluded by itself or together with its file."""
    return entry is not None and (entry in excluded or (entry[0], None) in excluded)


def _line(name: str, instruction: str | None) -> str:
    name = f"./{name}" if name.startswith("#") else name
    return f"{name}\n" if instruction is None else f"{name}\t{instruction}\n"


def _flat(text: str) -> str:
    return " ".join(text.split())
