"""Stopping a run from outside: before and after its loop at once, inside it at the next forward."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line listens before torch is loaded
    from torch import Tensor

    from ..core.roles import Text, Velocity

log = logging.getLogger("byg_train")
NOTHING_LOST = (
    "stopped before a step was taken; nothing is lost, and what was encoded stays encoded. "
    "Run the same command again to go on."
)


class Interrupted(Exception):  # noqa: N818  (no error: it was asked for)
    """The run was asked to stop and has lost nothing; `code` is the shell's exit status."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class SavedAndStopped(Interrupted):
    """The run was stopped while it trained, and saved: it can be resumed."""


class HalfStep(Exception):  # noqa: N818  (no error: it was asked for)
    """The run was asked to stop inside a step, or a look at held-out items, which takes minutes."""


def heedful(velocity: Velocity, asked: Callable[[], bool]) -> Velocity:
    """Return a network that answers no more (`HalfStep`) once a stop was asked for."""

    def answer(x_t: Tensor, t: Tensor, text: Text, source: Tensor | None = None) -> Tensor:
        if asked():
            raise HalfStep
        return velocity(x_t, t, text, source)

    return answer


@contextmanager
def stops_at_once(message: str) -> Iterator[None]:
    """End the work as `Interrupted` on SIGINT and SIGTERM, while nothing waits to be saved."""
    signals: list[int] = []

    def end(number: int, frame: object) -> None:
        signals.append(number)
        raise KeyboardInterrupt  # what everybody cleans up after, and nobody swallows

    with _signals(end):
        try:
            yield
        except KeyboardInterrupt:
            raise Interrupted(message, 128 + (signals or [signal.SIGINT])[0]) from None


@contextmanager
def stop_requests(signals: list[int]) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM; a second one of them acts as if nobody listened."""

    def note(number: int, frame: object) -> None:
        signals.append(number)
        signal.signal(number, before[number])
        log.warning("stopping; everything will be saved")

    with _signals(note) as before:
        yield signals


@contextmanager
def _signals(handler: Callable[[int, object], None]) -> Iterator[dict[int, object]]:
    """Handle both signals inside; yields who handled them before, and will again."""
    before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield before
    finally:
        for number, former in before.items():
            signal.signal(number, former)
