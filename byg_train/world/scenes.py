"""Scenes of the tiny world: what is drawn, how it is told, and how it is edited.

A scene is one subject in a style on a ground, sometimes with a small second object in a corner.
The caption says all of it, so every edit has one exact true counterpart: `draw(edit.target)`.
Pictures are uint8 (H, W, 3).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image, ImageOps

from .names import (
    COLOURS,
    CORNERS,
    EXTRAS,
    KNOWN,
    PATTERNS,
    SHORT_NAME,
    STYLE_PHRASE,
    STYLES,
    TINTS,
)

CELL = 48
SIZE = 48
SUBJECT_SIZE = 32
# A picture and its mirrored one are alike below this root mean square in [0, 1]: so much the tiny
# VAE loses of a picture (the median of 256), so no result could be told to be the one or the other.
SAME = 0.04
# Edit type -> the attribute of a scene that it changes.
EDITED = {
    "background": "ground",
    "style": "style",
    "colour": "tint",
    "add": "extra",
    "remove": "extra",
    "replace": "extra",
}
EDIT_TYPES = tuple(EDITED)


@dataclass(frozen=True)
class Scene:
    """Everything that determines a picture; the last three are the wide world's (`wide.py`)."""

    subject: str
    style: str
    ground: str
    pattern: str
    tint: str | None = None
    extra: str | None = None
    corner: str = CORNERS[0]
    canvas: tuple[int, int] = (SIZE, SIZE)
    place: tuple[int, int] = (0, 0)  # right and down of the middle, -1 to 1 is edge to edge
    mirrored: bool = False
    called: str | None = None  # what texts say for the subject's name

    @property
    def name(self) -> str:
        """What texts call the subject."""
        return self.called or self.subject


@dataclass(frozen=True)
class Edit:
    """A source scene, or clip, its true counterpart, and the texts between them."""

    edit_type: str
    source: Any
    target: Any
    instruction: str
    reverse_instruction: str


# ---------------------------------------------------------------- drawing


@lru_cache
def _atlas(style: str) -> Image.Image:
    return Image.open(Path(__file__).parent / "pictures" / f"{style}.webp").convert("RGBA")


@lru_cache(8192)
def _shrunk(name: str, style: str, tint: str | None, side: int, mirrored: bool) -> Image.Image:
    picture = sprite(name, style, tint).resize((side, side), Image.Resampling.LANCZOS)
    return ImageOps.mirror(picture) if mirrored else picture


