"""Stopping a run from outside: Ctrl-C and SIGTERM ask, the loop saves and leaves."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("byg_train")


class Interrupted(Exception):  # noqa: N818  (no error: it was asked for)
    """The run was asked to stop and has saved itself; `code` is the shell's exit status."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM; a second one of them acts as if nobody listened."""
    asked: list[int] = []

    def note(number: int, frame: object) -> None:
        asked.append(number)
        signal.signal(number, before[number])
        log.warning("stopping after this step; everything will be saved")

    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
