"""Every answer of a model, on disk before it counts: a run that was killed asks nothing twice.

One JSON object per line, appended and synced. A line that a crash has torn is skipped; what it held
is asked again, as is everything about a file whose size has changed.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from .. import DataError

FOLDER = ".byg_caption"
NAME = "journal.jsonl"


@dataclass
class Known:
    """What a model has said about one file."""

    size: int  # bytes of the file when it was asked about
    results: dict[str, dict[str, str]] = field(default_factory=dict)  # by step
    tries: Counter[tuple[str, str]] = field(default_factory=Counter)  # of (step, model), unusable
    problem: str = ""  # of the last unusable answer


class Journal:
    """The answers about one data folder; a context manager that lets in one process at a time."""

    def __init__(self, root: Path) -> None:
        self.path = root / FOLDER / NAME
        self.answers = 0  # usable or not
        self.tokens = Counter(asked=0, answered=0)  # of all answers ever
        self.torn = 0  # lines that cannot be read
        self._known: dict[str, Known] = {}
        self._former: dict[str, list[Known]] = {}

    def __enter__(self) -> Journal:
        import filelock

        self.path.parent.mkdir(exist_ok=True)
        self._lock = filelock.FileLock(self.path.with_name("lock"))
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            folder = self.path.parent.parent
            raise DataError(f"{folder} is being captioned by another process") from None
        self.read()  # not before: another process may have written until now
        self._file = self.path.open("ab")
        if self._file.tell() and not self._ends_whole():
            self._file.write(b"\n")  # the next line does not go on where a torn one ends
        _sync_folder(self.path.parent)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._lock.release()

    def read(self) -> None:
        """Take in what the file holds, if there is one."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                try:
                    self._count(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    self.torn += bool(line.strip())

    def known(self, name: str, size: int) -> Known:
        """What is known of a file as it is now."""
        known = self._known.get(name)
        if known and known.size != size:
            self._former.setdefault(name, []).append(known)
        if known is None or known.size != size:
            known = self._known[name] = Known(size)
        return known

    def former(self, name: str) -> list[Known]:
        """What was known of other files that had this name before."""
        return self._former.get(name, [])

    def holds(self, name: str) -> bool:
        """Whether a model was ever asked about a file of this name."""
        return name in self._known

    def append(self, entry: dict[str, Any]) -> None:
        """Keep an answer, and only then count it."""
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._count(entry)

    def _count(self, entry: dict[str, Any]) -> None:
        step, result = entry["step"], entry.get("result")
        asked, answered = entry["tokens"]
        known = self.known(entry["file_name"], entry["size"])
        if result is None:
            known.problem = entry["problem"]
            known.tries[step, entry["model"]] += 1
        else:
            known.results[step] = result
        self.answers += 1
        self.tokens.update(asked=asked, answered=answered)

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def _sync_folder(folder: Path) -> None:
    """So that a new file's name survives a power cut too; Windows syncs no folders."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
