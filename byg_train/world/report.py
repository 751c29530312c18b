"""The demos' report: what a run does on held-out names, in tables and side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from ..evaluate.true_pairs import Score
from ..files import atomic, write_json
from ..media.clip_grid import ClipComparison
from ..media.grid import labelled_grid
from ..media.pixels import from_unit
from ..media.writer import write_clip, write_picture
from .clips import FPS
from .judge import CLIPS, GALLERY, ClipScore, Example, Judge, Method, Recolour
from .methods import Methods
from .scenes import SIZE

# Edits of each type in the report that follows on a training.
QUERIES = 16
# What judging the edit of a picture, or of a clip, costs in F.
PICTURE_JUDGED, CLIP_JUDGED = 10, 50
# Heading -> field of the score and its form.
PICTURE_COLUMNS = {
    "top 5": ("top5", ".2f"),
    "attribute": ("attribute", ".2f"),
    "error": ("error", ".3f"),
    "edit": ("edit", ".2f"),
    "keep": ("keep", ".2f"),
    "joint": ("joint", ".2f"),
}
CLIP_COLUMNS = {
    "edit": ("edit", ".2f"),
    "keep": ("keep", ".2f"),
    "joint": ("joint", ".2f"),
    "attribute": ("attribute", ".2f"),
    "error": ("error", ".3f"),
    "motion": ("motion", ".2f"),
    "flicker": ("flicker", ".3f"),
}
# Heading -> which of `Judge.goals` speak of it.
GOALS = {"top 5": (0,), "attribute": (1,), "error": (2, 3), "motion": (4,)}


def report_cost(judge: Judge, steps: int, r: float) -> float:
    """What `report` costs, in forwards of one item: F. A forward of the base costs r F."""
    judged = CLIP_JUDGED if judge is CLIPS else PICTURE_JUDGED
    return len(judge.labels) * QUERIES * (steps * (1 + r) + judged)


def report(run: Path, judge: Judge, device: str = "cpu", queries: int = QUERIES) -> dict:
    """Measure a run on held-out names; write report.json and .png, print the tables.

    Of clips there are report.mp4 and report.gif as well.
    """
    ours, recolour = Methods(run / f"{run.name}.safetensors", judge, device), Recolour(judge)
    methods: dict[str, Method] = {
        "ByG": ours.edit,
        "copy": lambda label, edits: [judge.drawn(e.source) for e in edits],
        "recoloured copy": lambda label, edits: [recolour(label, e) for e in edits],
        "text-to-video" if judge is CLIPS else "text-to-image": ours.text_to_image,
        "true target, encoded": ours.reconstruct,
    }
    if judge is CLIPS:
        methods["true target"] = lambda label, edits: [judge.drawn(e.target) for e in edits]
    scores, shown = judge.measure(methods, queries, recolour=recolour)
    result = {
        label: {
            **{name: asdict(score) for name, score in rows.items()},
            "goals": judge.goals(rows["ByG"], rows["copy"], rows["recoloured copy"]),
        }
        for label, rows in scores.items()
    }
    write_json(run / "report.json", result)
    (show_clips if judge is CLIPS else show_pictures)(run, judge, shown)
    for table in tables(scores, result):
        Console().print(table)
    return result


def tables(scores: Mapping[str, Mapping[str, Score]], result: dict) -> Iterator[Table]:
    """A narrow table per edit type, so that 80 columns hold it; goals are marked."""
    for label, rows in scores.items():
        met = result[label]["goals"]
        missed = "; ".join(goal for goal, reached in met.items() if not reached)
        columns = CLIP_COLUMNS if isinstance(rows["ByG"], ClipScore) else PICTURE_COLUMNS
        among = f", top 5 of {GALLERY} alike" if "top 5" in columns else ""
        table = Table(
            title=f"{label}: {rows['ByG'].queries} edits{among}",
            caption=f"missed: {missed}" if missed else "all goals met",
            title_justify="left",
            caption_justify="left",
        )
        table.add_column("held-out names")
        for heading in columns:
            table.add_column(heading, justify="right")
        for name, score in rows.items():
            cells = {h: f"{getattr(score, field):{form}}" for h, (field, form) in columns.items()}
            if name == "ByG":  # the goals are for what was trained
                for heading in GOALS.keys() & cells.keys():
                    reached = all([*met.values()][i] for i in GOALS[heading])
                    cells[heading] += f" {'✓' if reached else '✗'}"
            table.add_row(name, *cells.values())
        yield table


# ---------------------------------------------------------------- to look at


def show_pictures(
    run: Path, judge: Judge, shown: Mapping[str, list[Example]], per_label: int = 2
) -> None:
    """The first square examples of every label by every method, in report.png."""
    rows, labels = [], []
    for examples in shown.values():
        square = [e for e in examples if e.edit.source.canvas == (SIZE, SIZE)]
        for edit, results in square[:per_label]:
            frames = [judge.drawn(edit.source), *results.values()]
            rows.append([Image.fromarray(from_unit(f[0])) for f in frames])
            labels.append(edit.instruction)
    columns = ["source", *next(iter(shown.values()))[0].results]
    write_picture(run / "report.png", labelled_grid(rows, columns, labels))


def show_clips(run: Path, judge: Judge, shown: Mapping[str, list[Example]]) -> None:
    """The first examples of every label beside each other, in report.png, .mp4 and .gif."""
    both = comparison(judge, shown, 2)
    write_picture(run / "report.png", both.strip())
    write_clip(run / "report.mp4", both.frames(), both.fps)
    write_gif(run / "report.gif", comparison(judge, shown, 1))


def comparison(judge: Judge, shown: Mapping[str, list[Example]], per_label: int) -> ClipComparison:
    examples = [example for of_label in shown.values() for example in of_label[:per_label]]

    def row(example: Example) -> dict[str, Any]:
        results = example.results
        return {
            "source": judge.drawn(example.edit.source),
            "edit": results["ByG"],
            "text-to-video": results["text-to-video"],
            "true target": judge.drawn(example.edit.target),
        }

    rows = [row(example) for example in examples]
    clips = [[from_unit(frames) for frames in each.values()] for each in rows]
    captions = [example.edit.instruction for example in examples]
    return ClipComparison(clips, [*rows[0]], captions, Fraction(FPS))


def write_gif(path: Path, shown: ClipComparison) -> None:
    """What a README can show: an endless loop, at half size."""
    first, *others = (Image.fromarray(frame).reduce(2) for frame in shown.frames())
    with atomic(path) as temporary:
        first.save(
            temporary, "GIF", save_all=True, append_images=others, duration=1000 // FPS, loop=0
        )
