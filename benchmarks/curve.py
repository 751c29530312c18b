"""Rows of the ablation study over training steps: do they get better, do they hold, who is first?

    python benchmarks/curve.py --rows full supervised baselines --steps 10000 --every 1000 \
        --seeds 0 1 2 --output docs/curve

Trains each row once per seed, measures every LoRA file on held-out names (the report's own
functions) and writes OUTPUT.json, OUTPUT.md (the table of results) and a plot OUTPUT.png. The same
command again goes on where it was stopped: trainings from their last checkpoint, measuring at the
first file that is not measured. It may run for days.

With `--wide FOLDER` all is done in the wide world (`world/wide.py`), on the base FOLDER/base and
from its warm-up LoRA FOLDER/warmup.safetensors (docs/tiny-world.md).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from math import nan
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch

from byg_train.config import ConfigError, TrainConfig, merge_settings
from byg_train.core.flow import noised
from byg_train.core.losses import velocity_mse
from byg_train.core.schedule import draw_t
from byg_train.data.items import load_items
from byg_train.data.pairs import for_objective
from byg_train.evaluate.summary import summarise, table
from byg_train.files import write_json, write_text
from byg_train.machine import resolve_dtype
from byg_train.training.doctor import machine
from byg_train.training.metrics import seconds_of
from byg_train.training.run_folder import CONFIG, check_output, write_config
from byg_train.training.stopping import Interrupted
from byg_train.training.trainer import train
from byg_train.world.ablation import BASELINES, FULL, MEASURES, ROWS, WARMUP, baselines
from byg_train.world.demo import WHOLE, Demo, equally_shared
from byg_train.world.judge import PICTURES, Judge
from byg_train.world.report import Methods
from byg_train.world.wide_demo import OF_WIDE


class World(NamedTuple):
    """A world to train and measure in, and its base."""

    demo: Demo
    warmup: Path  # the LoRA that runs start from, and that knows its base
    assignments: tuple[str, ...]


TINY = World(WHOLE["demo"], WARMUP, ())
# Pictures of each edit type on which the identity loss is measured.
IDENTITY_OF_EACH = 14
TITLES = {
    "edit": "edit success",
    "keep": "source kept",
    "joint": "joint",
    "identity": "identity loss",
}
# Row -> seed -> points by rising steps; a baseline has one point, of no steps.
Curves = dict[str, dict[str, list[dict[str, Any]]]]
NOTHING: Curves = {}


def wide_world(folder: Path) -> World:
    """The wide world, with its base and warm-up from a folder."""
    warmup = folder / "warmup.safetensors"
    for path in (folder / "base", warmup):
        if not path.exists():
            raise ConfigError(f"{path} is missing: docs/tiny-world.md says how to make it")
    return World(OF_WIDE, warmup, (f"model.path={folder / 'base'}", f"warmup.lora={warmup}"))


def settings(
    row: str, data: Path, seed: int, steps: int, every: int, assignments: Sequence[str] = ()
) -> TrainConfig:
    """The demo preset for one row and seed; assignments go before, and a row's own before them."""
    usual = (f"train.checkpoint_every={every}", "train.sample_every=0", "train.sample_first=false")
    words = [*usual, *FULL, *assignments, *ROWS[row].settings]
    return merge_settings("demo", data=data, steps=steps, seed=seed, assignments=words)


def train_whole(config: TrainConfig, run: Path) -> list[Path]:
    """Train, from the last checkpoint if there is one; the run's LoRA files, oldest first."""
    check_output(run, config, resume=True, measured=True)
    resume = (run / CONFIG).exists()
    write_config(run, config)
    data = for_objective(load_items(config.data, 8), config, 8)
    train(config, data, run, device="cpu", resume=resume)
    return sorted(run.glob(f"{run.name}*.safetensors"))


