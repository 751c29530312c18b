"""What an editor does on held-out names of the tiny world, beside the true counterparts."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..evaluate.retrieval import rank
from ..evaluate.true_pairs import (
    ColourMap,
    Score,
    edit_score,
    error,
    joint_score,
    keep_score,
    mean_colour,
    progress,
    remaining_error,
    style_statistics,
)
from ..progress import Progress
from .names import COLOURS, CORNERS, EXTRAS, HELD_OUT, KNOWN, PATTERNS, STYLES, SUBJECTS, TINTS
from .scenes import EDITED, Edit, Scene, draw, object_mask, random_edit

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
# Every attribute of a scene, and its values.
VALUES = {
    "style": STYLES,
    "ground": tuple(COLOURS),
    "pattern": PATTERNS,
    "tint": TINTS,
    "extra": (None, *EXTRAS),
    "corner": CORNERS,
}


E = TypeVar("E")  # an edit of a picture or of a clip
S = TypeVar("S", bound=Score)


class Query(NamedTuple):
    """An edit, and the pictures (N, H, W, 3) that its result is told from.

    The frames of a clip, below each other, count as one picture.
    """

    edit: Any  # of a picture or of a clip
    alike: np.ndarray  # like the truth in all but the subject
    undone: np.ndarray  # the source, recoloured too, and truths of other edits of the kind
    strange: np.ndarray  # the scene before and after, but for one thing that should stay


class Example(NamedTuple):
    """An edit and what every method made of it."""

    edit: Any
    outs: dict[str, np.ndarray]


def query(
    rng: random.Random, label: str, subjects: tuple[str, ...] = HELD_OUT, **fixed: object
) -> Edit:
    """A random edit of one of `KINDS`, by default of a held-out name."""
    kind, before, after = KINDS[label]
    return between_styles(lambda: random_edit(rng, kind, subjects, **fixed), before, after)


def between_styles(lot: Callable[[], E], before: str | None, after: str | None) -> E:
    """Draw lots until an edit leads from one style to another; None is any."""
    while True:
        edit = lot()
        if before in (None, edit.source.style) and after in (None, edit.target.style):
            return edit


def drawn(scene: Scene) -> np.ndarray:
    return draw(scene).astype(np.float32) / 255


def attribute(edit: Edit, out: np.ndarray) -> tuple[float, float]:
    """Progress and remaining error of what the edit changes, measured where it changes."""
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
    return progress(*values), remaining_error(*values)


class Recolour:
    """The best global colour map per asked attribute, fitted on true pairs of known subjects."""

    def __init__(
        self,
        query: Callable = query,
        drawn: Callable = drawn,
        known: tuple = KNOWN,
        pairs: int = 30,
        lot: str = "",
    ) -> None:
        """The functions and names are the world's, of pictures or of clips; `lot` draws pairs."""
        self.query, self.drawn, self.known, self.pairs = query, drawn, known, pairs
        self.lot = lot
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
            rng = random.Random(f"{self.lot}{key}")
            pairs = [self.query(rng, label, self.known) for _ in range(self.pairs)]
            sources = np.stack([self.drawn(replace(e.source, **before)) for e in pairs])
            targets = np.stack([self.drawn(replace(e.target, **after)) for e in pairs])
            self.maps[key] = ColourMap(sources, targets)
        return self.maps[key](self.drawn(edit.source))


def asked(rng: random.Random, label: str, edit: Any, recolour: Recolour, judge: Judge) -> Query:
    """What the result of an edit is told from; by lot which of the other names."""
    names = rng.sample([n for n in SUBJECTS if n != edit.target.subject], GALLERY - 1)
    alike = [replace(edit.target, subject=name) for name in names]
    before = [replace(edit.source, subject=name) for name in names]
    changed = [*judge.otherwise(edit.source, edit), *judge.otherwise(edit.target, edit)]

    def stacked(scenes: list) -> np.ndarray:
        return np.stack([judge.flat(judge.drawn(scene)) for scene in scenes])

    others = stacked(alike)
    recoloured = judge.flat(recolour(label, edit))[None]
    undone = stacked([edit.source, *judge.other_edits(edit)])
    return Query(
        edit,
        others,
        np.concatenate([undone, recoloured]),
        np.concatenate([others, stacked([*before, *changed])]),
    )


