"""Means and standard errors over items, and Markdown tables of them.

Missing values are counted, never imputed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Summary(NamedTuple):
    """`mean` +- `sem` over `n` items; `missing` items had no value and are in neither."""

    mean: float  # NaN where n = 0
    sem: float  # std(ddof=1) / sqrt(n), as in the paper's Table 1; NaN where n < 2
    n: int
    missing: int

    def __str__(self) -> str:
        lost = f", {self.missing} missing" if self.missing else ""
        return f"{self.mean:.3f} ± {self.sem:.3f} (n = {self.n}{lost})"


def summarise(values: Iterable[float | None]) -> Summary:
    """Summarise one value per item; None and NaN are missing, an infinity is a value."""
    all_values = np.array([math.nan if value is None else value for value in values], np.float64)
    known = all_values[~np.isnan(all_values)]
    n = len(known)
    mean = float(known.mean()) if n else math.nan
    sem = float(known.std(ddof=1) / n**0.5) if n > 1 and math.isfinite(mean) else math.nan
    return Summary(mean, sem, n, len(all_values) - n)


def macro_mean(groups: Mapping[str, Summary]) -> float:
    """The mean of the groups' means (the last line of Table 3); NaN if a group has no value."""
    return float(np.mean([group.mean for group in groups.values()]))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    """Format an aligned Markdown table; `numbers` right-aligns all columns but the first."""
    lines = [head, *rows]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.rjust(width) if i and numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join((first, *others))} |"

    right = [bool(i) and numbers for i in range(len(head))]
    rule = ["-" * (w - 1) + ("-", ":")[r] for w, r in zip(widths, right, strict=True)]
    return "\n".join((line(head), f"| {' | '.join(rule)} |", *map(line, rows)))
