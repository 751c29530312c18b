"""Edit success against source kept, a point per row with its standard errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..files import atomic
from .ablation import Result

# Full, what is left out of it, and what it is compared with.
COLOURS = {"full": "#c0392b", "ablation": "#2c6fbb", "baseline": "#7f8c8d"}


def plot(results: Sequence[tuple[Result, str]], path: Path) -> None:
    """Draw results, each with its part: `full`, `ablation` or `baseline`; needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 6), dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for result, part in results:
        keep, edit = result.all["keep"], result.all["edit"]
        axes.errorbar(
            keep.mean, edit.mean,
            xerr=_length(keep.sem), yerr=_length(edit.sem),
            fmt="o", color=COLOURS[part], markersize=9 if part == "full" else 6, capsize=2,
        )  # fmt: skip
    for (x, y), (result, part) in zip(_apart(results), results, strict=True):
        keep, edit = result.all["keep"].mean, result.all["edit"].mean
        axes.annotate(
            result.title, (keep, edit), (x, y), fontsize=8, color=COLOURS[part], va="center",
            arrowprops={"arrowstyle": "-", "color": COLOURS[part], "lw": 0.4},
        )  # fmt: skip
    axes.set(xlim=(-0.03, 1.25), ylim=(-0.05, 1.05), xlabel="source kept", ylabel="edit success")
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.set_title("Held-out names of the tiny world; mean and standard error over seeds")
    figure.tight_layout()
    with atomic(path) as temporary:
        figure.savefig(temporary)


def _length(sem: float) -> float:
    return sem if sem == sem else 0.0  # NaN: a single seed


def _apart(results: Sequence[tuple[Result, str]]) -> list[tuple[float, float]]:
    """Places for the labels, right of their points, that do not cover each other."""
    order = sorted(range(len(results)), key=lambda i: results[i][0].all["edit"].mean)
    places, taken = {}, []
    for i in order:
        result = results[i][0]
        x, y = result.all["keep"].mean + 0.03, result.all["edit"].mean
        while any(
            abs(y - other_y) < 0.035 and abs(x - other_x) < 0.3 for other_x, other_y in taken
        ):
            y += 0.012
        taken.append((x, y))
        places[i] = (x, y)
    return [places[i] for i in range(len(results))]