@torch.no_grad()
def identity(ours: Methods, each: int = IDENTITY_OF_EACH) -> float:
    """L_id on held-out names, t as in training: how well the source is still copied."""
    edits = [
        ours.judge.query(rng, label)
        for label in ours.judge.labels
        for rng in [random.Random(f"identity {label}")]
        for _ in range(each)
    ]
    x, texts = ours.latents([e.source for e in edits]), [e.reverse_instruction for e in edits]
    editor, generator = ours.editor, torch.Generator().manual_seed(0)
    editor.learn(texts)
    t, eps = draw_t(len(x), generator, "uniform", 3.0), torch.randn(x.shape, generator=generator)
    with editor.using("edit"):
        c_inv, guidance = editor.embedded(texts, x), editor.info.guidance_train
        v = editor.backbone.velocity(noised(x, eps, t), t, c_inv, x, guidance=guidance)
    return velocity_mse(v, eps - x).mean().item()


def points(
    files: Sequence[Path], queries: int, known: Sequence[dict] = (), judge: Judge = PICTURES
) -> list[dict]:
    """Scores of every LoRA file, by the steps that its metadata states; known ones are not
    measured again, and those of files that are gone are dropped."""
    found = {point["file"]: point for point in known if point.get("queries") == queries}
    for path in files:
        lora = digest(path)
        if found.get(path.name, {}).get("lora") == lora:
            continue
        ours = Methods(path, judge)
        scores, _ = judge.measure({"ByG": ours.edit}, queries)
        rows = {label: asdict(row["ByG"]) for label, row in scores.items()}
        found[path.name] = {
            "file": path.name, "lora": lora, "queries": queries, "steps": ours.editor.info.steps,
            "identity": identity(ours), "scores": rows,
        }  # fmt: skip
        print(path.name, {name: round(value(found[path.name], name), 3) for name in TITLES})
    return sorted((found[path.name] for path in files), key=lambda point: point["steps"])


def baseline_points(
    seed: int, queries: int, world: World = TINY, known: Curves = NOTHING
) -> dict[str, list[dict]]:
    """Scores of what needs no training, as points of no steps; known ones are kept."""
    about = {"steps": 0, "queries": queries, "lora": digest(world.warmup)}
    there = {name: known.get(name, {}).get(str(seed)) for name in BASELINES}
    if all(points and about.items() <= points[-1].items() for points in there.values()):
        return there
    methods = baselines(Methods(world.warmup, world.demo.judge, seed=seed))
    scores, _ = world.demo.judge.measure(methods, queries)
    return {
        name: [{**about, "scores": {label: asdict(row[name]) for label, row in scores.items()}}]
        for name in methods
    }


def digest(path: Path) -> str:
    """Tells a LoRA file from another one of its name."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def value(point: Mapping[str, Any], name: str) -> float:
    """A measure of a point: the identity loss, or the mean over the types of edit."""
    if name == "identity":
        return point.get("identity", nan)
    scores = [score[name] for score in point["scores"].values() if name in score]
    return fmean(scores) if scores else nan  # an older file has fewer measures


def plot(curves: Curves, path: Path) -> None:
    """Edit success, source kept, joint and identity over steps; a line per seed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.5, 8), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    dashes = dict(zip(BASELINES, ("-", "--", ":", "-.", (0, (10, 4)), (0, (1, 6))), strict=True))
    trained = [row for row in curves if row not in BASELINES]
    colours = [f"C{i}" for i in range(10) if i != 7]  # C7 is the baselines' grey
    for axes, (name, title) in zip(figure.subplots(2, 2).flat, TITLES.items(), strict=True):
        for row, seeds in curves.items():
            for number, curve in enumerate(seeds.values()):
                label = None if number else _title(row)
                ys = [value(point, name) for point in curve]
                if row in BASELINES:
                    axes.axhline(ys[0], color="0.5", ls=dashes[row], lw=0.9, label=label)
                else:
                    xs, color = [point["steps"] for point in curve], colours[trained.index(row)]
                    axes.plot(xs, ys, color=color, marker=".", lw=1.2, alpha=0.8, label=label)
        axes.set(title=title, xlabel="optimiser steps", ylim=(0, None))
        axes.grid(alpha=0.3)
    lines, titles = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, titles, fontsize=9, loc="outside right upper")
    figure.savefig(path)


def _title(row: str) -> str:
    return {**ROWS, **BASELINES}[row].title


