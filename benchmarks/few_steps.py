"""How well LoRAs edit in how many evaluations, on held-out names of the tiny world.

python -m benchmarks.few_steps LORA ... [--samplers euler:20 euler:4 renoise:4] [--queries 32]
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from typing import Any

from byg_train.editing.opening import open_lora
from byg_train.evaluate.summary import table
from byg_train.family import family_of
from byg_train.world.ablation import MEASURES
from byg_train.world.judge import CLIPS, PICTURES, Frames, Judge
from byg_train.world.report import Methods, show_pictures


class Timed:
    """A LoRA's edits in some number of evaluations, and how long the sampling takes."""

    def __init__(self, lora: Path, sampler: str, seed: int) -> None:
        name, steps = sampler.split(":")
        self.methods = Methods(lora, judge_of(lora), seed=seed)
        self.seconds, self.edits = 0.0, 0
        editor = self.methods.editor
        editor.sampling = replace(editor.sampling, sampler=name, steps=int(steps))

    def __call__(self, label: str, edits: list[Any]) -> list[Frames]:
        methods = self.methods
        x, texts = methods.latents([e.source for e in edits]), [e.instruction for e in edits]
        began = time.perf_counter()
        y = methods.editor.sample(x, texts, x, seed=methods.seed)
        self.seconds += time.perf_counter() - began
        self.edits += len(edits)
        return methods.results(y)


def judge_of(lora: Path) -> Judge:
    """Who judges its edits: of pictures, or of clips."""
    return CLIPS if family_of(open_lora(lora, None).info.family).is_video else PICTURES


def measure(
    loras: list[Path], samplers: list[str], queries: int, seed: int, picture: Path | None = None
) -> dict[str, Any]:
    """Scores {label: Score} and seconds of sampling per edit, by "LORA SAMPLER".

    The LoRAs are all of pictures, or all of clips; of pictures, `picture` shows the first.
    """
    timed = {f"{lora.stem} {s}": Timed(lora, s, seed) for lora in loras for s in samplers}
    judge = judge_of(loras[0])
    scores, shown = judge.measure(timed, queries)
    if picture:
        show_pictures(picture, judge, shown, per_label=1)
    return {
        name: {
            "seconds": one.seconds / one.edits,
            "scores": {label: asdict(rows[name]) for label, rows in scores.items()},
        }
        for name, one in timed.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lora", type=Path, nargs="+")
    parser.add_argument("--samplers", nargs="+", default=["euler:20", "euler:4", "renoise:4"])
    parser.add_argument("--queries", type=int, default=32, help="edits of each type")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="a PNG of one edit of each type")
    args = parser.parse_args()
    found = measure(args.lora, args.samplers, args.queries, args.seed, args.picture)
    rows = []
    for name, one in found.items():
        means = [mean(s[m] for s in one["scores"].values()) for m in MEASURES]
        rows.append([name, *(f"{m:.3f}" for m in means), f"{1000 * one['seconds']:.0f} ms"])
    print(table(["", "edit success", "source kept", "joint", "sampling, per edit"], rows))
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
