"""The progress line: what is being done, how far, how long still, and every loss term."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress

# One console: a log line must go above the bar, not through it.
CONSOLE = Console(stderr=True)
TERMS = {"cycle": "cyc", "prior_fwd": "pri→", "prior_rev": "pri←", "identity": "id"}
# Where no terminal shows a bar, a plain line every so many steps.
PLAIN_EVERY = 25


class Progress:
    """A bar with an ETA; in a log file, a line now and then."""

    def __init__(self, total: int, what: str = "training") -> None:
        self.what, self.total, self.smooth = what, total, {}
        self.bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("eta"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=CONSOLE,
            speed_estimate_period=3600,  # a step may take minutes
        )

    def __enter__(self) -> Progress:
        self.bar.__enter__()
        self.task = self.bar.add_task(self.what, total=self.total, note="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.__exit__(kind, error, trace)

    def advance(self, done: int = 1) -> None:
        """So many more are done."""
        self.bar.update(self.task, advance=done)

    def show(self, record: dict, warming_up: bool, done: int) -> None:
        """A training step: smoothed terms, and `warm-up` while the method has not begun."""
        for name in TERMS:
            if name in record:
                before = self.smooth.get(name, record[name])
                self.smooth[name] = 0.9 * before + 0.1 * record[name]
        note = " ".join(f"{TERMS[n]} {v:.3f}" for n, v in self.smooth.items())
        what = f"warm-up {record['step']}" if warming_up else self.what
        self.bar.update(self.task, completed=done, description=what, note=note)
        if not CONSOLE.is_terminal and record["step"] % PLAIN_EVERY == 0:
            left = self.bar.tasks[0].time_remaining
            eta = "?" if left is None else f"{left / 60:.0f} min"
            CONSOLE.print(f"{what} {done}/{self.total} eta {eta} {note}")
