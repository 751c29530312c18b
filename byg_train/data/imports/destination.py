"""Put imported files into a data folder: copied, or referred to where they are."""

from __future__ import annotations

import filecmp
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files import atomic, copy_file
from .. import DataError, Problem
from ..rule_codes import NEEDS_COPY, SAME_NAME
from ..unused import Unused
from .common import Imported, Read


@dataclass(frozen=True)
class Destination:
    """A data folder to import into.

    Args:
        root: the data folder.
        copies: copy files into it; otherwise rows refer to files that must lie in it already.
        style: name of the style folder that the copies form, with a caption beside each file.
    """

    root: Path
    copies: bool
    style: str | None = None

    def survey(self, items: Iterable[Read]) -> tuple[int, list[Problem], list[Unused]]:
        """Count the usable files, list what is wrong with others, and what no files of data are."""
        number, problems, unused, taken = 0, [], [], {}
        for each in items:
            if isinstance(each, Unused):
                unused.append(each)
                continue
            problem = each if isinstance(each, Problem) else self._problem(each, taken)
            if problem:
                problems.append(problem)
            else:
                number += 1
        return number, problems, unused

    def put(self, item: Imported) -> dict[str, Any]:
        """Bring a file to its place; returns its row of the manifest."""
        if not self.copies:
            name = item.content.resolve().relative_to(self.root.resolve())
            return {"file_name": name.as_posix(), **item.fields}
        name = self._name(item)
        _write(item.content, self.root / name)
        if self.style:
            caption = f"{item.fields['src_caption'].strip()}\n"
            _write(caption.encode(), (self.root / name).with_suffix(".txt"))
        return {"file_name": name.as_posix(), **item.fields}

    def _problem(self, item: Imported, taken: dict[Path, str]) -> Problem | None:
        """Why a file cannot be put; `taken` remembers what comes to each place."""
        if self.copies:
            return self._clash(item, taken)
        if isinstance(item.content, bytes):
            what, wanted = "a picture inside a table", "a folder to write it to"
            return Problem(item.where, what, wanted, NEEDS_COPY)
        if not item.content.resolve().is_relative_to(self.root.resolve()):
            what = f"{item.content}, which is outside of {self.root}"
            return Problem(item.where, what, "a folder to copy it to", NEEDS_COPY)
        return None

    def _clash(self, item: Imported, taken: dict[Path, str]) -> Problem | None:
        name = self._name(item)
        places = {name: str(item.content) if isinstance(item.content, Path) else item.where}
        if self.style:
            places[name.with_suffix(".txt")] = item.fields["src_caption"]
        for place, content in places.items():
            if taken.setdefault(place, content) != content:
                return Problem(item.where, f"a second {place}", "another file name", SAME_NAME)
        return None

    def _name(self, item: Imported) -> Path:
        """The place of a copy, relative to the data folder; style folders are flat."""
        return Path(self.style, item.name.replace("/", "_")) if self.style else Path(item.name)


def _write(content: Path | bytes, target: Path) -> None:
    """Write a file; one that exists already must have the same content."""
    if target.exists():
        same = (
            target.read_bytes() == content
            if isinstance(content, bytes)
            else filecmp.cmp(content, target, shallow=False)
        )
        if not same:
            raise DataError(f"{target} is already there, and is another file; move it away first")
        return
    if isinstance(content, bytes):
        with atomic(target) as temporary:
            temporary.write_bytes(content)
    else:
        copy_file(content, target)
