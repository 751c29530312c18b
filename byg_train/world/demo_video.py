"""The video demo: the tiny world's clips as files, and what a LoRA does to held-out names.

python -m byg_train.world.demo_video RUN [--queries 100]     measures a run again
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from ..data.manifest import write_manifest
from ..files import atomic
from ..media.clip_grid import ClipComparison
from ..media.writer import write_clip, write_picture
from ..progress import Progress
from .clips import FPS, KNOWN, ClipEdit, caption, draw, random_edit, training_edit
from .demo import manifest_row
from .measure import between_styles
from .measure_clips import KINDS, Example, Method, Recolour, drawn, goals, measure, query
from .methods import CLIPS, Methods
from .names import HELD_OUT, SUBJECTS

# What the demo trains on: (edit type, source style, target style, share); None is any.
SHARES = (
    ("background", None, None, 0.3),
    ("style", "3d", "ink", 0.2),
    ("style", "ink", "3d", 0.2),
    ("style", "flat", "ink", 0.03),
    ("style", "ink", "flat", 0.03),
    ("colour", None, None, 0.24),
)
ITEMS = 500
# Edits of each type in the report that follows on a training, and what judging one costs in F.
QUERIES, JUDGED = 16, 50
# Names that neither the base nor the report's queries know.
STRANGE = tuple(name for name in SUBJECTS if name not in (*KNOWN, *HELD_OUT))


def prepare(folder: Path, items: int = ITEMS, seed: int = 0) -> Path:
    """Render the training set into a folder: lossless MP4s and metadata.jsonl, unpaired.

    The base has never seen what an item leads to: its target is kept from the base, or the base
    does not know its subject at all. The few items of split `test` show held-out names and are only
    looked at.
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
            progress.advance()
        for label in ("background", "style 3d → ink", "style ink → 3d", "colour"):
            rows.append(write_item(temporary, len(rows), query(rng, label), "test"))
        write_manifest(temporary, rows)
    return folder


def _training_edit(
    rng: random.Random, kind: str, before: str | None, after: str | None
) -> ClipEdit:
    """Grounds and colours need no knowledge of the subject, and any subject teaches to keep it."""

    def lot() -> ClipEdit:
        strange = kind != "style" and rng.random() < 0.5
        return random_edit(rng, kind, STRANGE) if strange else training_edit(rng, kind)

    return between_styles(lot, before, after)


def write_item(folder: Path, index: int, edit: ClipEdit, split: str = "train") -> dict[str, str]:
    """Save the source's clip; returns the manifest's row."""
    name = f"{index:05d}.mp4"
    write_lossless(folder / name, draw(edit.source))
    return manifest_row(name, edit, caption, split)


def write_lossless(path: Path, frames: np.ndarray) -> None:
    """An MP4 from which the very frames (F, H, W, 3), uint8, are read again.

    Halved chroma, as films for players have it, would blur the colours of pictures so small.
    """
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264rgb", rate=FPS, options={"qp": "0"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24"
        for array in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(array, "rgb24")))
        out.mux(stream.encode())


# ---------------------------------------------------------------- the report


def report_cost(steps: int, r: float) -> float:
    """What `report` costs, in forwards of one clip: F. A forward of the base costs r F."""
    return len(KINDS) * QUERIES * (steps * (1 + r) + JUDGED)


def report(run: Path, device: str = "cpu", queries: int = QUERIES) -> dict:
    """Measure a run on held-out names; write report.json, .png, .mp4 and .gif, print the tables."""
    ours, recolour = Methods(run / f"{run.name}.safetensors", CLIPS, device), Recolour()
    methods: dict[str, Method] = {
        "ByG": ours.edit,
        "copy": lambda label, edits: [drawn(e.source) for e in edits],
        "recoloured copy": lambda label, edits: [recolour(label, e) for e in edits],
        "text-to-video": ours.text_to_image,
        "true target, encoded": ours.reconstruct,
        "true target": lambda label, edits: [drawn(e.target) for e in edits],
    }
    scores, shown = measure(methods, queries, recolour)
    result = {
        label: {
            **{name: asdict(score) for name, score in rows.items()},
            "goals": goals(rows["ByG"], rows["copy"], rows["recoloured copy"]),
        }
        for label, rows in scores.items()
    }
    with atomic(run / "report.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1, ensure_ascii=False), encoding="utf-8")
    film = _film(shown)
    write_picture(run / "report.png", film.strip())
    write_clip(run / "report.mp4", film.frames(), film.fps)
    _save_gif(run / "report.gif", _film(shown, per_kind=1))
    for table in _tables(scores, result):
        Console().print(table)
    return result


def _tables(scores: dict, result: dict) -> Iterator[Table]:
    """A narrow table per edit type, so that 80 columns hold it."""
    for label, rows in scores.items():
        missed = [goal for goal, met in result[label]["goals"].items() if not met]
        said = "all goals met" if not missed else f"missed: {'; '.join(missed)}"
        table = Table(title=label, caption=said, title_justify="left", caption_justify="left")
        table.add_column("held-out names")
        for heading in ("edit", "keep", "joint", "attribute", "error", "motion", "flicker"):
            table.add_column(heading, justify="right")
        for name, s in rows.items():
            cells = [f"{cell:.2f}" for cell in (s.edit, s.keep, s.joint, s.attribute)]
            table.add_row(name, *cells, f"{s.error:.3f}", f"{s.motion:.2f}", f"{s.flicker:.3f}")
        yield table


def _film(shown: dict[str, list[Example]], per_kind: int = 2) -> ClipComparison:
    """The first examples of every kind, side by side."""
    examples = [example for of_kind in shown.values() for example in of_kind[:per_kind]]
    columns = {
        "source": lambda e: drawn(e.edit.source),
        "edit": lambda e: e.outs["ByG"],
        "text-to-video": lambda e: e.outs["text-to-video"],
        "true target": lambda e: e.outs["true target"],
    }
    clips = [
        [(column(e) * 255).round().astype(np.uint8) for column in columns.values()]
        for e in examples
    ]
    return ClipComparison(
        clips, list(columns), [e.edit.instruction for e in examples], Fraction(FPS)
    )


def _save_gif(path: Path, film: ClipComparison) -> None:
    """What a README can show: an endless loop, at half size."""
    first, *others = (Image.fromarray(frame).reduce(2) for frame in film.frames())
    with atomic(path) as temporary:
        first.save(
            temporary, "GIF", save_all=True, append_images=others, duration=1000 // FPS, loop=0
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    report(args.run, args.device, args.queries)


if __name__ == "__main__":
    main()
