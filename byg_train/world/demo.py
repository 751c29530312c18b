"""The demo: the tiny world's training set as files, and what a LoRA does on held-out names.

python -m byg_train.world.demo RUN [--queries 150]     measures a run again
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from ..backbones import load_backbone
from ..edit import attach, open_lora
from ..evaluate.true_pairs import (
    ColourMap,
    Score,
    error,
    gate,
    mean_colour,
    miss,
    progress,
    rank,
    style_statistics,
)
from ..files import atomic
from ..flow import integrate
from ..grid import labelled_grid, save_picture
from ..samples import sampling_grid
from .names import HELD_OUT, KNOWN, SUBJECTS
from .scenes import (
    EDITED,
    Edit,
    Scene,
    caption,
    draw,
    object_mask,
    random_edit,
    training_edit,
)

# What the demo trains on: (edit type, source style or None, share).
SHARES = (
    ("background", None, 0.26),
    ("style", "3d", 0.16),
    ("style", "ink", 0.22),
    ("style", "flat", 0.06),
    ("colour", None, 0.1),
    ("add", None, 0.08),
    ("remove", None, 0.06),
    ("replace", None, 0.06),
)
ITEMS = 1600
# What the report measures: label -> (edit type, source style, target style).
KINDS = {
    "background": ("background", None, None),
    "style 3d → ink": ("style", "3d", "ink"),
    "style ink → 3d": ("style", "ink", "3d"),
    "colour": ("colour", None, None),
    "add": ("add", None, None),
    "remove": ("remove", None, None),
    "replace": ("replace", None, None),
}
GALLERY = 150


def prepare(folder: Path, items: int = ITEMS, seed: int = 0) -> Path:
    """Render the training set into a folder: PNGs and metadata.jsonl, unpaired.

    Every item shows a known subject; its target is a combination that the base has never seen. The
    few items of split `test` show held-out names and are only looked at.
    """
    rng, rows = random.Random(seed), []
    if (folder / "metadata.jsonl").exists():
        return folder
    with atomic(folder) as temporary:
        temporary.mkdir()
        for kind, style, share in SHARES:
            for _ in range(round(items * share)):
                rows.append(_write(temporary, len(rows), _training_edit(rng, kind, style), "train"))
        for label in ("background", "style 3d → ink", "style ink → 3d", "colour"):
            rows.append(_write(temporary, len(rows), query(rng, label), "test"))
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (temporary / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return folder


def _training_edit(rng: random.Random, kind: str, style: str | None) -> Edit:
    while style not in (None, (edit := training_edit(rng, kind)).source.style):
        pass
    return edit


def _write(folder: Path, index: int, edit: Edit, split: str) -> dict[str, str]:
    name = f"{index:05d}.png"
    Image.fromarray(draw(edit.source)).save(folder / name)
    return {
        "file_name": name,
        "src_caption": caption(edit.source),
        "tgt_caption": caption(edit.target),
        "instruction": edit.instruction,
        "reverse_instruction": edit.reverse_instruction,
        "edit_type": edit.edit_type,
        "split": split,
    }


def query(
    rng: random.Random, label: str, subjects: tuple[str, ...] = HELD_OUT, **fixed: object
) -> Edit:
    """A random edit of one of `KINDS`, by default of a held-out name."""
    kind, source, target = KINDS[label]
    while True:
        edit = random_edit(rng, kind, subjects, **fixed)
        if source in (None, edit.source.style) and target in (None, edit.target.style):
            return edit


# ---------------------------------------------------------------- measuring


def _drawn(scene: Scene) -> np.ndarray:
    return draw(scene).astype(np.float32) / 255


def attribute(edit: Edit, out: np.ndarray) -> tuple[float, float]:
    """Progress and miss of what the edit changes, measured where it changes."""
    source, target = _drawn(edit.source), _drawn(edit.target)
    masks = np.maximum(object_mask(edit.source), object_mask(edit.target))
    if edit.edit_type == "background":
        values = [mean_colour(p, 1.0 - masks) for p in (out, source, target)]
    elif edit.edit_type == "style":
        values = [style_statistics(p, masks) for p in (out, source, target)]
    elif edit.edit_type == "colour":
        values = [mean_colour(p, masks) for p in (out, source, target)]
    else:  # what appears or goes is the whole of what differs
        values = [out, source, target]
    return progress(*values), miss(*values)


def _alike(rng: random.Random, edit: Edit) -> np.ndarray:
    """149 pictures like the true target in all but the subject."""
    names = rng.sample([n for n in SUBJECTS if n != edit.target.subject], GALLERY - 1)
    others = [draw(replace(edit.target, subject=n)) for n in names]
    return np.stack(others).astype(np.float32) / 255


class Recolour:
    """The best global colour map per asked attribute, fitted on 60 true pairs of known subjects."""

    def __init__(self) -> None:
        self.maps: dict[tuple, ColourMap] = {}

    def __call__(self, label: str, edit: Edit) -> np.ndarray:
        """Recolour the source as well as a map can that knows both values of the attribute."""
        field = EDITED[edit.edit_type]
        before = {field: getattr(edit.source, field)}
        after = {field: getattr(edit.target, field)}
        if edit.source.style == "ink" and edit.edit_type == "style":
            after["tint"] = edit.target.tint
        key = (label, *before.values(), *after.values())
        if key not in self.maps:
            rng = random.Random(str(key))
            pairs = [query(rng, label, KNOWN) for _ in range(60)]
            sources = np.stack([_drawn(replace(e.source, **before)) for e in pairs])
            targets = np.stack([_drawn(replace(e.target, **after)) for e in pairs])
            self.maps[key] = ColourMap(sources, targets)
        return self.maps[key](_drawn(edit.source))


Method = Callable[[str, list[Edit]], list[np.ndarray]]


def _score(edits: list[Edit], outs: list[np.ndarray], galleries: list[np.ndarray]) -> Score:
    truths = [_drawn(e.target) for e in edits]
    places = [rank(o, t, g) for o, t, g in zip(outs, truths, galleries, strict=True)]
    attributes = [attribute(e, o) for e, o in zip(edits, outs, strict=True)]
    return Score(
        top5=float(np.mean(np.array(places) < 5)),
        attribute=float(np.mean([went for went, _ in attributes])),
        miss=float(np.mean([left for _, left in attributes])),
        error=float(np.mean([error(o, t) for o, t in zip(outs, truths, strict=True)])),
        queries=len(edits),
    )


def measure(methods: dict[str, Method], queries: int, seed: int = 1) -> tuple[dict, dict]:
    """Scores {label: {method: Score}} and the pictures {label: [(edit, {method: picture})]}."""
    scores, shown = {}, {}
    for label in KINDS:
        rng = random.Random(f"{seed} {label}")
        edits = [query(rng, label) for _ in range(queries)]
        galleries = [_alike(rng, e) for e in edits]
        outs = {name: method(label, edits) for name, method in methods.items()}
        scores[label] = {
            name: _score(edits, pictures, galleries) for name, pictures in outs.items()
        }
        shown[label] = [
            (e, {name: pictures[i] for name, pictures in outs.items()}) for i, e in enumerate(edits)
        ]
    return scores, shown


# ---------------------------------------------------------------- methods


class Editor:
    """A LoRA over its base, editing batches of the world's pictures."""

    def __init__(self, lora: Path, device: str = "cpu") -> None:
        opened = open_lora(lora, None)
        self.info, self.backbone = opened.info, load_backbone(opened.model, device)
        self.bank = attach(opened, self.backbone, strength=1.0)

    def edit(self, label: str, edits: list[Edit]) -> list[np.ndarray]:
        """Edit the sources by their instructions."""
        pixels = torch.stack([_tensor(draw(e.source)) for e in edits])
        source = self.backbone.encode_pixels(pixels)
        text = self.backbone.encode_text([e.instruction for e in edits])
        return self._sample(text, source, self.info.guidance_sample)

    def text_to_image(self, label: str, edits: list[Edit]) -> list[np.ndarray]:
        """The base alone, from the target caption."""
        text = self.backbone.encode_text([caption(e.target) for e in edits])
        like = self.backbone.encode_pixels(torch.stack([_tensor(draw(e.source)) for e in edits]))
        with self.bank.using("base"):
            return self._sample(text, None, self.info.guidance_sample, like)

    def reconstruct(self, label: str, edits: list[Edit]) -> list[np.ndarray]:
        """The true targets through the VAE: the best that any edit of latents could reach."""
        pixels = torch.stack([_tensor(draw(e.target)) for e in edits])
        return _pictures(self.backbone.decode_latents(self.backbone.encode_pixels(pixels)))

    def _sample(
        self,
        text: dict,
        source: torch.Tensor | None,
        guidance: float | None,
        like: torch.Tensor | None = None,
    ) -> list[np.ndarray]:
        like = source if like is None else like
        eps = torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like)
        grid = sampling_grid(self.info.sample_steps, self.info.sample_shift, like)
        with torch.no_grad():
            z = integrate(
                lambda y, t: self.backbone.velocity(y, t, text, source, guidance=guidance),
                eps,
                grid,
            )
        return _pictures(self.backbone.decode_latents(z))


