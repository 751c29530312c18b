"""Metrics over folders of results: a value per edit and column, then means and standard errors."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..data import DataError, Problem
from ..files import atomic
from .media import MEDIA, Film, at_size_of, read_film
from .models import Frames
from .summary import Summary, macro_mean, summarise
from .tasks import Task, named_files

# Column -> value; None and NaN are missing.
Values = dict[str, float | None]
# The source that GEdit-Bench's scripts put beside every result.
SOURCE_COPY = "_SRCIMG"


class Case(NamedTuple):
    """One edit with everything that can be compared, at the source's size."""

    task: Task
    source: Film
    edited: Frames
    truth: Frames | None


Measure = Callable[[Case], Values]
JudgeMeasure = Callable[[Case], Awaitable[Values]]


@dataclass
class Scores:
    """Everything that was measured of one method."""

    name: str
    tasks: Sequence[Task]
    values: dict[str, Values] = field(default_factory=dict)  # by the result's name

    def column(self, name: str, tasks: Iterable[Task] | None = None) -> Summary:
        """One column over all edits, or some; an edit without a value is counted as missing."""
        chosen = self.tasks if tasks is None else tasks
        return summarise(self.values.get(task.name, {}).get(name) for task in chosen)

    def groups(self, column: str, *, intersection: bool = False) -> dict[str, Summary]:
        """One column by group, in order; of GEdit's intersection alone if asked."""
        chosen = [t for t in self.tasks if t.group and (t.intersection or not intersection)]
        return {
            group: self.column(column, [t for t in chosen if t.group == group])
            for group in sorted({task.group for task in chosen})
        }


def find_results(folder: Path, tasks: Mapping[str, Task]) -> dict[str, Path]:
    """Name -> result of the tasks that have one; DataError where there is none at all."""
    problems: list[Problem] = []
    files = named_files(folder, MEDIA, problems)
    found = {name: path for name, path in files.items() if name in tasks}
    if not found:
        other = [name for name in files if not name.endswith(SOURCE_COPY)]
        hint = f"it holds {other[0]} and the like" if other else "it holds nothing to compare"
        wanted = next(iter(tasks))
        raise DataError(f"{folder} has no result of any task ({hint}; wanted {wanted}, ...)")
    if twice := [problem for problem in problems if problem.where in tasks]:
        raise DataError(f"{folder} cannot be scored", twice)
    return found


def measure(
    scores: Scores,
    results: Mapping[str, Path],
    truths: Mapping[str, Path],
    measures: Sequence[Measure],
    on_done: Callable[[], None] = lambda: None,
) -> None:
    """Add one method's values, one edit in memory at a time; DataError if a result does not fit."""
    for task in scores.tasks:
        if task.name in results:
            case = load_case(task, results[task.name], truths.get(task.name))
            values = scores.values.setdefault(task.name, {})
            for one in measures:
                values |= one(case)
        on_done()


async def judge(
    scores: Scores,
    results: Mapping[str, Path],
    measures: Sequence[JudgeMeasure],
    concurrency: int,
    on_done: Callable[[], None] = lambda: None,
) -> None:
    """Add what judges say of one method, so many edits at once; stops at the first ModelError."""
    slots = asyncio.Semaphore(concurrency)

    async def one(task: Task) -> None:
        async with slots:
            if task.name in results:
                case = await asyncio.to_thread(load_case, task, results[task.name], None)
                for measure in measures:
                    scores.values.setdefault(task.name, {}).update(await measure(case))
            on_done()

    work = [asyncio.create_task(one(task)) for task in scores.tasks]
    try:
        await asyncio.gather(*work)
    finally:
        for each in work:
            each.cancel()
        await asyncio.gather(*work, return_exceptions=True)


def load_case(task: Task, result: Path, truth: Path | None) -> Case:
    """Read an edit; DataError where lengths differ, for then frames have no counterparts."""
    source, edited = read_film(task.source), read_film(result)
    true = read_film(truth) if truth else None
    for path, film in ((result, edited), (truth, true)):
        if film and len(film.frames) != len(source.frames):
            raise DataError(
                f"{path} has {len(film.frames)} frames, its source {task.source} has "
                f"{len(source.frames)}; wanted as many"
            )
    frames = at_size_of(edited.frames, source.frames)
    return Case(task, source, frames, true and at_size_of(true.frames, source.frames))


# ---------------------------------------------------------------- what is written


def to_json(methods: Sequence[Scores], columns: Sequence[str]) -> dict[str, Any]:
    """All summaries and every value; NaN becomes null."""

    def told(summary: Summary) -> dict[str, Any]:
        return {name: _finite(value) for name, value in summary._asdict().items()}

    return {
        scores.name: {
            "all": {c: told(scores.column(c)) for c in columns},
            "groups": {
                group: {c: told(scores.groups(c)[group]) for c in columns}
                for group in scores.groups(columns[0])
            },
            "macro_mean": {c: _finite(macro_mean(scores.groups(c) or {"": scores.column(c)}))
                           for c in columns},
            "edits": {
                name: {c: _finite(values.get(c)) for c in columns}
                for name, values in scores.values.items()
            },
        }
        for scores in methods
    }  # fmt: skip


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Atomically."""
    with atomic(path) as temporary:
        text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
