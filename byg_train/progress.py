"""The progress line: what is being done, how far, how long still, and every loss term."""

from __future__ import annotations

import time
from types import TracebackType
from typing import NamedTuple

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.__exit__(kind, error, trace)

    def advance(self, done: int = 1, note: str | None = None) -> None:
        """Advance by a number of items; a note replaces the one at the end of the line."""
        fields = {} if note is None else {"note": note}
        self.bar.update(self.task, advance=done, **fields)
        task = self.bar.tasks[0]
        if not task.finished and time.monotonic() - self.spoke > SILENCE:
            self._speak(int(task.completed), int(task.total), task.fields["note"])

    def show(self, record: dict, phase: Phase) -> None:
        """A training step: how far its phase is, and every loss term, smoothed."""
        for name in self.labels:
            if name in record:
                before = self.smooth.get(name, record[name])
                self.smooth[name] = 0.9 * before + 0.1 * record[name]
        known = [(label, self.smooth[n]) for n, label in self.labels.items() if n in self.smooth]
        note = " ".join(f"{label} {value:.3f}" for label, value in known)
        if phase.what != self.phase.what:
            self.bar.reset(self.task, total=phase.total, description=phase.what)
        self.phase = phase
        self.bar.update(self.task, completed=phase.done, note=note)
        if record["step"] % PLAIN_EVERY == 0:
            self._speak(phase.done, phase.total, note)

    def _speak(self, done: int, total: int, note: str) -> None:
        """A plain line, where no terminal shows the bar."""
        self.spoke = time.monotonic()
        if not CONSOLE.is_terminal:
            left = rough(self.bar.tasks[0].time_remaining)
            CONSOLE.print(f"{self.phase.what} {done}/{total} eta {left} {note}".rstrip())


def rough(seconds: float | None) -> str:
    """`45 s` or `5 min`; `?` where nothing is known yet."""
    if seconds is None:
        return "?"
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
