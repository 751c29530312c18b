"""What a metric says of itself: the record `METRIC` of its file in `metrics/`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..media.pixels import Frames
from ..media.reader import DecodedClip
from .judge import Ask
from .networks import Networks
from .tasks import Task

# Column -> value; None and NaN are missing.
Values = dict[str, float | None]
Truths = Mapping[str, Path]  # name of a task -> its true target


class Case(NamedTuple):
    """One edit with everything that can be compared, at the source's size."""

    task: Task
    source: DecodedClip
    edited: Frames
    truth: Frames | None


Measure = Callable[[Case], Values]
JudgeMeasure = Callable[[Case], Awaitable[Values]]


@dataclass(frozen=True)
class Metric:
    """A metric: its columns, what it needs, and how to compute it for one edit."""

    name: str
    about: str
    columns: tuple[str, ...] = ()
    """Its own name alone, if nothing is said."""
    needs: frozenset[str] = frozenset()
    """Inputs, as `registry.available_inputs` names them."""
    build: Callable[[Networks, Truths], Measure] | None = None
    build_judge: Callable[[Ask], JudgeMeasure] | None = None
    """In place of `build`, for metrics that ask a judge."""
    usual: bool = False
    """Taken when no metrics are named and all needs are met."""
    lower_is_better: bool = False
    place: int = 100
    """Where its columns stand in tables: the paper's Table 1 first."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", self.columns or (self.name,))


def against_truth(name: str, compare: Callable[[Frames, Frames], float]) -> Measure:
    """Compare the result with its true target, if it has one."""
    return lambda case: {} if case.truth is None else {name: compare(case.edited, case.truth)}
