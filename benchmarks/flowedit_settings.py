"""Which settings of FlowEdit suit the tiny base? On names that the base knows, never held-out ones.

    python benchmarks/flowedit_settings.py --queries 8

Prints the means over the types of edit for every setting; `world.report.FLOWEDIT` is the best.
With `--wide FOLDER` it is asked of the wide world, on the base FOLDER/base.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np

from byg_train.editing.flowedit import FlowEditSettings
from byg_train.evaluate.summary import table
from byg_train.world.ablation import WARMUP
from byg_train.world.names import KNOWN
from byg_train.world.report import Methods
from byg_train.world.wide_demo import WIDE

MEASURES = ("edit", "keep", "joint", "error")
# Of 28 steps; FLUX.1-dev's published settings are 24, 1.5 and 5.5.
TRIED = [
    FlowEditSettings(28, n_max, *guidance)
    for n_max, guidance in product((24, 20), ((1.0, 1.0), (1.0, 2.0), (1.5, 3.5), (1.5, 5.5)))
]


def by(methods: Methods, settings: FlowEditSettings) -> Callable:
    """The method that `measure` takes."""
    return lambda label, edits: methods.flowedit(label, edits, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=8, help="edits of each type")
    parser.add_argument("--wide", type=Path, metavar="FOLDER", help="its base and warm-up")
    args = parser.parse_args()
    ours = Methods(args.wide / "warmup.safetensors", WIDE) if args.wide else Methods(WARMUP)
    methods = {str(i): by(ours, settings) for i, settings in enumerate(TRIED)}
    scores, _ = ours.judge.measure(methods, args.queries, subjects=KNOWN)
    rows = []
    for i, s in enumerate(TRIED):
        of = [by_method[str(i)] for by_method in scores.values()]
        means = [np.mean([getattr(score, name) for score in of]) for name in MEASURES]
        told = [str(s.n_max), f"{s.guidance_src:g}", f"{s.guidance_tgt:g}"]
        rows.append([*told, *(f"{mean:.3f}" for mean in means)])
    print(table(["n_max", "guidance, source", "guidance, target", *MEASURES], rows))


if __name__ == "__main__":
    main()
