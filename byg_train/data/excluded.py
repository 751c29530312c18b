"""struck.txt: what a person has struck from a set, kept apart from the set itself.

A line names a picture, relative to the data folder, and so strikes all of its tuples; with a tab
and an instruction after the name it strikes that one tuple. Lines that begin with # say nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath

from ..files import atomic
from . import Problem, Row

STRUCK = "struck.txt"
HEAD = """\
# What training leaves out of this folder, a line each. A picture strikes all of its tuples; with a
# tab and an instruction behind it, that tuple alone. Delete a line to take it back.
"""

# (file_name, instruction); None: whatever is asked of this picture.
Entry = tuple[str, str | None]


def file_key(name: str, root: Path) -> str:
    """One spelling of a picture's name: relative to the data folder, with forward slashes."""
    base = root.resolve()
    path = base / name.strip()
    return (path.relative_to(base) if path.is_relative_to(base) else PurePath(name)).as_posix()


def row_entry(row: Row, root: Path) -> Entry | None:
    """What strikes this tuple alone; None if it names no picture."""
    name, instruction = row.fields.get("file_name"), row.fields.get("instruction")
    if not isinstance(name, str) or not name.strip():
        return None
    return file_key(name, root), _flat(instruction) if isinstance(instruction, str) else ""


def read_struck(root: Path) -> set[Entry]:
    """The entries of a folder's struck.txt; none if there is no such file."""
    path = root / STRUCK
    if not path.is_file():
        return set()
    entries: set[Entry] = set()
    for line in path.read_text(encoding="utf-8-sig", errors="replace").split("\n"):
        name, tab, instruction = line.partition("\t")
        if name.strip() and not name.startswith("#"):
            entries.add((file_key(name, root), _flat(instruction) if tab else None))
    return entries


def write_struck(root: Path, entries: Iterable[Entry]) -> None:
    """Replace a folder's struck.txt, atomically."""
    lines = (_line(*entry) for entry in sorted(entries, key=lambda e: (e[0], e[1] or "")))
    with atomic(root / STRUCK) as temporary:
        temporary.write_text(HEAD + "".join(lines), encoding="utf-8")


def without_struck(
    rows: list[Row], problems: list[Problem], root: Path
) -> tuple[list[Row], list[Problem], int]:
    """The rows that are left, the problems that are not about struck pictures, how many went."""
    struck = read_struck(root)
    if not struck:
        return rows, problems, 0
    left = [row for row in rows if not is_struck(row_entry(row, root), struck)]
    pictures = {name for name, instruction in struck if instruction is None}
    # Style folders tell of a picture that cannot become tuples by its name.
    kept = [problem for problem in problems if problem.where not in pictures]
    return left, kept, len(rows) - len(left) + len(problems) - len(kept)


def is_struck(entry: Entry | None, struck: set[Entry]) -> bool:
    """Whether a tuple is struck by itself or with its picture."""
    return entry is not None and (entry in struck or (entry[0], None) in struck)


def _line(name: str, instruction: str | None) -> str:
    name = f"./{name}" if name.startswith("#") else name
    return f"{name}\n" if instruction is None else f"{name}\t{instruction}\n"


def _flat(text: str) -> str:
    return " ".join(text.split())
