"""The experiment on replacing in the wide world: the texts differ, and only by a corner."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from benchmarks.curve import TINY
from benchmarks.where_told import TYPE, of_replacements, told_where
from byg_train.world import wide
from byg_train.world.demo import OF_PICTURES, Demo
from byg_train.world.names import EXTRAS
from byg_train.world.wide_demo import OF_WIDE


def test_both_instructions_name_the_corner_and_nothing_else_changes() -> None:
    edit = wide.random_edit(random.Random(3), TYPE, extra="leaf", corner="top right")
    told = told_where(edit)
    assert edit.instruction.startswith("replace the small leaf with a small ")
    new = edit.instruction.split()[-1]
    assert told.instruction == f"replace the small leaf at the top right with a small {new}"
    assert told.reverse_instruction == f"replace the small {new} at the top right with a small leaf"
    assert (told.source, told.target) == (edit.source, edit.target)


@pytest.mark.parametrize("whole", [OF_PICTURES, OF_WIDE])
@pytest.mark.parametrize("told", [False, True])
def test_training_and_asking_are_of_replacements_told_alike(
    whole: Demo, told: bool, tmp_path: Path
) -> None:
    demo = of_replacements(TINY._replace(demo=whole), told=told).demo
    manifest = demo.prepare(tmp_path / "data", items=6) / "metadata.jsonl"
    items = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    asked = demo.judge.query(random.Random(0), TYPE)
    texts = [asked.instruction, *(item["instruction"] for item in items)]
    assert len(items) == 7  # six to train on, and one to look at
    assert all(text.startswith("replace the small ") for text in texts)
    assert [" at the " in text for text in texts] == [told] * 8
    assert all(text.split()[-1] in EXTRAS for text in texts)
    untold = whole.judge.query(random.Random(0), TYPE)
    assert (asked.source, asked.target) == (untold.source, untold.target)
