"""The journal of a captioned folder: every answer is stored before it counts.

A run that was killed asks nothing twice. Only torn answers, and everything about a file whose size
has changed, are asked again.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from .. import DataError

FOLDER = ".byg_caption"
NAME = "journal.jsonl"


class AnswerLog(ABC):
    """One JSON object per line. Lines that a crash has torn are skipped and counted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = 0  # unreadable lines found by `read`

    @abstractmethod
    def take(self, entry: dict[str, Any]) -> None:
        """Make use of an entry; raises KeyError, TypeError or ValueError for one that is broken."""

    def read(self) -> None:
        """Take every stored entry."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                try:
                    self.take(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    self.torn += bool(line.strip())

    def append(self, entry: dict[str, Any]) -> None:
        """Write an entry, and only then take it; it is on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        with self.path.open("ab+") as file:
            if not _ends_with_newline(file):
                file.write(b"\n")  # a torn line must not swallow this one
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            _sync_folder(self.path.parent)
        self.take(entry)


def _ends_with_newline(file: BinaryIO) -> bool:
    """Whether a file, opened for reading and appending, is empty or ends with a whole line."""
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _sync_folder(folder: Path) -> None:
    """Sync the folder too, so that a new file's name survives a power cut (not on Windows)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass
class Known:
    """What a model has said about one file."""

    size: int  # bytes of the file when the model was asked
    results: dict[str, dict[str, str]] = field(default_factory=dict)  # by step
    # Unusable answers by (step, model).
    tries: Counter[tuple[str, str]] = field(default_factory=Counter)
    problem: str = ""  # what was wrong with the last unusable answer


class Journal(AnswerLog):
    """The answers about one data folder; a context manager that admits one process at a time."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / FOLDER / NAME)
        self.answers = 0  # usable or not
        self.tokens = Counter(asked=0, answered=0)  # of all answers ever
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
        self.read()  # only now: another process may have written before the lock was free
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def known(self, name: str, size: int) -> Known:
        """What is known about a file in its present size."""
        known = self._known.get(name)
        if known and known.size != size:
            self._former.setdefault(name, []).append(known)
        if known is None or known.size != size:
            known = self._known[name] = Known(size)
        return known

    def former(self, name: str) -> list[Known]:
        """What was known about earlier files of this name."""
        return self._former.get(name, [])

    def holds(self, name: str) -> bool:
        """Whether a model was ever asked about a file of this name."""
        return name in self._known

    def take(self, entry: dict[str, Any]) -> None:
        """Count an answer."""
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
