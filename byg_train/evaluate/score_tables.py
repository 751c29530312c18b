"""Print scores as tables in the form of the paper's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from .metrics.viescore import geometric
from .registry import METRICS
from .scoring import Scores
from .summary import Summary, macro_mean, table

# The columns for which methods are compared by group, where there are several.
HEADLINES = ("overall", "imgedit", "clip_dir", "dino")


def tables(methods: Sequence[Scores], columns: Sequence[str]) -> Iterator[str]:
    """Yield tables: all edits; groups of all methods (Table 3); groups of each method (Table 2)."""
    rows = [[scores.name, *(cell(scores.column(c)) for c in columns)] for scores in methods]
    yield table(["method", *columns], rows)
    if not methods[0].groups(columns[0]):
        return
    if len(methods) > 1:
        for column in (c for c in HEADLINES if c in columns):
            yield _groups_of_all(methods, column)
    for scores in methods:
        yield _groups_of_one(scores, columns)


def cell(summary: Summary) -> str:
    """Format `mean ± standard error`."""
    sem = "" if math.isnan(summary.sem) else f" ± {summary.sem:.3f}"
    return f"{_number(summary.mean)}{sem}"


def _number(value: float, digits: int = 3) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def missing_lines(methods: Sequence[Scores], columns: Sequence[str]) -> Iterator[str]:
    """Report the values that are missing from the means."""
    for scores in methods:
        lost = {c: scores.column(c).missing for c in columns}
        if missing := ", ".join(f"{column} {n}" for column, n in lost.items() if n):
            yield f"{scores.name}: of {len(scores.tasks)} edits without a value: {missing}"


def _groups_of_one(scores: Scores, columns: Sequence[str]) -> str:
    """Table 2: groups by columns; with a judge also the root of the means."""
    judged = "SC" in columns
    by_column = {c: scores.groups(c) for c in columns}
    rows = []
    for group, first in by_column[columns[0]].items():
        own = {c: by_column[c][group] for c in columns}
        root = [_number(geometric(own["SC"].mean, own["PQ"].mean), 2)] if judged else []
        rows.append([group, str(first.n + first.missing), *map(cell, own.values()), *root])
    for label, means in _macro(scores, columns):
        rows.append([label, "", *map(_number, means), *([""] * judged)])
    return table([scores.name, "edits", *columns, *(["√(SC·PQ)"] * judged)], rows)


def _groups_of_all(methods: Sequence[Scores], column: str) -> str:
    """Table 3: groups by methods, of one column."""
    lower = {c for metric in METRICS.values() if metric.lower_is_better for c in metric.columns}
    better = "lower" if column in lower else "higher"
    groups = [scores.groups(column) for scores in methods]
    rows = [[group, *(cell(own[group]) for own in groups)] for group in groups[0]]
    macro = [dict(_macro(scores, [column])) for scores in methods]
    rows += [[label, *(_number(own[label][0]) for own in macro)] for label in macro[0]]
    return table([f"{column}, {better} is better", *(scores.name for scores in methods)], rows)


def _macro(scores: Scores, columns: Sequence[str]) -> Iterator[tuple[str, list[float]]]:
    """Yield means over groups, weighted equally; for GEdit-Bench also over its intersection."""
    yield "mean of groups", [macro_mean(scores.groups(c)) for c in columns]
    if scores.has_intersection:
        means = [macro_mean(scores.groups(c, intersection=True)) for c in columns]
        yield "of the intersection", means
