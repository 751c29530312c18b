"""What an editor does to clips of held-out names of the tiny world, beside the true counterparts.

Measured as pictures are, on all frames at once, and by what only clips have: motion and flicker.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..evaluate.flicker import temporal_flicker
from ..evaluate.true_pairs import (
    Score,
    goals_met,
    mean_colour,
    progress,
    remaining_error,
    style_statistics,
)
from . import measure as measure_pictures
from .clips import (
    EDITED,
    GROUNDS,
    KNOWN,
    MOTIONS,
    Clip,
    ClipEdit,
    draw,
    object_mask,
    random_edit,
)
from .measure import Example, Judge, Query, between_styles, judged
from .motion import motion_error
from .names import HELD_OUT, STYLES, TINTS

# What the report measures: label -> (edit type, source style, target style).
KINDS = {
    "background": ("background", None, None),
    "style 3d → ink": ("style", "3d", "ink"),
    "style ink → 3d": ("style", "ink", "3d"),
    "colour": ("colour", None, None),
}
# Every attribute of a clip but its subject, and its values.
VALUES = {"style": STYLES, "ground": GROUNDS, "tint": TINTS, "motion": tuple(MOTIONS)}
# How far, in pixels, a subject may stray from the true motion. A frame further it has moved by one,
# and a clip that stands still is 2.6 from one that moves.
STRAY = 1.0

Frames = NDArray[np.float32]  # (F, H, W, 3) in [0, 1]
# (label, edits) -> an edited clip for each.
Method = Callable[[str, list[ClipEdit]], list[Frames]]


@dataclass(frozen=True)
class ClipScore(Score):
    """Means over the queries of one edit type by one method."""

    motion: float  # RMS distance from the true motion, pixels
    flicker: float  # VBench's score of temporal flicker: 1 = a frozen clip


def query(rng: random.Random, label: str, subjects: tuple[str, ...] = HELD_OUT) -> ClipEdit:
    """A random edit of one of `KINDS`, by default of a held-out name."""
    kind, before, after = KINDS[label]
    return between_styles(lambda: random_edit(rng, kind, subjects), before, after)


def drawn(clip: Clip) -> Frames:
    """The frames, in [0, 1]."""
    return draw(clip).astype(np.float32) / 255


def tall(frames: NDArray) -> NDArray:
    """All frames of a clip (F, H, W, ...) below each other: measures are of pictures."""
    return frames.reshape(-1, *frames.shape[2:])


def attribute(edit: ClipEdit, out: Frames) -> tuple[float, float]:
    """Progress and remaining error of what the edit changes, measured where it changes."""
    mask = np.maximum(object_mask(edit.source), object_mask(edit.target))
    clips = [tall(clip) for clip in (out, drawn(edit.source), drawn(edit.target))]
    if edit.edit_type == "background":
        values = [mean_colour(clip, 1 - tall(mask)) for clip in clips]
    elif edit.edit_type == "style":
        values = [style_statistics(clip, tall(mask)) for clip in clips]
    else:
        values = [mean_colour(clip, tall(mask)) for clip in clips]
    return progress(*values), remaining_error(*values)


class Recolour(measure_pictures.Recolour):
    """The same of clips: a map of the colours of all frames."""

    def __init__(self) -> None:
        super().__init__(query, drawn, KNOWN, pairs=20)


def _other_edits(edit: ClipEdit) -> list[Clip]:
    """The clip after other edits of the type: every other value of what is asked for."""
    field = EDITED[edit.edit_type]
    others = [replace(edit.target, **{field: value}) for value in VALUES[field]]
    return [clip for clip in others if clip != edit.target]


def _otherwise(clip: Clip, edit: ClipEdit) -> list[Clip]:
    """A clip with one visible attribute changed that the edit should keep: another motion too."""
    changed = {"style", "tint"} if edit.edit_type == "style" else {EDITED[edit.edit_type]}
    hidden = {"tint"} if clip.style == "ink" else set()
    return [
        replace(clip, **{field: value})
        for field in VALUES.keys() - changed - hidden
        for value in VALUES[field]
        if value != getattr(clip, field)
    ]


def _score(asked: Query, out: Frames) -> ClipScore:
    """What a picture has, and what only a clip has."""
    return ClipScore(
        **asdict(judged(asked, out, CLIPS)),
        motion=motion_error(out, drawn(asked.edit.target)),
        flicker=temporal_flicker((out * 255).round()),
    )


CLIPS = Judge(
    labels=KINDS,
    query=query,
    drawn=drawn,
    flat=tall,
    attribute=attribute,
    other_edits=_other_edits,
    otherwise=_otherwise,
    score=_score,
)


def goals(ours: ClipScore, copy: ClipScore, recoloured: ClipScore) -> dict[str, bool]:
    """The goals for an edit type; all must hold. Copies, which never edit, fail by construction."""
    kept = {f"motion kept (within {STRAY:g} px)": ours.motion <= STRAY}
    return goals_met(ours, copy, recoloured) | kept


def measure(
    methods: dict[str, Method], queries: int, recolour: Recolour, seed: int = 1
) -> tuple[dict[str, dict[str, ClipScore]], dict[str, list[Example]]]:
    """As pictures are measured: scores {label: {method: score}}, examples {label: [...]}."""
    return measure_pictures.measure(methods, queries, seed, recolour, CLIPS)
