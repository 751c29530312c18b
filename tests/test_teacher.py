"""What the base teaches: its direction from caption to caption, against the true change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from byg_train.world.ablation import WARMUP
from byg_train.world.judge import PICTURE_LABELS
from byg_train.world.names import HELD_OUT, KNOWN
from byg_train.world.report import Methods
from tools.world.teacher import TIMES, direction_table, edits, truth_of_direction


@pytest.fixture(scope="module")
def methods() -> Methods:
    return Methods(WARMUP)


def test_grounds_are_taught_and_the_way_back_is_the_opposite(methods: Methods) -> None:
    some = edits("background", 4, held_out=False)
    back = [replace(e, source=e.target, target=e.source) for e in some]
    crossed = [replace(e, target=replace(e.source, subject="cookie")) for e in some]
    (there,) = truth_of_direction(methods, some, [0.8])
    (home,) = truth_of_direction(methods, back, [0.8])
    assert there > 0.9
    assert home > 0.9
    assert truth_of_direction(methods, crossed, [0.8])[0] < there


def test_edits_are_of_the_kind_and_of_the_names_asked_for() -> None:
    for label, (kind, before, after) in PICTURE_LABELS.items():
        for held_out, names in ((True, HELD_OUT), (False, KNOWN)):
            some = edits(label, 3, held_out=held_out)
            assert some == edits(label, 3, held_out=held_out)
            for edit in some:
                assert edit.edit_type == kind
                assert edit.source.subject in names
                assert before in (None, edit.source.style)
                assert after in (None, edit.target.style)


@pytest.mark.slow
def test_the_table_has_a_row_for_each_kind(methods: Methods) -> None:
    table = direction_table(methods, 1, held_out=True)
    assert all(f"| {label} " in table for label in PICTURE_LABELS)
    assert all(f"t = {t:g}" in table for t in TIMES)