def sprite(name: str, style: str, tint: str | None) -> Image.Image:
    """Return one emoji as RGBA; a tint keeps light and shade and replaces the hue."""
    i = list(SHORT_NAME).index(name)
    x, y = CELL * (i % 16), CELL * (i // 16)
    picture = _atlas(style).crop((x, y, x + CELL, y + CELL))
    return picture if tint is None or style == "ink" else _tinted(picture, COLOURS[tint])


def _tinted(picture: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    rgba = np.asarray(picture, np.float32) / 255
    light = rgba[..., :3] @ np.float32([0.299, 0.587, 0.114])
    middle = np.median(light[rgba[..., 3] > 0.5])
    ramp = np.interp(light, [0, middle, 1], [0.0, 0.5, 1.0])[..., None]
    c = np.float32(colour) / 255
    shade, shine = c * (0.3 + 1.4 * ramp), c + (1 - c) * (ramp - 0.5) * 1.6
    rgba[..., :3] = np.where(ramp < 0.5, shade, shine).clip(0, 1)
    return Image.fromarray((rgba * 255).round().astype(np.uint8), "RGBA")


@lru_cache(512)
def _ground(colour: str, pattern: str, canvas: tuple[int, int]) -> Image.Image:
    width, height = canvas
    y, x = np.mgrid[:height, :width]
    on = {
        "plain": np.zeros((height, width), bool),
        "striped": (x + y) % 12 < 6,
        "dotted": (x % 10 - 4.5) ** 2 + (y % 10 - 4.5) ** 2 < 7,
        "checkered": (x // 8 + y // 8) % 2 == 0,
    }[pattern]
    base = np.float32(COLOURS[colour])
    second = base * 0.86 if colour == "white" else base + (255 - base) * 0.35
    levels = np.where(on[..., None], second, base).round().astype(np.uint8)
    return Image.fromarray(levels).convert("RGBA")


def draw(scene: Scene) -> np.ndarray:
    """The picture of a scene, uint8 (H, W, 3)."""
    picture = _ground(scene.ground, scene.pattern, scene.canvas).copy()
    for cell, at in _objects(scene):
        picture.alpha_composite(cell, at)
    return np.asarray(picture)[..., :3]


@lru_cache(8192)
def is_symmetric(scene: Scene) -> bool:
    """Whether a scene with its subject mirrored looks the same."""
    pictures = (draw(replace(scene, mirrored=value)) / 255.0 for value in (False, True))
    return float(np.sqrt(np.mean(np.subtract(*pictures) ** 2))) < SAME


def _objects(scene: Scene) -> list[tuple[Image.Image, tuple[int, int]]]:
    width, height = scene.canvas
    subject = _shrunk(scene.subject, scene.style, scene.tint, SUBJECT_SIZE, scene.mirrored)
    right, down = scene.place
    left = (width - SUBJECT_SIZE) // 2 * (1 + right)
    top = (height - SUBJECT_SIZE) // 2 * (1 + down)
    objects = [(subject, (left, top))]
    if scene.extra:
        side = 15
        left = 1 if "left" in scene.corner else width - side - 1
        top = 1 if "top" in scene.corner else height - side - 1
        objects.append((_shrunk(scene.extra, scene.style, None, side, False), (left, top)))
    return objects


def object_mask(scene: Scene) -> np.ndarray:
    """The mask of the objects on the ground, float (H, W) in [0, 1]."""
    canvas = Image.new("RGBA", scene.canvas)
    for cell, at in _objects(scene):
        canvas.alpha_composite(cell, at)
    return np.asarray(canvas, np.float32)[..., 3] / 255


# ---------------------------------------------------------------- telling


def _ground_words(scene: Scene) -> str:
    pattern = "" if scene.pattern == "plain" else f" {scene.pattern}"
    return f"{scene.ground}{pattern} ground"


def _subject_words(scene: Scene, subject: str | None = None) -> str:
    tint = scene.tint if scene.style != "ink" else None
    return " ".join(w for w in (tint, subject or scene.name) if w)


def article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def caption(scene: Scene, subject: str | None = None) -> str:
    """Everything that a scene shows, in a sentence; `subject` replaces the name (name dropout)."""
    words = (
        f"{article(STYLE_PHRASE[scene.style])} of {article(_subject_words(scene, subject))}"
        f" on {article(_ground_words(scene))}"
    )
    return f"{words} with a small {scene.extra} at the {scene.corner}" if scene.extra else words


# ---------------------------------------------------------------- what the base may see


def _part(*words: str, parts: int = 3) -> int:
    return crc32("|".join(words).encode()) % parts


# What the base never sees of a name, by lot: of three in eight nothing is kept from it, so that it
# can learn how the styles of one subject belong together.
KEPT_FROM_BASE = ("ink", "ink", "3d", "3d", "flat", None, None, None)


def base_styles(subject: str) -> tuple[str, ...]:
    """The styles in which the base sees a known subject: two, or all three."""
    kept = KEPT_FROM_BASE[_part(subject, "style", parts=len(KEPT_FROM_BASE))]
    return tuple(style for style in STYLES if style != kept)


def withheld(scene: Scene) -> set[str]:
    """The attributes in which a scene leaves the base's share of the world.

    Of five subjects in eight the base never sees one style of three; of all, it never sees a third
    of the grounds, the tints and the second objects.
    """
    name = scene.subject
    kept = {
        "style": scene.style not in base_styles(name),
        "ground": _part(name, scene.ground, "ground") == 0,
        "tint": scene.tint is not None and _part(name, scene.tint, "tint") == 0,
        "extra": scene.extra is not None and _part(name, scene.extra, "extra") == 0,
    }
    return {attribute for attribute, away in kept.items() if away}


# ---------------------------------------------------------------- drawing lots


def random_scene(rng: random.Random, subjects: tuple[str, ...] = KNOWN, **fixed: object) -> Scene:
    """A random scene; `fixed` sets fields. Tint and ground never share a colour word."""
    subject = rng.choice(subjects)
    style = rng.choice(STYLES)
    tint = rng.choice(TINTS) if style != "ink" and rng.random() < 0.6 else None
    scene = Scene(
        subject=subject,
        style=style,
        ground=rng.choice([c for c in COLOURS if c != tint]),
        pattern=rng.choice(PATTERNS) if rng.random() < 0.6 else "plain",
        tint=tint,
        extra=rng.choice(EXTRAS) if rng.random() < 0.4 else None,
        corner=rng.choice(CORNERS),
    )
    return replace(scene, **fixed)


def other_word(rng: random.Random, words: tuple[str, ...], *never: str | None) -> str:
    return rng.choice([w for w in words if w not in never])


def random_edit(
    rng: random.Random, edit_type: str, subjects: tuple[str, ...] = KNOWN, **fixed: object
) -> Edit:
    """A random edit of one of `EDIT_TYPES`; texts are self-contained in both directions."""
    s = random_scene(rng, subjects, **fixed)
    if edit_type == "background":
        t = replace(s, ground=other_word(rng, tuple(COLOURS), s.ground, s.tint), pattern=s.pattern)
        t = replace(t, pattern=rng.choice(PATTERNS) if rng.random() < 0.6 else "plain")
        texts = tuple(f"change the background to {article(_ground_words(v))}" for v in (t, s))
    elif edit_type == "style":
        t = replace(s, style=other_word(rng, STYLES, s.style))
        if s.style == "ink":  # a colour that neither picture nor text holds could not be known
            t = replace(t, tint=other_word(rng, TINTS, s.ground))
        texts = (_style_text(s, t), _style_text(t, s))
    elif edit_type == "colour":
        s = replace(s, style=rng.choice(("3d", "flat")), tint=other_word(rng, TINTS, s.ground))
        t = replace(s, tint=other_word(rng, TINTS, s.ground, s.tint))
        texts = tuple(f"paint the {v.name} {v.tint}" for v in (t, s))
    elif edit_type in ("add", "remove"):
        full = replace(s, extra=s.extra or rng.choice(EXTRAS))
        bare = replace(full, extra=None)
        add = f"add a small {full.extra} at the {full.corner}"
        remove = f"remove the small {full.extra} at the {full.corner}"
        s, t, texts = (bare, full, (add, remove))[:3] if edit_type == "add" else (
            full, bare, (remove, add))  # fmt: skip
    else:
        s = replace(s, extra=s.extra or rng.choice(EXTRAS))
        t = replace(s, extra=other_word(rng, EXTRAS, s.extra))
        texts = tuple(
            f"replace the small {a.extra} with a small {b.extra}" for a, b in ((s, t), (t, s))
        )
    return Edit(edit_type, s, t, *texts)


def _style_text(source: Scene, target: Scene) -> str:
    words = f"turn the {STYLE_PHRASE[source.style]} into {article(STYLE_PHRASE[target.style])}"
    if source.style == "ink" and target.tint:
        words += f" with a {target.tint} subject"
    return words


def training_edit(
    rng: random.Random, edit_type: str, draw_lot: Callable[..., Edit] = random_edit
) -> Edit:
    """An edit of a picture from the base's share whose edited attribute the base has never seen.

    So the base, asked for the target caption, cannot recite a picture that it has memorised.
    Removal is the exception: what is left when an object goes is an ordinary scene. What becomes an
    ink drawing has a named colour: no way back could know another one, so the cycle would keep it.
    """
    while True:
        edit = draw_lot(rng, edit_type)
        new = edit_type == "remove" or EDITED[edit_type] in withheld(edit.target)
        untold = edit_type == "style" and edit.target.style == "ink" and not edit.source.tint
        if new and not untold and not withheld(edit.source):
            return edit
