"""The demos' report: what a run and the baselines on its base do on held-out names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ..editing.flowedit import FlowEditSettings, edit_by_flowedit
from ..editing.opening import open_lora
from ..evaluate.true_pairs import Score
from ..files import atomic, write_json
from ..media.clip_grid import ClipComparison
from ..media.grid import labelled_grid
from ..media.pixels import from_unit, to_batch
from ..media.writer import write_clip, write_picture
from .clips import FPS
from .judge import CLIPS, GALLERY, PICTURES, ClipScore, Example, Frames, Judge, Method, Recolour
from .scenes import SIZE

# Edits of each type in the report that follows on a training.
QUERIES = 16
# What judging the edit of a picture, or of a clip, costs in F.
PICTURE_JUDGED, CLIP_JUDGED = 10, 50
# Fields of a score, in the order of a table's columns; those of three digits have finer steps.
PICTURE_COLUMNS = ("top5", "attribute", "error", "edit", "keep", "joint")
CLIP_COLUMNS = ("edit", "keep", "joint", "attribute", "error", "motion", "flicker")
HEADINGS, FINE = {"top5": "top 5"}, ("error", "flicker")
# Field -> which of `Judge.goals` speak of it.
GOALS = {"top5": (0,), "attribute": (1,), "error": (2, 3), "motion": (4,)}
# FLUX.1-dev's numbers, but for the guidance, which suits the tiny base: the best of eight settings
# on known names (benchmarks/flowedit_settings.py).
FLOWEDIT = FlowEditSettings(guidance_src=1.0, guidance_tgt=2.0)


def report_cost(judge: Judge, steps: int, r: float) -> float:
    """What `report` costs, in forwards of one item: F. A forward of the base costs r F."""
    judged = CLIP_JUDGED if judge is CLIPS else PICTURE_JUDGED
    return len(judge.labels) * QUERIES * (steps * (1 + r) + judged)


def report(
    run: Path, judge: Judge, device: str = "cpu", queries: int = QUERIES, *, flowedit: bool = False
) -> dict:
    """Measure a run on held-out names; write report.json and .png, print the tables.

    Of clips there are report.mp4 and report.gif as well. With `flowedit` zero-shot FlowEdit on the
    same base is measured too.
    """
    ours, recolour = Methods(run / f"{run.name}.safetensors", judge, device), Recolour(judge)
    methods: dict[str, Method] = {
        "ByG": ours.edit,
        "copy": lambda label, edits: [judge.drawn(e.source) for e in edits],
        "recoloured copy": lambda label, edits: [recolour(label, e) for e in edits],
        "text-to-video" if judge is CLIPS else "text-to-image": ours.text_to_image,
        "true target, encoded": ours.reconstruct,
    }
    if flowedit:
        methods["FlowEdit"] = ours.flowedit
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
    if judge is CLIPS:
        show_clips(run, judge, shown)
    else:
        show_pictures(run / "report.png", judge, shown)
    for table in tables(scores, result):
        Console().print(table)
    return result


def tables(scores: Mapping[str, Mapping[str, Score]], result: dict) -> Iterator[Table]:
    """A narrow table per edit type, so that 80 columns hold it; goals are marked."""
    for label, rows in scores.items():
        met = result[label]["goals"]
        missed = "; ".join(goal for goal, reached in met.items() if not reached)
        columns = CLIP_COLUMNS if isinstance(rows["ByG"], ClipScore) else PICTURE_COLUMNS
        among = f", top 5 of {GALLERY} alike" if "top5" in columns else ""
        table = Table(
            title=f"{label}: {rows['ByG'].queries} edits{among}",
            caption=f"missed: {missed}" if missed else "all goals met",
            title_justify="left",
            caption_justify="left",
        )
        table.add_column("held-out names")
        for field in columns:
            table.add_column(HEADINGS.get(field, field), justify="right")
        for name, score in rows.items():
            cells = {f: f"{getattr(score, f):.{3 if f in FINE else 2}f}" for f in columns}
            if name == "ByG":  # the goals are for what was trained
                for field in GOALS.keys() & cells.keys():
                    reached = all([*met.values()][i] for i in GOALS[field])
                    cells[field] += f" {'✓' if reached else '✗'}"
            table.add_row(name, *cells.values())
        yield table


# ---------------------------------------------------------------- to look at


def show_pictures(
    path: Path, judge: Judge, shown: Mapping[str, list[Example]], per_label: int = 2
) -> None:
    """The first square examples of every label by every method."""
    rows, labels = [], []
    for examples in shown.values():
        square = [e for e in examples if e.edit.source.canvas == (SIZE, SIZE)]
        for edit, results in square[:per_label]:
            frames = [judge.drawn(edit.source), *results.values()]
            rows.append([Image.fromarray(from_unit(f[0])) for f in frames])
            labels.append(edit.instruction)
    columns = ["source", *next(iter(shown.values()))[0].results]
    write_picture(path, labelled_grid(rows, columns, labels))


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


class Methods:
    """Methods (label, edits) -> frames of each edit, by one LoRA and its base."""

    def __init__(
        self, lora: Path, judge: Judge = PICTURES, device: str = "cpu", seed: int = 0
    ) -> None:
        """Load the LoRA on its base; `seed` draws the noise that every method starts from."""
        self.editor, self.judge, self.seed = open_lora(lora, None).load(device), judge, seed

    def edit(self, label: str, edits: Sequence[Any]) -> list[Frames]:
        """Edit the sources by their instructions."""
        x = self.latents([e.source for e in edits])
        texts = [e.instruction for e in edits]
        return self.results(self.editor.sample(x, texts, x, seed=self.seed))

    def text_to_image(self, label: str, edits: Sequence[Any]) -> list[Frames]:
        """Draw, or film, the target's caption with the base alone, which never sees the source."""
        like, texts = self.latents([e.source for e in edits]), self._captions(edits, "target")
        return self.results(self.editor.sample(like, texts, seed=self.seed, role="base"))

    def flowedit(
        self, label: str, edits: Sequence[Any], settings: FlowEditSettings = FLOWEDIT
    ) -> list[Frames]:
        """FlowEdit on the base, from the source's caption to the target's."""
        x = self.latents([e.source for e in edits])
        texts = (self._captions(edits, side) for side in ("source", "target"))
        y = edit_by_flowedit(self.editor, x, *texts, seed=self.seed, settings=settings)
        return self.results(y)

    def reconstruct(self, label: str, edits: Sequence[Any]) -> list[Frames]:
        """The true targets through the VAE: the best that any edit of latents could reach."""
        return self.results(self.latents([e.target for e in edits]))

    def latents(self, drawn: Sequence[Any]) -> Tensor:
        """What the VAE makes of scenes or clips: (B, C, F, h, w)."""
        return self.editor.backbone.encode_pixels(to_batch(map(self.judge.levels, drawn)))

    def _captions(self, edits: Sequence[Any], side: str) -> list[str]:
        return [self.judge.caption(getattr(e, side)) for e in edits]

    def results(self, latents: Tensor) -> list[Frames]:
        """What the VAE makes of latents: frames in [0, 1] of each edit."""
        pixels = self.editor.decoded(latents)
        return list(((pixels + 1) / 2).permute(0, 2, 3, 4, 1).numpy())
