"""Mean and standard error over items; missing values are counted, never imputed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
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
