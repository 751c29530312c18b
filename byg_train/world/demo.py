"""The demo: the tiny world's training set as files, and what a LoRA does on held-out names.

python -m byg_train.world.demo RUN [--queries 150]     measures a run again
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from ..data.manifest import write_manifest
from ..evaluate.true_pairs import goals_met
from ..files import atomic
from ..media.grid import labelled_grid
from ..media.writer import write_picture
from ..progress import Progress
from .measure import GALLERY, KINDS, Method, Recolour, between_styles, drawn, measure, query
from .methods import PICTURES, Methods
from .scenes import Edit, caption, draw, training_edit

# What the demo trains on: (edit type, source style, target style, share); None is any.
SHARES = (
    ("background", None, None, 0.2),
    ("style", "3d", "ink", 0.26),
    ("style", "ink", "3d", 0.2),
    ("style", "flat", "ink", 0.03),
    ("style", "ink", "flat", 0.03),
    ("colour", None, None, 0.16),
    ("add", None, None, 0.04),
    ("remove", None, None, 0.04),
    ("replace", None, None, 0.04),
)
ITEMS = 1600
# Edits of each type in the report that follows on a training, and what judging one costs in F.
QUERIES, JUDGED = 16, 10


def prepare(folder: Path, items: int = ITEMS, seed: int = 0, *, pairs: bool = False) -> Path:
    """Render the training set into a folder: PNGs and metadata.jsonl, unpaired.

    Every item shows a known subject; its target is a combination that the base has never seen. The
    few items of split `test` show held-out names and are only looked at. With `pairs` the true
    targets are there too: for the supervised baseline alone, in a folder of its own.
    """
    rng, rows = random.Random(seed), []
    if (folder / "metadata.jsonl").exists():
        return folder
    todo = [part[:3] for part in SHARES for _ in range(round(items * part[3]))]
    with atomic(folder) as temporary, Progress(len(todo), "drawing") as progress:
        temporary.mkdir()
        for kind, before, after in todo:
            edit = _training_edit(rng, kind, before, after)
            rows.append(write_item(temporary, len(rows), edit))
            if pairs:
                rows[-1]["target_file_name"] = _write_target(temporary, len(rows) - 1, edit)
            progress.advance()
        for label in ("background", "style 3d → ink", "style ink → 3d", "colour"):
            rows.append(write_item(temporary, len(rows), query(rng, label), "test"))
        write_manifest(temporary, rows)
    return folder


def _training_edit(rng: random.Random, kind: str, before: str | None, after: str | None) -> Edit:
    return between_styles(lambda: training_edit(rng, kind), before, after)


def write_item(folder: Path, index: int, edit: Edit, split: str = "train") -> dict[str, str]:
    """Save the source's picture; returns the manifest's row."""
    name = f"{index:05d}.png"
    Image.fromarray(draw(edit.source)).save(folder / name)
    return manifest_row(name, edit, caption, split)


def manifest_row(name: str, edit: Edit, caption: Callable, split: str) -> dict[str, str]:
    """The five texts of an edit, of a picture or of a clip, beside its file."""
    return {
        "file_name": name,
        "src_caption": caption(edit.source),
        "tgt_caption": caption(edit.target),
        "instruction": edit.instruction,
        "reverse_instruction": edit.reverse_instruction,
        "edit_type": edit.edit_type,
        "split": split,
    }


def _write_target(folder: Path, index: int, edit: Edit) -> str:
    name = f"targets/{index:05d}.png"
    (folder / "targets").mkdir(exist_ok=True)
    Image.fromarray(draw(edit.target)).save(folder / name)
    return name


def report_cost(steps: int, r: float) -> float:
    """What `report` costs, in forwards of one item: F. A forward of the base costs r F."""
    return len(KINDS) * QUERIES * (steps * (1 + r) + JUDGED)


def report(run: Path, device: str = "cpu", queries: int = QUERIES) -> dict:
    """Measure a run on held-out names; write `report.json` and `report.png`, print the table."""
    ours, recolour = Methods(run / f"{run.name}.safetensors", PICTURES, device), Recolour()
    methods: dict[str, Method] = {
        "ByG": ours.edit,
        "copy": lambda label, edits: [drawn(e.source) for e in edits],
        "recoloured copy": lambda label, edits: [recolour(label, e) for e in edits],
        "text-to-image": ours.text_to_image,
        "true target, encoded": ours.reconstruct,
    }
    scores, shown = measure(methods, queries, recolour=recolour)
    result = {
        label: {
            **{name: asdict(score) for name, score in rows.items()},
            "goals": goals_met(rows["ByG"], rows["copy"], rows["recoloured copy"]),
        }
        for label, rows in scores.items()
    }
    with atomic(run / "report.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1, ensure_ascii=False), encoding="utf-8")
    write_picture(run / "report.png", _grid(shown))
    for table in _tables(scores, result):
        Console().print(table)
    return result


def _tables(scores: dict, result: dict) -> Iterator[Table]:
    """A narrow table per edit type, so that 80 columns hold it; goals are marked."""
    for label, rows in scores.items():
        goals = result[label]["goals"]
        missed = [goal for goal, met in goals.items() if not met]
        caption = "all goals met" if not missed else f"missed: {'; '.join(missed)}"
        title = f"{label}: {rows['ByG'].queries} edits, top 5 of {GALLERY} alike"
        table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
        table.add_column("held-out names")
        for heading in ("top 5", "attribute", "error", "edit", "keep", "joint"):
            table.add_column(heading, justify="right")
        found, changed, *nearer = goals.values()  # in the order of `goals_met`
        for name, s in rows.items():
            cells = [f"{s.top5:.2f}", f"{s.attribute:.2f}", f"{s.error:.3f}"]
            if name == "ByG":  # the goals are for what was trained
                met = (found, changed, all(nearer))
                cells = [f"{c} {'✓' if m else '✗'}" for c, m in zip(cells, met, strict=True)]
            table.add_row(name, *cells, *(f"{cell:.2f}" for cell in (s.edit, s.keep, s.joint)))
        yield table


def _grid(shown: dict, per_kind: int = 2) -> Image.Image:
    rows, labels = [], []
    for examples in shown.values():
        square = [x for x in examples if x[0].source.canvas == (48, 48)][:per_kind]
        for edit, outs in square:
            pictures = [drawn(edit.source), *outs.values()]
            rows.append([Image.fromarray((p * 255).round().astype(np.uint8)) for p in pictures])
            labels.append(edit.instruction)
    columns = ["source", *next(iter(shown.values()))[0][1]]
    return labelled_grid(rows, columns, labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--queries", type=int, default=150)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    report(args.run, args.device, args.queries)


if __name__ == "__main__":
    main()
