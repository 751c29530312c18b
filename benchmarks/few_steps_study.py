"""Editors of four steps beside ByG's of twenty, and NP-Edit's ablations, over seeds.

    python -m benchmarks.few_steps_study --steps 100 --seeds 0 1 2 --output docs/few_steps

Trains every row once per seed on the tiny world, edits held-out names with it, and writes
OUTPUT.json and OUTPUT.md. The same command again goes on where it was stopped; several at once,
with other rows or seeds, share RUNS and leave it to the last one to write everything. Times per
edit: `few_steps`, on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import byg_train.world
from byg_train.config import TrainConfig, merge_settings
from byg_train.evaluate.summary import summarise, table
from byg_train.files import write_json, write_text
from byg_train.training.run_folder import check_output
from byg_train.world.ablation import MEASURES
from byg_train.world.demo import WHOLE

from .curve import ends_in_words, provenance, train_whole
from .few_steps import measure

MANY, FEW = "euler:20", "renoise:4"
# Edits of each type.
PICTURES, CLIPS = 32, 24
# Clips have the ByG that ships for a teacher: training one for each seed takes an hour of a core.
WORLD = Path(byg_train.world.__file__).parent
CLIPS_BYG = WORLD / "demo_video_high_noise.safetensors"


class Student(NamedTuple):
    """A training, and how its result is sampled."""

    title: str
    preset: str = "demo_npedit"
    settings: tuple[str, ...] = ()
    profile: str | None = None
    from_byg: bool = False
    samplers: tuple[str, ...] = (FEW,)
    shipped: Path | None = None  # measured as it is, in place of a training

    @property
    def of_clips(self) -> bool:
        return self.preset == "demo_video"


DISTILLED = ("optimizer.lr=5e-4",)
ROWS = {
    "byg": Student("ByG", preset="demo", samplers=(MANY, "euler:4", FEW)),
    "dmd-byg": Student(
        "four steps by DMD, from ByG", "demo", DISTILLED, profile="four_steps", from_byg=True
    ),
    "dmd-byg-gentle": Student(
        "the same at a fifth of the rate", "demo", ("optimizer.lr=1e-4",), "four_steps", True
    ),
    "npedit-byg": Student("NP-Edit, from ByG", from_byg=True),
    "only-dmd-byg": Student(
        "only DMD, from ByG", settings=("method.critic_weight=0",), from_byg=True
    ),
    "npedit": Student("NP-Edit"),
    "only-dmd": Student("only DMD", settings=("method.critic_weight=0",)),
    "only-critic": Student("only the critic", settings=("method.dmd_weight=0",)),
    "no-identity": Student(
        "w/o the identity question", settings=("method.identity_question=false",)
    ),
    "no-warmup": Student("w/o the identity warm-up", settings=("warmup.lora=null",)),
    "byg-clips": Student(
        "clips: ByG", "demo_video", samplers=("unipc:20", "unipc:4", FEW), shipped=CLIPS_BYG
    ),
    "dmd-clips": Student(
        "clips: four steps by DMD, from ByG", "demo_video", DISTILLED, "four_steps", from_byg=True
    ),
}
# Row -> sampler -> seed -> {label: Score}, among others.
Results = dict[str, dict[str, dict[str, dict[str, Any]]]]


def settings(
    row: Student, data: Path, seed: int, steps: int, byg: Path, assignments: Sequence[str]
) -> TrainConfig:
    """ByG has the demo's own number of steps; every student has `steps`."""
    usual = ["train.checkpoint_every=100", "train.sample_every=0", "train.sample_first=false"]
    return merge_settings(
        row.preset,
        profile=row.profile,
        data=data,
        steps=None if row == ROWS["byg"] else steps,
        seed=seed,
        init=byg if row.from_byg else None,
        assignments=[*usual, *row.settings, *(() if row == ROWS["byg"] else assignments)],
    )


def scored(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Train one row with one seed, or go on with it; {sampler: its scores}."""
    run, row = args.runs / f"{name}-seed{seed}", ROWS[name]
    data = WHOLE[row.preset].prepare(args.runs / ("clips" if row.of_clips else "data"))
    byg = args.runs / f"byg-seed{seed}" / f"byg-seed{seed}.safetensors"
    if row.of_clips:
        byg = CLIPS_BYG
    elif row.from_byg and not byg.exists():
        scored("byg", seed, args)
    config = settings(row, data, seed, args.steps, byg, args.assignments)
    if not row.shipped:
        # Scores of other settings are no scores of these.
        check_output(run, config, resume=True, measured=True)
    file = run / "few_steps.json"
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    lora = row.shipped or train_whole(config, run)[-1]
    found = measure([lora], list(row.samplers), CLIPS if row.of_clips else PICTURES, seed)
    result = {key.removeprefix(f"{lora.stem} "): value for key, value in found.items()}
    run.mkdir(parents=True, exist_ok=True)
    write_json(file, result)
    print(name, seed, *(f"{key} {_mean(value, 'joint'):.3f}" for key, value in result.items()))
    return result


def _mean(result: Mapping[str, Any], measure_name: str) -> float:
    return mean(score[measure_name] for score in result["scores"].values())


def collected(args: argparse.Namespace) -> Results:
    """All that RUNS holds."""
    found: Results = {}
    for name in ROWS:
        for file in sorted(args.runs.glob(f"{name}-seed*/few_steps.json")):
            seed = file.parent.name.removeprefix(f"{name}-seed")
            for sampler, result in json.loads(file.read_text(encoding="utf-8")).items():
                of_seeds = found.setdefault(name, {}).setdefault(sampler, {})
                of_seeds[seed] = {"scores": result["scores"]}
    return found


def markdown(results: Results) -> str:
    """The table: means over the types of edit, then mean and standard error over seeds."""
    lines = []
    for name, samplers in results.items():
        for sampler, seeds in samplers.items():
            cells = []
            for measure_name in MEASURES:
                of = summarise(_mean(result, measure_name) for result in seeds.values())
                cells.append(f"{of.mean:.3f}" + (f" ± {of.sem:.3f}" if of.n > 1 else ""))
            lines.append([ROWS[name].title, sampler.replace(":", ", "), str(len(seeds)), *cells])
    heads = ["", "sampler, steps", "seeds", "edit success", "source kept", "joint"]
    return table(heads, lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--steps", type=int, default=100, help="of every student")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="K=V")
    parser.add_argument("--runs", type=Path, default=Path("runs/few_steps"))
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with ends_in_words(parser):
        for seed in args.seeds:
            for name in args.rows:
                scored(name, seed, args)
    results = collected(args)
    about = {**provenance(), "steps": args.steps, "set": args.assignments}
    write_json(args.output.with_suffix(".json"), {**about, "rows": results})
    write_text(args.output.with_suffix(".md"), markdown(results))
    print(markdown(results))


if __name__ == "__main__":
    main()
