"""Records of families with something changed, for the length of a test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from byg_train.family import family_of, registry


def change_embedded(patch: pytest.MonkeyPatch, name: str, **changes: object) -> None:
    """Another embedded base of a family: its folder, its example."""
    family = family_of(name)
    embedded = replace(family.embedded, **changes)
    patch.setitem(registry(), name, replace(family, embedded=embedded))