def _pictures(pixels: torch.Tensor) -> list[np.ndarray]:
    """Pixels (B, 3, 1, H, W) in [-1, 1] -> pictures (H, W, 3) in [0, 1]."""
    return list(((pixels[:, :, 0].clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).cpu().numpy())


def _tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[:, None].float() / 127.5 - 1


# ---------------------------------------------------------------- report


def report(run: Path, device: str = "cpu", queries: int = 32) -> dict:
    """Measure a run on held-out names; write `report.json` and `report.png`, print the table."""
    editor, recolour = Editor(run / f"{run.name}.safetensors", device), Recolour()
    methods: dict[str, Method] = {
        "ByG": editor.edit,
        "copy": lambda label, edits: [_drawn(e.source) for e in edits],
        "recoloured copy": lambda label, edits: [recolour(label, e) for e in edits],
        "text-to-image": editor.text_to_image,
        "true target, encoded": editor.reconstruct,
    }
    scores, shown = measure(methods, queries)
    result = {
        label: {
            **{name: asdict(score) for name, score in rows.items()},
            "goals": gate(rows["ByG"], rows["copy"], rows["recoloured copy"]),
        }
        for label, rows in scores.items()
    }
    with atomic(run / "report.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1, ensure_ascii=False), encoding="utf-8")
    save_picture(run / "report.png", _grid(shown))
    for table in _tables(scores, result):
        Console().print(table)
    return result


def _tables(scores: dict, result: dict) -> Iterator[Table]:
    """A narrow table per edit type, so that 80 columns hold it."""
    for label, rows in scores.items():
        goals = result[label]["goals"]
        missed = [goal for goal, met in goals.items() if not met]
        table = Table(
            title=f"{label}: {'all goals met' if not missed else 'not ' + ', '.join(missed)}"
        )
        for heading in ("held-out names", "top 5 of 150", "attribute", "miss", "error"):
            table.add_column(heading, justify="left" if heading == "held-out names" else "right")
        for name, s in rows.items():
            cells = (s.top5, s.attribute, s.miss, s.error)
            table.add_row(name, *(f"{cell:.2f}" for cell in cells[:3]), f"{cells[3]:.3f}")
        yield table


def _grid(shown: dict, per_kind: int = 2) -> Image.Image:
    rows, labels = [], []
    for examples in shown.values():
        square = [x for x in examples if x[0].source.canvas == (48, 48)][:per_kind]
        for edit, outs in square:
            pictures = [_drawn(edit.source), *outs.values()]
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