def markdown(curves: Curves) -> str:
    """The table of results: every row at its last step, mean and standard error over seeds."""

    def cell(row: str, name: str) -> str:
        of = summarise(value(seed[-1], name) for seed in curves[row].values())
        if not of.n:
            return "-"
        return f"{of.mean:.3f}" + (f" ± {of.sem:.3f}" if of.n > 1 else "")

    lines = []
    for row, seeds in curves.items():
        steps = sorted({curve[-1]["steps"] for curve in seeds.values()})
        told = (
            "-" if row in BASELINES else " to ".join(map(str, dict.fromkeys((steps[0], steps[-1]))))
        )
        lines.append([_title(row), told, str(len(seeds)), *(cell(row, name) for name in TITLES)])
    labels = list(next(iter(next(iter(curves.values())).values()))[-1]["scores"])
    kinds = [
        [_title(row), *(_joint(seeds, label) for label in labels)] for row, seeds in curves.items()
    ]
    whole = table(["", "steps", "seeds", *TITLES.values()], lines)
    return f"{whole}\n\nJoint score by type of edit:\n\n{table(['', *labels], kinds)}\n"


def _joint(seeds: Mapping[str, list[dict]], label: str) -> str:
    last = (curve[-1]["scores"][label].get(MEASURES[2], nan) for curve in seeds.values())
    of = summarise(last)
    return f"{of.mean:.3f}" if of.n else "-"


def provenance() -> dict[str, Any]:
    """What made the numbers of this process: command, machine and type."""
    return {
        "command": " ".join(["python", *sys.argv]),
        "threads": torch.get_num_threads(),
        "machine": machine()["CPU"],
        "dtype": resolve_dtype("auto", "cpu"),
    }


def write(curves: Curves, output: Path) -> None:
    """Everything that is known so far."""
    write_json(output.with_suffix(".json"), {**provenance(), "rows": curves})
    write_text(output.with_suffix(".md"), markdown(curves))
    plot(curves, output.with_suffix(".png"))


def read(output: Path) -> Curves:
    """What an earlier call of the command has measured."""
    path = output.with_suffix(".json")
    try:
        return json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else {}
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path} holds no curves; choose another --output") from None


@contextmanager
def ends_in_words(parser: argparse.ArgumentParser) -> Iterator[None]:
    """A stop, and settings that cannot be, are a line and an exit code."""
    try:
        yield
    except Interrupted as stop:
        parser.exit(stop.code, "stopped; run the same command again to go on\n")
    except ConfigError as error:
        parser.exit(1, f"error: {error}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=[*ROWS, "baselines"], default=["full"])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--every", type=int, default=125, help="steps between two points")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--queries", type=int, default=32, help="edits of each type")
    parser.add_argument(
        "--equal-shares", action="store_true", help="as many items of each type; wants a new --runs"
    )
    parser.add_argument(
        "--wide", type=Path, metavar="FOLDER", help="the wide world's base and warm-up; new --runs"
    )
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="K=V")
    parser.add_argument("--runs", type=Path, default=Path("runs/curve"))
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with ends_in_words(parser):
        measure(args)


def measure(args: argparse.Namespace) -> None:
    """Train and measure what is not there yet; write everything after each row and seed."""
    curves, world = read(args.output), wide_world(args.wide) if args.wide else TINY
    if args.equal_shares:
        world = world._replace(demo=equally_shared(world.demo))
    for seed in args.seeds:
        for row in args.rows:
            if row == "baselines":
                found = baseline_points(seed, args.queries, world, curves)
            else:
                known = curves.get(row, {}).get(str(seed), ())
                found = {row: trained_points(row, seed, args, world, known)}
            for name, curve in found.items():
                curves.setdefault(name, {})[str(seed)] = curve
            write(curves, args.output)


def trained_points(
    row: str, seed: int, args: argparse.Namespace, world: World, known: Sequence[dict]
) -> list[dict]:
    """Train a row with a seed, or go on with it, and measure its LoRA files."""
    mix = "-wide" * bool(args.wide) + "-equal" * args.equal_shares
    folder = args.runs / (("pairs" if ROWS[row].pairs else "data") + mix)
    data = world.demo.prepare(folder, pairs=ROWS[row].pairs)
    words = [*world.assignments, *args.assignments]
    run = args.runs / f"{row}-seed{seed}"
    files = train_whole(settings(row, data, seed, args.steps, args.every, words), run)
    found = points(files, args.queries, known, world.demo.judge)
    found[-1]["seconds"] = round(seconds_of(run))
    return found


if __name__ == "__main__":
    main()
