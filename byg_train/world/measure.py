"""What an editor does on held-out names of the tiny world, beside the true counterparts."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ..backbones import load_backbone
from ..edit import attach, open_lora
from ..evaluate.true_pairs import (
    ColourMap,
    Score,
    error,
    mean_colour,
    miss,
    progress,
    rank,
    style_statistics,
)
from ..flow import integrate
from ..samples import sampling_grid
from .names import HELD_OUT, KNOWN, SUBJECTS
from .scenes import EDITED, Edit, Scene, caption, draw, object_mask, random_edit

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


def query(
    rng: random.Random, label: str, subjects: tuple[str, ...] = HELD_OUT, **fixed: object
) -> Edit:
    """A random edit of one of `KINDS`, by default of a held-out name."""
    kind, source, target = KINDS[label]
    while True:
        edit = random_edit(rng, kind, subjects, **fixed)
        if source in (None, edit.source.style) and target in (None, edit.target.style):
            return edit


def drawn(scene: Scene) -> np.ndarray:
    return draw(scene).astype(np.float32) / 255


def attribute(edit: Edit, out: np.ndarray) -> tuple[float, float]:
    """Progress and miss of what the edit changes, measured where it changes."""
    source, target = drawn(edit.source), drawn(edit.target)
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
    """The best global colour map per asked attribute, fitted on 30 true pairs of known subjects."""

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
            pairs = [query(rng, label, KNOWN) for _ in range(30)]
            sources = np.stack([drawn(replace(e.source, **before)) for e in pairs])
            targets = np.stack([drawn(replace(e.target, **after)) for e in pairs])
            self.maps[key] = ColourMap(sources, targets)
        return self.maps[key](drawn(edit.source))


Method = Callable[[str, list[Edit]], list[np.ndarray]]


def _score(edits: list[Edit], outs: list[np.ndarray], galleries: list[np.ndarray]) -> Score:
    truths = [drawn(e.target) for e in edits]
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
