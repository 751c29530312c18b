"""The progress line: what is being done, how far, how long still, and every loss term."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

# One console: a log line must go above the bar, not through it.
CONSOLE = Console(stderr=True)
# Where no terminal shows a bar: a plain line every so many training steps, and in other phases
# whenever so many seconds have gone by in silence.
PLAIN_EVERY, SILENCE = 25, 15


class Phase(NamedTuple):
    """A part of a run that has a total, and an ETA, of its own."""

    total: int
    what: str
    done: int = 0


class Left(TimeRemainingColumn):
    """`eta 0:02:30`, and at the end `took 0:05:10`."""

    def __init__(self) -> None:
        super().__init__(elapsed_when_finished=True, table_column=Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        """Render one cell of the line."""
        return Text("took " if task.finished else "eta ") + super().render(task)


class Progress:
    """A bar with an ETA; in a log file, a line now and then."""

    def __init__(
        self,
        total: int,
        what: str = "training",
        done: int = 0,
        labels: dict[str, str] | None = None,
    ) -> None:
        """`labels`: what the terms of a record are called in `show`, in their order."""
        self.phase, self.smooth, self.labels = Phase(total, what, done), {}, labels or {}
        self.said = ""  # behind the terms of every step
        self.spoke = time.monotonic()
        self.bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),  # what the rest of the line leaves
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            Left(),
            TextColumn("{task.fields[note]}"),
            console=CONSOLE,
            speed_estimate_period=3600,  # a step may take minutes
            expand=True,
        )

    def __enter__(self) -> Progress:
        total, what, done = self.phase
        self.bar.__enter__()
        self.task = self.bar.add_task(what, total=total, completed=done, note="")
        return self

    def __exit__(self, *error: Any) -> None:
        self.bar.__exit__(*error)

    @contextmanager
    def within(self, total: int, what: str) -> Iterator[Callable[[], None]]:
        """A piece of work inside of this one, on a line of its own; to be called part by part."""
        task, count = self.bar.add_task(what, total=total, note=""), itertools.count(1)

        def advance() -> None:
            self.bar.advance(task)
            self._break_silence(what, next(count), total)

        try:
            yield advance
        finally:
            self.bar.remove_task(task)

    def advance(self, done: int = 1, note: str | None = None) -> None:
        """Advance by a number of items; a note replaces the one at the end of the line."""
        fields = {} if note is None else {"note": note}
        self.bar.update(self.task, advance=done, **fields)
        task = self.bar.tasks[0]
        if not task.finished:
            what, note = self.phase.what, task.fields["note"]
            self._break_silence(what, int(task.completed), int(task.total), note)

    def follow(self, done: int, of: int) -> None:
        """Stand at `done`, of a total that is known only now."""
        self.phase = self.phase._replace(total=of)
        self.bar.update(self.task, total=of, completed=done - 1)
        self.advance()

    def show(self, record: dict, phase: Phase) -> None:
        """A training step: how far its phase is, and every loss term, smoothed."""
        for name in self.labels:
            if record.get(name) is not None:
                before = self.smooth.get(name, record[name])
                self.smooth[name] = 0.9 * before + 0.1 * record[name]
        known = [(label, self.smooth[n]) for n, label in self.labels.items() if n in self.smooth]
        note = " ".join([*(f"{label} {value:.3f}" for label, value in known), self.said]).rstrip()
        if phase.what != self.phase.what:
            self.bar.reset(self.task, total=phase.total, description=phase.what)
        self.phase = phase
        self.bar.update(self.task, completed=phase.done, note=note)
        if record["step"] % PLAIN_EVERY == 0:
            self._speak(phase.what, phase.done, phase.total, note)

    def _break_silence(self, what: str, done: int, total: int, note: str = "") -> None:
        if time.monotonic() - self.spoke > SILENCE:
            self._speak(what, done, total, note)

    def _speak(self, what: str, done: int, total: int, note: str) -> None:
        """A plain line, where no terminal shows the bar; `what` may be a part of the work."""
        self.spoke = time.monotonic()
        if not CONSOLE.is_terminal:
            left = rough(self.bar.tasks[0 if what == self.phase.what else -1].time_remaining)
            line = f"{what} {done}/{total} eta {left} {note}".rstrip()
            CONSOLE.print(line, soft_wrap=True)  # a log is read line by line


@contextmanager
def watched(total: int, what: str, line: Progress | None) -> Iterator[Callable[[], None]]:
    """Progress of a piece of work, inside of a line or with one of its own."""
    if line:
        with line.within(total, what) as advance:
            yield advance
    else:
        with Progress(total, what) as alone:
            yield alone.advance


def rough(seconds: float | None) -> str:
    """`45 s` or `5 min`; `?` where nothing is known yet."""
    if seconds is None:
        return "?"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
