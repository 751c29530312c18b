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
from numpy.typing import NDArray
from PIL import Image

from .names import COLOURS, STYLE_PHRASE, STYLES, TINTS
from .scenes import KEPT_FROM_BASE, Edit, article, other_word, sprite

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
# Distance from the ground's colour, of 1.7 at most, from which on a pixel is the subject's.
APART = 0.2
RIM = 2  # pixels along the edges, which subjects hardly reach


@dataclass(frozen=True)
class Clip:
    """Everything that determines a clip; the caption says all of it. An ink drawing has no tint."""

    subject: str
    style: str
    ground: str
    motion: str
    tint: str | None = None


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


def base_styles(subject: str) -> tuple[str, ...]:
    """The styles in which the base sees a known subject: two, or all three."""
    kept = KEPT_FROM_BASE[KNOWN.index(subject) % len(KEPT_FROM_BASE)]
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


def random_edit(
    rng: random.Random, edit_type: str, subjects: tuple[str, ...] = KNOWN, **fixed: Any
) -> Edit:
    """A random edit of one of `EDIT_TYPES`; the motion stays, and texts lead both ways."""
    s = random_clip(rng, subjects, **fixed)
    if edit_type == "background":
        t = replace(s, ground=other_word(rng, GROUNDS, s.ground, s.tint))
    elif edit_type == "style":
        t = replace(s, style=other_word(rng, STYLES, s.style))
        if s.style == "ink":
            t = replace(t, tint=other_word(rng, TINTS, s.ground))
        elif t.style == "ink":  # the way back must name the colour
            s = replace(s, tint=s.tint or other_word(rng, TINTS, s.ground))
            t = replace(t, tint=None)
    else:
        s = s if s.style != "ink" else replace(s, style=rng.choice(("3d", "flat")))
        s = replace(s, tint=other_word(rng, TINTS, s.ground))
        t = replace(s, tint=other_word(rng, TINTS, s.ground, s.tint))
    texts = _instruction(edit_type, s, t), _instruction(edit_type, t, s)
    return Edit(edit_type, s, t, *texts)


def training_edit(rng: random.Random, edit_type: str) -> Edit:
    """An edit of a clip from the base's share whose edited attribute the base has never seen.

    So the base, asked for the target caption, cannot recite a clip that it has memorised.
    """
    while True:
        edit = random_edit(rng, edit_type)
        if EDITED[edit_type] in withheld(edit.target) and not withheld(edit.source):
            return edit


def ground_colour(frames: NDArray) -> NDArray:
    """The median colour along the edges of all frames, (3,)."""
    rim = np.ones(frames.shape[1:3], bool)
    rim[RIM:-RIM, RIM:-RIM] = False
    return np.median(frames[:, rim].reshape(-1, 3), axis=0)


def track(frames: NDArray) -> NDArray:
    """Track the middle of the subject, (F, 2): x and y from the picture's middle, pixels.

    Frames are float arrays (F, H, W, 3) in [0, 1] of one subject on a ground of one colour; one
    without a subject counts as one in the middle.
    """
    height, width = frames.shape[1:3]
    subject = np.linalg.norm(frames - ground_colour(frames), axis=-1) > APART
    area = subject.sum((1, 2))
    y, x = np.mgrid[:height, :width]
    middles = [
        (subject * (at - (size - 1) / 2)).sum((1, 2)) / np.maximum(area, 1)
        for at, size in ((x, width), (y, height))
    ]
    return np.stack(middles, 1)


def motion_error(out: NDArray, truth: NDArray) -> float:
    """How far a subject strays from the true motion, root mean square over the frames, pixels.

    Where it stands does not count, so neither does a style that draws more of it on one side.
    """
    apart = track(out) - track(truth)
    apart -= apart.mean(0)
    return float(np.sqrt((apart**2).sum(1).mean()))