def _changed(edit: Edit) -> set[str]:
    """The attributes that an edit of this type may change."""
    also = {"background": {"pattern"}, "style": {"tint"}}
    return {EDITED[edit.edit_type], *also.get(edit.edit_type, ())}


def _other_edits(edit: Edit) -> Iterator[Scene]:
    """The scene after other edits of the type: every other value of what is asked for."""
    field, scene = EDITED[edit.edit_type], edit.target
    patterns = PATTERNS if edit.edit_type == "background" else (scene.pattern,)
    for value in VALUES[field]:
        others = (replace(scene, **{field: value, "pattern": pattern}) for pattern in patterns)
        yield from (other for other in others if other != scene)


def _otherwise(scene: Scene, edit: Edit) -> Iterator[Scene]:
    """A scene with one visible attribute changed that the edit should keep."""
    hidden = {"tint"} if scene.style == "ink" else set()
    hidden |= set() if scene.extra else {"corner"}
    for field in VALUES.keys() - _changed(edit) - hidden:
        for value in VALUES[field]:
            if value != getattr(scene, field):
                yield replace(scene, **{field: value})


Method = Callable[[str, list[Edit]], list[np.ndarray]]


class Judge(NamedTuple):
    """What pictures and clips measure in their own way."""

    labels: Collection[str]
    query: Callable[[random.Random, str], Any]  # a random edit of a label
    drawn: Callable[[Any], np.ndarray]  # of a scene or a clip
    flat: Callable[[np.ndarray], np.ndarray]  # a clip's frames become one picture
    attribute: Callable[[Any, np.ndarray], tuple[float, float]]  # progress, remaining_error
    other_edits: Callable[[Any], Iterable]  # of the same type
    otherwise: Callable[[Any, Any], Iterable]  # with one thing changed that should stay
    score: Callable[[Query, np.ndarray], Score]


def judged(asked: Query, out: np.ndarray, judge: Judge) -> Score:
    """The score of one result."""
    edit = asked.edit
    source, truth = (judge.flat(judge.drawn(side)) for side in (edit.source, edit.target))
    picture = judge.flat(out)
    made = edit_score(picture, truth, asked.undone)
    kept = keep_score(picture, np.stack([source, truth]), asked.strange)
    went, left = judge.attribute(edit, out)
    return Score(
        edit=made,
        keep=kept,
        joint=joint_score(made, kept),
        top5=float(rank(picture, truth, asked.alike) < 5),
        attribute=went,
        remaining_error=left,
        error=error(picture, truth),
        queries=1,
    )


def mean(scores: list[S]) -> S:
    """Of the scores of single edits."""
    rows = [asdict(score) for score in scores]
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return type(scores[0])(**means | {"queries": len(scores)})


PICTURES = Judge(
    labels=KINDS,
    query=query,
    drawn=drawn,
    flat=lambda picture: picture,
    attribute=attribute,
    other_edits=_other_edits,
    otherwise=_otherwise,
    score=lambda asked, out: judged(asked, out, PICTURES),
)


def measure(
    methods: dict[str, Callable],
    queries: int,
    seed: int = 1,
    recolour: Recolour | None = None,
    judge: Judge = PICTURES,
) -> tuple[dict, dict]:
    """Scores {label: {method: Score}} and results {label: [(edit, {method: picture})]}.

    Args:
        methods: by name.
        queries: random edits of held-out names per label, the same for the same seed.
        seed: of the queries.
        recolour: if there is one already, with what it has learned.
        judge: of pictures or of clips.
    """
    scores, shown, recolour = {}, {}, recolour or Recolour()
    # Every query by every method, and once more to be judged.
    rounds = len(judge.labels) * queries * (len(methods) + 1)
    with Progress(rounds, "measuring") as progress:
        for label in judge.labels:
            rng = random.Random(f"{seed} {label}")
            edits = [judge.query(rng, label) for _ in range(queries)]
            outs = {}
            for name, method in methods.items():
                outs[name] = method(label, edits)
                progress.advance(queries)
            shown[label] = [
                Example(e, {name: results[i] for name, results in outs.items()})
                for i, e in enumerate(edits)
            ]
            each: dict[str, list[Score]] = {name: [] for name in methods}
            for edit, results in shown[label]:
                told = asked(rng, label, edit, recolour, judge)  # hundreds of pictures: one by one
                for name, out in results.items():
                    each[name].append(judge.score(told, out))
                progress.advance()
            scores[label] = {name: mean(some) for name, some in each.items()}
    return scores, shown
