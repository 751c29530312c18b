"""What each part of the method does, beside the paper's Table 4, as a picture.

    python -m benchmarks.table4 docs/curve docs/curve_third --output docs/pictures/table4.png

Draws every row less the full method, seed by seed, at the last step of what `benchmarks.curve` has
measured (`--output` there); lines are standard errors over seeds. The row without the prior is left
out: it copies, in the paper and here, and its marks would press all others together.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.curve import Curves, ends_in_words, read, value
from byg_train.config import ConfigError
from byg_train.evaluate.summary import Summary, summarise
from byg_train.world.ablation import ROWS

# Edit success and source preservation in the paper's Table 4, of 10, as shares.
PAPER = {
    "full": {"edit": 0.8317, "keep": 0.7617},
    "no-routing": {"edit": 0.8917, "keep": 0.7183},
    "no-cycle": {"edit": 0.8983, "keep": 0.7233},
    "no-directional": {"edit": 0.8400, "keep": 0.7233},
    "no-bootstrapping": {"edit": 0.5517, "keep": 0.7050},
    "no-identity": {"edit": 0.8413, "keep": 0.7450},
}
PARTS = [row for row in PAPER if row != "full"]
PANELS = {"edit": "edit success", "keep": "source kept"}


def less_full(curves: Curves, row: str, name: str) -> Summary:
    """A row's measure less the full method's, over the seeds that both have at equal steps."""
    full, other = curves["full"], curves.get(row, {})
    pairs = [(points[-1], full[seed][-1]) for seed, points in other.items() if seed in full]
    same = [(ours, whole) for ours, whole in pairs if ours["steps"] == whole["steps"]]
    return summarise(value(ours, name) - value(whole, name) for ours, whole in same)


def draw(studies: Sequence[Curves], path: Path) -> None:
    """A panel for each measure, a line for each row; needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    for axes, (name, title) in zip(figure.subplots(1, 2, sharey=True), PANELS.items(), strict=True):
        of_paper = [PAPER[row][name] - PAPER["full"][name] for row in PARTS]
        axes.plot(
            of_paper,
            range(len(PARTS)),
            "D",
            color="#c0392b",
            ms=8,
            label="paper, of 1 in place of 10",
        )
        for number, curves in enumerate(studies):
            found = {y: less_full(curves, row, name) for y, row in enumerate(PARTS)}
            there = {y: of for y, of in found.items() if of.n}
            steps = next(iter(curves["full"].values()))[-1]["steps"]
            axes.errorbar(
                [of.mean for of in there.values()],
                [y + 0.17 * (number + 1) for y in there],
                xerr=[of.sem if of.n > 1 else 0 for of in there.values()],
                fmt="os^vP"[number % 5],
                color=f"C{number}",
                ms=7,
                capsize=3,
                label=f"tiny world, {steps:,} steps",
            )
        axes.axvline(0, color="0.4", lw=1)
        axes.grid(axis="x", alpha=0.3)
        axes.set(title=f"{title}, minus that of the full method")
    axes.set_yticks(range(len(PARTS)), [ROWS[row].title for row in PARTS])
    axes.invert_yaxis()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("studies", nargs="+", type=Path, help="--output of benchmarks.curve")
    parser.add_argument("--output", type=Path, required=True, help="a PNG")
    args = parser.parse_args()
    with ends_in_words(parser):
        studies = [read(path) for path in args.studies]
        for path, curves in zip(args.studies, studies, strict=True):
            if "full" not in curves:
                raise ConfigError(f"{path}.json is missing or has no row of the full method")
        draw(studies, args.output)


if __name__ == "__main__":
    main()
