"""An append-only file of a model's answers, so that an interrupted run asks nothing twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


class AnswerLog:
    """One JSON object per line. Lines that a crash has torn are skipped and counted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = 0  # unreadable lines found by `read`

    def read(self, take: Callable[[Any], None]) -> None:
        """Pass every entry to `take`, which may raise KeyError, TypeError or ValueError."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for line in file:
                try:
                    take(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    self.torn += bool(line.strip())

    def append(self, entry: dict[str, Any]) -> None:
        """Write an entry; it is on the disk when this returns."""
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
