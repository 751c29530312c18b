"""Put imported files into a data folder: copied, or referred to where they are."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...files import atomic
from .. import DataError, Problem
from ..rule_codes import NEEDS_COPY, SAME_NAME
from ..unused import Unused
from .common import Found


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

    def survey(
        self, found: Iterable[Found | Problem | Unused]
    ) -> tuple[int, list[Problem], list[Unused]]:
        """Count the usable files, list what is wrong with others, and what no files of data are."""
        number, problems, unused, taken = 0, [], [], {}
        for each in found:
            if isinstance(each, Unused):
                unused.append(each)
                continue
            problem = each if isinstance(each, Problem) else self._problem(each, taken)
            if problem:
                problems.append(problem)
            else:
                number += 1
        return number, problems, unused

    def put(self, found: Found) -> dict[str, Any]:
        """Bring a file to its place; returns its row of the manifest."""
        if not self.copies:
            name = found.content.resolve().relative_to(self.root.resolve())
            return {"file_name": name.as_posix(), **found.fields}
        name = self._name(found)
        _write(found.content, self.root / name)
        if self.style:
            caption = f"{found.fields['src_caption'].strip()}\n"
            _write(caption.encode(), (self.root / name).with_suffix(".txt"))
        return {"file_name": name.as_posix(), **found.fields}

    def _problem(self, found: Found, taken: dict[Path, str]) -> Problem | None:
        """Why a file cannot be put; `taken` remembers what comes to each place."""
        if self.copies:
            return self._clash(found, taken)
        if isinstance(found.content, bytes):
            what, wanted = "a picture inside a table", "a folder to write it to"
            return Problem(found.where, what, wanted, NEEDS_COPY)
        if not found.content.resolve().is_relative_to(self.root.resolve()):
            what = f"{found.content}, which is outside of {self.root}"
            return Problem(found.where, what, "a folder to copy it to", NEEDS_COPY)
        return None

    def _clash(self, found: Found, taken: dict[Path, str]) -> Problem | None:
        name = self._name(found)
        places = {name: str(found.content) if isinstance(found.content, Path) else found.where}
        if self.style:
            places[name.with_suffix(".txt")] = found.fields["src_caption"]
        for place, content in places.items():
            if taken.setdefault(place, content) != content:
                return Problem(found.where, f"a second {place}", "another file name", SAME_NAME)
        return None

    def _name(self, found: Found) -> Path:
        """The place of a copy, relative to the data folder; style folders are flat."""
        return Path(self.style, found.name.replace("/", "_")) if self.style else Path(found.name)


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
    with atomic(target) as temporary:
        if isinstance(content, bytes):
            temporary.write_bytes(content)
        else:
            shutil.copyfile(content, temporary)
