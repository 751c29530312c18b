"""What an edit of the tiny world might have led to, and did not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from .scenes import is_symmetric

# What an edit of an attribute may change beside it.
ALSO = {"ground": "pattern", "style": "tint"}


def other_edits(target: Any, field: str, values: Mapping[str, Sequence]) -> Iterator[Any]:
    """The scene after other edits of an attribute: every other value of what is asked for.

    Args:
        target: the scene after the true edit.
        field: the attribute that is edited; with a ground goes its pattern.
        values: of every attribute.
    """
    fields = [field, "pattern"] if field == "ground" and "pattern" in values else [field]
    for chosen in product(*(values[name] for name in fields)):
        other = replace(target, **dict(zip(fields, chosen, strict=True)))
        if other != target:
            yield other


def changed_otherwise(scene: Any, field: str, values: Mapping[str, Sequence]) -> Iterator[Any]:
    """A scene with one visible attribute changed that an edit of `field` should keep."""
    hidden = {"tint"} if scene.style == "ink" else set()
    hidden |= set() if getattr(scene, "extra", None) else {"corner"}
    if "mirrored" in values and is_symmetric(scene):
        hidden.add("mirrored")
    for name in values.keys() - {field, ALSO.get(field)} - hidden:
        for value in values[name]:
            if value != getattr(scene, name):
                yield replace(scene, **{name: value})
