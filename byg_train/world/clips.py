"""Clips of the tiny world: one subject in a style, in motion on a ground, and edits of them.

The caption says all of it, so every edit has one exact true counterpart: `draw(edit.target)`, in
the same motion. Clips are uint8 (F, H, W, 3).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from .names import COLOURS, STYLE_PHRASE, STYLES, TINTS
from .scenes import article, sprite

FRAMES, FPS, SIZE = 9, 8, 48
# Pixels: the side of a subject, and how far it moves with each frame. Slow: a latent frame holds
# four, and a small VAE blurs edges that cross several of its cells.
SIDE, STEP = 28, 1

# Names that the base learns. Few: a network of this size draws them well. Their ink drawing is an
# outline of the 3d render's silhouette, and they can be told apart at SIDE pixels.
_KNOWN = """
fox egg shirt balloon fish lock elephant pear penguin gem rabbit swan door pizza snail panda
"""
KNOWN = tuple(_KNOWN.split())
GROUNDS = ("yellow", "green", "blue", "pink", "gray", "white")
MOTIONS = {
    "still": "standing still",
    "left": "moving left",
    "right": "moving right",
    "up": "rising",
    "down": "falling",
}
# Edit type -> the attribute of a clip that it changes.
EDITED = {"background": "ground", "style": "style", "colour": "tint"}
EDIT_TYPES = tuple(EDITED)


@dataclass(frozen=True)
class Clip:
    """Everything that determines a clip; the caption says all of it. An ink drawing has no tint."""

    subject: str
    style: str
    ground: str
    motion: str
    tint: str | None = None


@dataclass(frozen=True)
class ClipEdit:
    """A source clip, its true counterpart, and the texts between them."""

    edit_type: str
    source: Clip
    target: Clip
    instruction: str
    reverse_instruction: str


# ---------------------------------------------------------------- drawing


def path(motion: str) -> np.ndarray:
    """The subject's middle in every frame, (F, 2): x to the right, y down, from the clip's."""
    way, none = STEP * (np.arange(FRAMES) - FRAMES // 2), np.zeros(FRAMES, int)
    x = {"left": -way, "right": way}.get(motion, none)
    y = {"up": -way, "down": way}.get(motion, none)
    return np.stack([x, y], 1)


@lru_cache(4096)
def _shrunk(subject: str, style: str, tint: str | None) -> Image.Image:
    return sprite(subject, style, tint).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _objects(clip: Clip) -> Iterator[tuple[Image.Image, tuple[int, int]]]:
    """The subject's picture and its upper left corner, frame by frame."""
    cell, edge = _shrunk(clip.subject, clip.style, clip.tint), (SIZE - SIDE) // 2
    for x, y in path(clip.motion).tolist():
        yield cell, (edge + x, edge + y)


def draw(clip: Clip) -> np.ndarray:
    """The frames, uint8 (F, H, W, 3)."""
    frames = []
    for cell, at in _objects(clip):
        frame = Image.new("RGBA", (SIZE, SIZE), COLOURS[clip.ground])
        frame.alpha_composite(cell, at)
        frames.append(np.asarray(frame)[..., :3])
    return np.stack(frames)


def object_mask(clip: Clip) -> np.ndarray:
    """The mask of the subject on the ground, float (F, H, W) in [0, 1]."""
    masks = []
    for cell, at in _objects(clip):
        frame = Image.new("RGBA", (SIZE, SIZE))
        frame.alpha_composite(cell, at)
        masks.append(np.asarray(frame, np.float32)[..., 3] / 255)
    return np.stack(masks)


# ---------------------------------------------------------------- telling


def caption(clip: Clip, subject: str | None = None) -> str:
    """Everything that a clip shows, in a sentence; `subject` replaces the name (name dropout)."""
    tint = clip.tint if clip.style != "ink" else None
    words = " ".join(w for w in (tint, subject or clip.subject) if w)
    return (
        f"{article(STYLE_PHRASE[clip.style])} of {article(words)} {MOTIONS[clip.motion]}"
        f" on {article(clip.ground)} ground"
    )


