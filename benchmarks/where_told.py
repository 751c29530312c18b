"""Is nothing replaced in the wide world because no instruction says where the thing is?

    python -m benchmarks.where_told --wide runs/wide --runs runs/where --output runs/where_told

"Replace the small leaf with a small flower" names no corner. Three trainings on replacements
alone, at the same weights and with as many steps: in the tiny world, where only corners hold small
things; in the wide world, whose subjects may be at a corner, too; and there with instructions that
name the corner, as those for adding and removing do. Writes OUTPUT.json and .md. Stopped, the same
command goes on from the last checkpoint. FOLDER of --wide: docs/tiny-world.md.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from byg_train.evaluate.summary import table
from byg_train.files import write_json, write_text
from byg_train.training.metrics import seconds_of
from byg_train.world.judge import Judge
from byg_train.world.names import HELD_OUT
from byg_train.world.report import Methods
from byg_train.world.scenes import Edit

from .curve import TINY, World, ends_in_words, provenance, settings, train_whole, wide_world

TYPE = "replace"
WEIGHTS = (
    "method.lambda_id=0", "method.lambda_prior=1", "method.alpha=0.1", "optimizer.lr=4e-3",
    "optimizer.warmup=100", "warmup.max_steps=0", "warmup.until=null",
)  # fmt: skip
MEASURES = {
    "edit": "edit success", "keep": "source kept", "joint": "joint", "attribute": "attribute",
}  # fmt: skip


def told_where(edit: Edit) -> Edit:
    """Return a replacement whose instructions name the corner."""
    return replace(
        edit,
        instruction=_at(edit.instruction, edit.source.corner),
        reverse_instruction=_at(edit.reverse_instruction, edit.target.corner),
    )


def _at(instruction: str, corner: str) -> str:
    before, after = instruction.split(" with a small ")
    return f"{before} at the {corner} with a small {after}"


class Told(Judge):
    """Asks for edits by instructions that name the corner."""

    def query(self, rng: random.Random, label: str, subjects: tuple[str, ...] = HELD_OUT) -> Edit:
        """A random edit of a label, with the corner in its instructions."""
        return told_where(super().query(rng, label, subjects))


def of_replacements(world: World, *, told: bool = False) -> World:
    """The same world, where things are replaced and nothing else is asked for."""
    demo, judge = world.demo, world.demo.judge
    only = {TYPE: judge.labels[TYPE]}
    asking = (Told if told else Judge)(judge.world, only, judge.values, judge.pairs)
    draw = demo.training_edit
    return world._replace(
        demo=replace(
            demo,
            judge=asking,
            shares=((*only[TYPE], 1.0),),
            training_edit=(lambda rng, kind: told_where(draw(rng, kind))) if told else draw,
        )
    )


def measured(world: World, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Train in a world, and measure on held-out names."""
    data, steps = world.demo.prepare(folder / "data", args.items), args.steps
    words = (*WEIGHTS, *world.assignments)
    run, judge = folder / f"seed{args.seed}", world.demo.judge
    *_, lora = train_whole(settings("full", data, args.seed, steps, steps, words), run)
    scores, _ = judge.measure({"ByG": Methods(lora, judge).edit}, args.queries)
    return asdict(scores[TYPE]["ByG"]) | {"seconds": round(seconds_of(run))}


def main() -> None:
    """Train what is not trained yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wide", type=Path, metavar="FOLDER", required=True)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument(
        "--items", type=int, default=229, help="to train on; default: as many as among seven types"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--queries", type=int, default=32)
    parser.add_argument("--runs", type=Path, default=Path("runs/where"))
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    with ends_in_words(parser):
        measure(args)


def measure(args: argparse.Namespace) -> None:
    """Train in each world in turn; write everything after each."""
    wide = wide_world(args.wide)
    worlds = {
        "tiny": of_replacements(TINY),
        "wide": of_replacements(wide),
        "wide-told": of_replacements(wide, told=True),
    }
    rows: dict[str, dict[str, Any]] = {}
    for name, world in worlds.items():
        rows[name] = measured(world, args.runs / f"{name}-{args.items}", args)
        cells = [[name, *(f"{row[key]:.3f}" for key in MEASURES)] for name, row in rows.items()]
        write_json(args.output.with_suffix(".json"), {**provenance(), "rows": rows})
        write_text(args.output.with_suffix(".md"), table(["", *MEASURES.values()], cells) + "\n")


if __name__ == "__main__":
    main()
