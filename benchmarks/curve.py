"""The demo over training steps, several seeds: does it get better, and does it hold?

    python benchmarks/curve.py --steps 500 --every 125 --seeds 0 1 2 --output docs/curve

Trains the demo preset once per seed, measures every LoRA file on held-out names (the report's own
functions) and writes OUTPUT.json and a plot OUTPUT.png (needs matplotlib). The same command again
goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import asdict
from pathlib import Path

from byg_train.config import TrainConfig, build_config, load_preset, merged
from byg_train.data.items import load_items
from byg_train.training.run_folder import CONFIG, check_output, write_config
from byg_train.training.stopping import Interrupted
from byg_train.training.trainer import train
from byg_train.world.demo import DEMOS
from byg_train.world.judge import PICTURES
from byg_train.world.methods import Methods


def settings(data: Path, seed: int, steps: int, every: int, rate: dict) -> TrainConfig:
    """The demo preset, for one seed; `rate` are settings of the optimiser."""
    train = {"steps": steps, "checkpoint_every": every, "sample_every": 0}
    over = {"seed": seed, "data": {"path": data}, "train": train, "optimizer": rate}
    return build_config(merged(load_preset("demo"), over))


def train_whole(config: TrainConfig, run: Path) -> list[Path]:
    """Train, from the last checkpoint if there is one; the run's LoRA files, oldest first."""
    check_output(run, config, resume=True)
    resume = (run / CONFIG).exists()
    write_config(run, config)
    train(config, load_items(config.data, 8), run, device="cpu", resume=resume)
    return sorted(run.glob(f"{run.name}*.safetensors"))


def points(files: list[Path], queries: int) -> list[dict]:
    """Scores of every LoRA file, by the steps that its metadata states."""
    found = []
    for path in files:
        ours = Methods(path)
        scores, _ = PICTURES.measure({"ByG": ours.edit}, queries)
        rows = {label: asdict(row["ByG"]) for label, row in scores.items()}
        found.append({"steps": ours.editor.info.steps, "scores": rows})
        print(path.name, {k: f"{v['attribute']:.2f} {v['error']:.3f}" for k, v in rows.items()})
    return sorted(found, key=lambda point: point["steps"])


def plot(curves: dict[str, list[dict]], path: Path) -> None:
    """Retrieval, attribute and error of each edit type over steps; a thin line per seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = list(next(iter(curves.values()))[0]["scores"])
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 4), layout="constrained")
    titles = {"top5": "true counterpart in top 5 of 150", "attribute": "attribute (1 = true)",
              "error": "error to the truth"}  # fmt: skip
    for axis, (key, title) in zip(axes, titles.items(), strict=True):
        for i, label in enumerate(labels):
            for seed, curve in curves.items():
                xs = [point["steps"] for point in curve]
                ys = [point["scores"][label][key] for point in curve]
                name = label if seed == next(iter(curves)) else None
                axis.plot(xs, ys, color=f"C{i}", lw=1.2, alpha=0.8, marker=".", label=name)
        axis.set_title(title)
        axis.set_xlabel("optimiser steps")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--every", type=int, default=125)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--queries", type=int, default=32)
    parser.add_argument("--lr", type=float, help="the highest rate; as in the preset if not given")
    parser.add_argument("--warmup", type=int, help="steps until the rate is reached; likewise")
    parser.add_argument("--runs", type=Path, default=Path("runs/curve"))
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    curves = {}
    rate = {k: v for k, v in (("lr", args.lr), ("warmup", args.warmup)) if v is not None}
    data = DEMOS["demo"].prepare(args.runs / "data")
    for seed in args.seeds:
        config = settings(data, seed, args.steps, args.every, rate)
        try:
            files = train_whole(config, args.runs / f"seed{seed}")
        except Interrupted as stop:
            parser.exit(stop.code, "stopped; run the same command again to go on\n")
        curves[str(seed)] = points(files, args.queries)
        args.output.with_suffix(".json").write_text(json.dumps(curves, indent=1))
        plot(curves, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