def _instruction(edit_type: str, source: Clip, target: Clip) -> str:
    if edit_type == "background":
        return f"change the background to {article(target.ground)} ground"
    if edit_type == "colour":
        return f"paint the {target.subject} {target.tint}"
    words = f"turn the video into {article(STYLE_PHRASE[target.style])}"
    # A colour that neither source nor text holds could not be known.
    return f"{words} with a {target.tint} subject" if source.style == "ink" else words


# ---------------------------------------------------------------- what the base may see

# The style in which the base never sees a name, name by name; every eight three are seen in all, so
# that the base can learn how the styles of one subject belong together.
_KEPT_FROM_BASE = ("ink", "ink", "3d", "3d", "flat", None, None, None)


def base_styles(subject: str) -> tuple[str, ...]:
    """The styles in which the base sees a known subject: two, or all three."""
    kept = _KEPT_FROM_BASE[KNOWN.index(subject) % len(_KEPT_FROM_BASE)]
    return tuple(style for style in STYLES if style != kept)


def withheld(clip: Clip) -> set[str]:
    """The attributes in which a clip leaves the base's share of the world.

    For five known subjects in eight the base never sees one style of three; for all, it never sees
    a third of the grounds and of the tints. Of other subjects it sees nothing.
    """
    if clip.subject not in KNOWN:
        return {"subject"}
    turn = KNOWN.index(clip.subject)
    kept = {
        "style": clip.style not in base_styles(clip.subject),
        "ground": (turn + GROUNDS.index(clip.ground)) % 3 == 0,
        "tint": clip.tint is not None and (turn + TINTS.index(clip.tint)) % 3 == 1,
    }
    return {attribute for attribute, away in kept.items() if away}


# ---------------------------------------------------------------- drawing lots


def random_clip(rng: random.Random, subjects: tuple[str, ...] = KNOWN, **fixed: Any) -> Clip:
    """A random clip; `fixed` sets fields. Tint and ground are never of one colour."""
    style = fixed.get("style") or rng.choice(STYLES)
    tint = rng.choice(TINTS) if style != "ink" and rng.random() < 0.6 else None
    clip = Clip(
        subject=rng.choice(subjects),
        style=style,
        ground=rng.choice([g for g in GROUNDS if g != tint]),
        motion=rng.choice(tuple(MOTIONS)),
        tint=tint,
    )
    return replace(clip, **fixed)


def base_clip(rng: random.Random) -> Clip:
    """A clip for training the base: only combinations of the base's share."""
    while withheld(clip := random_clip(rng)):
        pass
    return clip


def _other(rng: random.Random, words: tuple[str, ...], *never: str | None) -> str:
    return rng.choice([w for w in words if w not in never])


def random_edit(
    rng: random.Random, edit_type: str, subjects: tuple[str, ...] = KNOWN, **fixed: Any
) -> ClipEdit:
    """A random edit of one of `EDIT_TYPES`; the motion stays, and texts lead both ways."""
    s = random_clip(rng, subjects, **fixed)
    if edit_type == "background":
        t = replace(s, ground=_other(rng, GROUNDS, s.ground, s.tint))
    elif edit_type == "style":
        t = replace(s, style=_other(rng, STYLES, s.style))
        if s.style == "ink":
            t = replace(t, tint=_other(rng, TINTS, s.ground))
        elif t.style == "ink":  # the way back must name the colour
            s = replace(s, tint=s.tint or _other(rng, TINTS, s.ground))
            t = replace(t, tint=None)
    else:
        s = s if s.style != "ink" else replace(s, style=rng.choice(("3d", "flat")))
        s = replace(s, tint=_other(rng, TINTS, s.ground))
        t = replace(s, tint=_other(rng, TINTS, s.ground, s.tint))
    texts = _instruction(edit_type, s, t), _instruction(edit_type, t, s)
    return ClipEdit(edit_type, s, t, *texts)


def training_edit(rng: random.Random, edit_type: str) -> ClipEdit:
    """An edit of a clip from the base's share whose edited attribute the base has never seen.

    So the base, asked for the target caption, cannot recite a clip that it has memorised.
    """
    while True:
        edit = random_edit(rng, edit_type)
        if EDITED[edit_type] in withheld(edit.target) and not withheld(edit.source):
            return edit
