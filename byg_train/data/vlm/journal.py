"""The journal of a captioned folder: every answer is stored before it counts.

A run that was killed asks nothing twice. Only torn answers, and everything about a file whose size
has changed, are asked again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from .. import DataError
from .answer_log import AnswerLog

FOLDER = ".byg_caption"
NAME = "journal.jsonl"


@dataclass
class Known:
    """What a model has said about one file."""

    size: int  # bytes of the file when the model was asked
    results: dict[str, dict[str, str]] = field(default_factory=dict)  # by step
    # Unusable answers by (step, model).
    tries: Counter[tuple[str, str]] = field(default_factory=Counter)
    problem: str = ""  # what was wrong with the last unusable answer


class Journal:
    """The answers about one data folder; a context manager that admits one process at a time."""

    def __init__(self, root: Path) -> None:
        self.answers = 0  # usable or not
        self.tokens = Counter(asked=0, answered=0)  # of all answers ever
        self._log = AnswerLog(root / FOLDER / NAME)
        self._known: dict[str, Known] = {}
        self._former: dict[str, list[Known]] = {}

    @property
    def path(self) -> Path:
        """The file that holds the answers."""
        return self._log.path

    @property
    def torn(self) -> int:
        """How many lines could not be read."""
        return self._log.torn

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    def read(self) -> None:
        """Load the stored answers, if there are any."""
        self._log.read(self._count)

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

    def append(self, entry: dict[str, Any]) -> None:
        """Store an answer, and only then count it."""
        self._log.append(entry)
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
