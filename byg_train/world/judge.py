"""What an editor does on held-out names of the tiny world, beside the true counterparts.

A scene is a picture or a clip, and either is judged as frames (F, H, W, 3) in [0, 1]; a picture is
one frame. The measures are of pictures: there the frames stand one below the other.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..evaluate.metrics.flicker import temporal_flicker
from ..evaluate.metrics.retrieval import rank
from ..evaluate.true_pairs import (
    ColourMap,
    Score,
    edit_score,
    error,
    goals_met,
    joint_score,
    keep_score,
    mean_colour,
    mean_score,
    progress,
    remaining_error,
    style_statistics,
)
from ..media.pixels import to_unit
from ..progress import Progress
from . import clips, scenes
from .alternatives import changed_otherwise, other_edits
from .clips import motion_error
from .names import COLOURS, CORNERS, EXTRAS, HELD_OUT, PATTERNS, STYLES, SUBJECTS, TINTS

Frames = NDArray[np.float32]  # (F, H, W, 3) in [0, 1]
# (label, edits) -> a result for each.
Method = Callable[[str, Sequence[Any]], Sequence[Frames]]

# Label -> (edit type, source style, target style); None is any.
CLIP_LABELS = {
    "background": ("background", None, None),
    "style 3d → ink": ("style", "3d", "ink"),
    "style ink → 3d": ("style", "ink", "3d"),
    "colour": ("colour", None, None),
}
PICTURE_LABELS = {
    **CLIP_LABELS,
    "add": ("add", None, None),
    "remove": ("remove", None, None),
    "replace": ("replace", None, None),
}
GALLERY = 150  # pictures that a true counterpart is to be found among
# How far, in pixels, a subject may stray from the true motion. A frame further it has moved by one,
# and a clip that stands still is 2.6 from one that moves.
STRAY = 1.0


@dataclass(frozen=True)
class ClipScore(Score):
    """Means over the queries of one edit type by one method."""

    motion: float  # RMS distance from the true motion, pixels
    flicker: float  # VBench's score of temporal flicker: 1 = a frozen clip


class Query(NamedTuple):
    """An edit, and the pictures (N, H, W, 3) that its result is told from."""

    edit: Any
    alike: np.ndarray  # like the truth in all but the subject
    undone: np.ndarray  # the source, recoloured too, and truths of other edits of the kind
    strange: np.ndarray  # the scene before and after, but for one thing that should stay


class Example(NamedTuple):
    """An edit and what every method made of it."""

    edit: Any
    results: dict[str, Frames]


def tall(frames: NDArray) -> NDArray:
    """Stack all frames (F, H, W, ...) below each other, since measures are of pictures."""
    return frames.reshape(-1, *frames.shape[2:])


def between_styles(draw_lot: Callable[[], Any], before: str | None, after: str | None) -> Any:
    """Draw lots until an edit leads from one style to another; None is any."""
    while True:
        edit = draw_lot()
        if before in (None, edit.source.style) and after in (None, edit.target.style):
            return edit


class Judge:
    """Asks for edits of held-out names, and measures results against the true counterparts."""

    def __init__(
        self,
        world: ModuleType,
        labels: Mapping[str, tuple[str, str | None, str | None]],
        values: Mapping[str, Sequence],
        pairs: int,
    ) -> None:
        """
        Args:
            world: `scenes` or `clips`: how scenes are drawn, told and edited.
            labels: what is asked for.
            values: every attribute of a scene but its subject, and all its values.
            pairs: so many true pairs teach `Recolour` one attribute.
        """
        self.world, self.labels, self.values, self.pairs = world, labels, values, pairs

    def only(self, *labels: str) -> Judge:
        """The same judge, who asks for these alone."""
        asked = {label: self.labels[label] for label in labels}
        return type(self)(self.world, asked, self.values, self.pairs)

    def query(self, rng: random.Random, label: str, subjects: tuple[str, ...] = HELD_OUT) -> Any:
        """A random edit of a label, by default of a held-out name."""
        kind, before, after = self.labels[label]
        return between_styles(lambda: self.world.random_edit(rng, kind, subjects), before, after)

    def levels(self, scene: Any) -> NDArray[np.uint8]:
        """The frames of a scene as they are drawn, (F, H, W, 3)."""
        drawn = self.world.draw(scene)
        return drawn.reshape(-1, *drawn.shape[-3:])

    def drawn(self, scene: Any) -> Frames:
        """The frames of a scene in [0, 1]."""
        return to_unit(self.levels(scene))

    def caption(self, scene: Any) -> str:
        """Describe all that a scene shows, in a sentence."""
        return self.world.caption(scene)

    def attribute(self, edit: Any, out: Frames) -> tuple[float, float]:
        """Progress and remaining error of what the edit changes, measured where it changes."""
        masks = [self.world.object_mask(scene) for scene in (edit.source, edit.target)]
        mask = np.maximum(*masks).reshape(-1, masks[0].shape[-1])
        values = [tall(f) for f in (out, self.drawn(edit.source), self.drawn(edit.target))]
        if edit.edit_type == "background":
            values = [mean_colour(picture, 1 - mask) for picture in values]
        elif edit.edit_type == "style":
            values = [style_statistics(picture, mask) for picture in values]
        elif edit.edit_type == "colour":
            values = [mean_colour(picture, mask) for picture in values]
        # What appears or goes is the whole of what differs.
        return progress(*values), remaining_error(*values)

    def score(self, query: Query, out: Frames) -> Score:
        """The score of one result."""
        edit, picture = query.edit, tall(out)
        source, truth = (tall(self.drawn(scene)) for scene in (edit.source, edit.target))
        made = edit_score(picture, truth, query.undone)
        kept = keep_score(picture, np.stack([source, truth]), query.strange)
        went, left = self.attribute(edit, out)
        return Score(
            edit=made,
            keep=kept,
            joint=joint_score(made, kept),
            top5=float(rank(picture, truth, query.alike) < 5),
            attribute=went,
            remaining_error=left,
            error=error(picture, truth),
            queries=1,
        )

    def goals(self, ours: Score, copy: Score, recoloured: Score) -> dict[str, bool]:
        """The goals for an edit type; all must hold. Copies, which never edit, fail them."""
        return goals_met(ours, copy, recoloured)

    def measure(
        self,
        methods: Mapping[str, Method],
        queries: int,
        seed: int = 1,
        recolour: Recolour | None = None,
        subjects: tuple[str, ...] = HELD_OUT,
    ) -> tuple[dict[str, dict[str, Score]], dict[str, list[Example]]]:
        """Scores {label: {method: score}} and examples {label: [...]}.

        Args:
            methods: by name.
            queries: random edits per label, the same for the same seed.
            seed: of the queries.
            recolour: if there is one already, with what it has learned.
            subjects: names of what is edited.
        """
        scores, shown, recolour = {}, {}, recolour or Recolour(self)
        # Every query by every method, and once more to be judged.
        rounds = len(self.labels) * queries * (len(methods) + 1)
        with Progress(rounds, "measuring") as progress:
            for label in self.labels:
                rng = random.Random(f"{seed} {label}")
                edits = [self.query(rng, label, subjects) for _ in range(queries)]
                results = {}
                for name, method in methods.items():
                    results[name] = method(label, edits)
                    progress.advance(queries)
                shown[label] = [
                    Example(edit, {name: of[i] for name, of in results.items()})
                    for i, edit in enumerate(edits)
                ]
                each = {name: [] for name in methods}
                for example in shown[label]:
                    query = self.told_from(rng, label, example.edit, recolour)  # hundreds
                    for name, out in example.results.items():
                        each[name].append(self.score(query, out))
                    progress.advance()
                scores[label] = {name: mean_score(some) for name, some in each.items()}
        return scores, shown

    # ------------------------------------------------------------ what results are told from

    def told_from(self, rng: random.Random, label: str, edit: Any, recolour: Recolour) -> Query:
        """The query of an edit; by lot which of the other names."""
        names = rng.sample([n for n in SUBJECTS if n != edit.target.subject], GALLERY - 1)
        before = [replace(edit.source, subject=name) for name in names]
        field = self.world.EDITED[edit.edit_type]
        changed = [
            other
            for scene in (edit.source, edit.target)
            for other in changed_otherwise(scene, field, self.values)
        ]
        alike = self._pictures(replace(edit.target, subject=name) for name in names)
        undone = self._pictures([edit.source, *other_edits(edit.target, field, self.values)])
        recoloured = tall(recolour(label, edit))[None]
        return Query(
            edit,
            alike,
            np.concatenate([undone, recoloured]),
            np.concatenate([alike, self._pictures([*before, *changed])]),
        )

    def _pictures(self, scenes: Iterable[Any]) -> np.ndarray:
        return to_unit(np.stack([tall(self.levels(scene)) for scene in scenes]))


class ClipJudge(Judge):
    """Measures also what only clips have: motion and flicker."""

    def score(self, query: Query, out: Frames) -> ClipScore:
        return ClipScore(
            **asdict(super().score(query, out)),
            motion=motion_error(out, self.drawn(query.edit.target)),
            flicker=temporal_flicker((out * 255).round()),
        )

    def goals(self, ours: ClipScore, copy: ClipScore, recoloured: ClipScore) -> dict[str, bool]:
        kept = {f"motion kept (within {STRAY:g} px)": ours.motion <= STRAY}
        return super().goals(ours, copy, recoloured) | kept


class Recolour:
    """The best global colour map per asked attribute, fitted on true pairs of known subjects."""

    def __init__(self, judge: Judge, lot: str = "") -> None:
        """`lot` draws the pairs."""
        self.judge, self.lot = judge, lot
        self.maps: dict[tuple, ColourMap] = {}

    def __call__(self, label: str, edit: Any) -> Frames:
        """Recolour the source as well as a map can that knows both values of the attribute."""
        judge = self.judge
        field = judge.world.EDITED[edit.edit_type]
        before = {field: getattr(edit.source, field)}
        after = {field: getattr(edit.target, field)}
        if edit.source.style == "ink" and edit.edit_type == "style":
            after["tint"] = edit.target.tint
        key = (label, *before.values(), *after.values())
        if key not in self.maps:
            rng = random.Random(f"{self.lot}{key}")
            pairs = [judge.query(rng, label, judge.world.KNOWN) for _ in range(judge.pairs)]
            sources = np.stack([judge.drawn(replace(e.source, **before)) for e in pairs])
            targets = np.stack([judge.drawn(replace(e.target, **after)) for e in pairs])
            self.maps[key] = ColourMap(sources, targets)
        return self.maps[key](judge.drawn(edit.source))


PICTURES = Judge(
    scenes,
    PICTURE_LABELS,
    {
        "style": STYLES,
        "ground": tuple(COLOURS),
        "pattern": PATTERNS,
        "tint": TINTS,
        "extra": (None, *EXTRAS),
        "corner": CORNERS,
    },
    pairs=30,
)
CLIPS = ClipJudge(
    clips,
    CLIP_LABELS,
    {"style": STYLES, "ground": clips.GROUNDS, "tint": TINTS, "motion": tuple(clips.MOTIONS)},
    pairs=20,
)
