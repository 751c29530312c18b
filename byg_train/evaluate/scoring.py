"""Metrics over folders of results: a value per edit and column, then means and standard errors."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data import DataError, Problem
from ..media.formats import MEDIA
from ..media.pixels import Frames
from .metric import Case, JudgeMeasure, Measure, Values
from .metrics.viescore import geometric
from .summary import Summary, macro_mean, summarise
from .tasks import Task, named_files, read_clip, short_names

# The source that GEdit-Bench's scripts put beside every result.
SOURCE_COPY = "_SRCIMG"
# Share by which two clips' rates differ; files round times (23.98 and 24 are one, 24 and 25 two).
RATES_DIFFER = 0.02
# What JSON calls the number that Table 2 prints: the root of the means' product.
ROOT = "sqrt(SC*PQ)"


@dataclass
class Scores:
    """All values that were measured for one method."""

    name: str
    tasks: Sequence[Task]
    values: dict[str, Values] = field(default_factory=dict)  # by the result's name
    results: Mapping[str, Path] = field(default_factory=dict)  # likewise: the files to measure

    def column(self, name: str, tasks: Iterable[Task] | None = None) -> Summary:
        """Summarise a column over all edits, or some; edits without a value count as missing."""
        chosen = self.tasks if tasks is None else tasks
        return summarise(self.values.get(task.name, {}).get(name) for task in chosen)

    def groups(self, column: str, *, intersection: bool = False) -> dict[str, Summary]:
        """Summarise a column by group, in order; optionally only over GEdit's intersection."""
        chosen = [t for t in self.tasks if t.group and (t.intersection or not intersection)]
        return {
            group: self.column(column, [t for t in chosen if t.group == group])
            for group in sorted({task.group for task in chosen})
        }

    @property
    def has_intersection(self) -> bool:
        """Whether any edit with a group belongs to GEdit's intersection."""
        return any(task.intersection and task.group for task in self.tasks)


def methods_of(folders: Sequence[Path], tasks: Mapping[str, Task]) -> dict[Path, Scores]:
    """The methods whose results lie in some folders, without a value yet; DataError as below."""
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise DataError("a folder of results is named twice")
    results = {folder: find_results(folder, tasks) for folder in folders}
    names = short_names(folders)
    return {
        folder: Scores(names[folder], [*tasks.values()], results=files)
        for folder, files in results.items()
    }


def find_results(folder: Path, tasks: Mapping[str, Task]) -> dict[str, Path]:
    """Find the results of tasks by name; DataError if there is none at all."""
    problems: list[Problem] = []
    files = named_files(folder, MEDIA, problems)
    results = {name: path for name, path in files.items() if name in tasks}
    if not results:
        other = [name for name in files if not name.endswith(SOURCE_COPY)]
        hint = f"it holds {other[0]} and the like" if other else "it holds nothing to compare"
        wanted = next(iter(tasks))
        raise DataError(f"{folder} has no result of any task ({hint}; wanted {wanted}, ...)")
    if twice := [problem for problem in problems if problem.where in tasks]:
        raise DataError(f"{folder} cannot be scored", twice)
    return results


def measure(
    scores: Scores,
    truths: Mapping[str, Path],
    measures: Sequence[Measure],
    on_done: Callable[[], None] = lambda: None,
) -> None:
    """Measure one method, with one edit in memory at a time; DataError if a result does not fit."""
    for task in scores.tasks:
        if task.name in scores.results:
            case = load_case(task, scores.results[task.name], truths.get(task.name))
            values = scores.values.setdefault(task.name, {})
            for one in measures:
                values |= one(case)
        on_done()


async def judge(
    scores: Scores,
    measures: Sequence[JudgeMeasure],
    concurrency: int,
    on_done: Callable[[], None] = lambda: None,
) -> None:
    """Judge one method, `concurrency` edits at once; stops at the first ModelError."""
    slots = asyncio.Semaphore(concurrency)

    async def one(task: Task) -> None:
        async with slots:
            if task.name in scores.results:
                case = await asyncio.to_thread(load_case, task, scores.results[task.name], None)
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
    """Read an edit; DataError if lengths or rates differ, so that frames do not correspond."""
    source, edited = read_clip(task.source), read_clip(result)
    true = read_clip(truth) if truth else None
    for path, clip in ((result, edited), (truth, true)):
        if clip and len(clip.frames) != len(source.frames):
            raise DataError(
                f"{path} has {len(clip.frames)} frames, its source {task.source} has "
                f"{len(source.frames)}; wanted as many"
            )
        if clip and clip.fps and source.fps and abs(clip.fps / source.fps - 1) > RATES_DIFFER:
            raise DataError(
                f"{path} has {clip.fps:.2f} frames a second, its source {task.source} has "
                f"{source.fps:.2f}; wanted the same rate: write it anew at the source's (a GIF as "
                "MP4: GIFs cannot hold every rate)"
            )
    frames = at_size_of(edited.frames, source.frames)
    return Case(task, source, frames, true and at_size_of(true.frames, source.frames))


def at_size_of(frames: Frames, source: Frames) -> Frames:
    """Resize frames (Pillow, bicubic) to the height and width of the source's."""
    height, width = source.shape[1:3]
    if frames.shape[1:3] == (height, width):
        return frames
    resized = [Image.fromarray(f).resize((width, height), Image.Resampling.BICUBIC) for f in frames]
    return np.stack([np.asarray(picture) for picture in resized])


# ---------------------------------------------------------------- what is written


def to_json(methods: Sequence[Scores], columns: Sequence[str]) -> dict[str, Any]:
    """Collect all tables and values as JSON: missing values as null, infinite ones as "inf"."""
    return {scores.name: _method(scores, columns) for scores in methods}


def _method(scores: Scores, columns: Sequence[str]) -> dict[str, Any]:
    summary = {
        "all": {c: _summary(scores.column(c)) for c in columns},
        **_by_group(scores, columns, intersection=False),
    }
    if scores.has_intersection:
        summary["intersection"] = _by_group(scores, columns, intersection=True)
    if "SC" in columns:
        semantic, quality = scores.groups("SC"), scores.groups("PQ")
        summary[ROOT] = {
            "all": _root(scores.column("SC"), scores.column("PQ")),
            "groups": {group: _root(semantic[group], quality[group]) for group in semantic},
        }
    summary["edits"] = {task.name: _edit(task, scores, columns) for task in scores.tasks}
    return summary


def _by_group(scores: Scores, columns: Sequence[str], *, intersection: bool) -> dict[str, Any]:
    by_column = {c: scores.groups(c, intersection=intersection) for c in columns}
    return {
        "groups": {
            group: {c: _summary(by_column[c][group]) for c in columns}
            for group in by_column[columns[0]]
        },
        "macro_mean": {
            c: _number(macro_mean(by_column[c] or {"": scores.column(c)})) for c in columns
        },
    }


def _edit(task: Task, scores: Scores, columns: Sequence[str]) -> dict[str, Any]:
    values = scores.values.get(task.name, {})
    return {
        "group": task.group,
        "intersection": task.intersection,
        **{c: _number(values.get(c)) for c in columns},
    }


def _summary(summary: Summary) -> dict[str, float | str | None]:
    return {name: _number(value) for name, value in summary._asdict().items()}


def _root(semantic: Summary, quality: Summary) -> float | str | None:
    return _number(geometric(semantic.mean, quality.mean))


def _number(value: float | None) -> float | str | None:
    """Convert a value to strict JSON: NaN to null, an infinity to a text that `float` reads."""
    if value is None or math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)
