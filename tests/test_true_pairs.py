"""The measures against true counterparts, and the goals that a tinted copy must not meet."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from rich.console import Console

from byg_train.config import ConfigError, merge_settings
from byg_train.evaluate.metrics.retrieval import rank
from byg_train.evaluate.true_pairs import (
    ColourMap,
    Score,
    edit_score,
    error,
    goals_met,
    joint_score,
    keep_score,
    progress,
    remaining_error,
    style_statistics,
)
from byg_train.training.run_folder import write_config
from byg_train.world.demo import DEMOS, FIRST, WHOLE, demo_of
from byg_train.world.judge import PICTURE_LABELS, PICTURES, Frames, Recolour
from byg_train.world.names import HELD_OUT, KNOWN
from byg_train.world.report import tables
from byg_train.world.scenes import Edit, draw
from tools.world.show import LOTS, SHEETS

RNG = np.random.default_rng(0)


def test_progress_is_the_projection_on_the_way_to_the_target() -> None:
    source, target = np.array([0.0, 1.0]), np.array([2.0, 1.0])
    for share in (-0.5, 0.0, 0.25, 1.0, 1.6):
        out = source + share * (target - source)
        assert progress(out, source, target) == pytest.approx(share)
        assert progress(out + np.array([0, 9.0]), source, target) == pytest.approx(share)
        assert remaining_error(out, source, target) == pytest.approx(abs(1 - share))
        assert remaining_error(out + np.array([0, 9.0]), source, target) > 4


def test_error_and_rank() -> None:
    a = np.zeros((4, 4, 3), np.float32)
    assert error(a, a) == 0
    assert error(a, a + 0.5) == pytest.approx(0.5)
    others = np.stack([a + d for d in (0.1, 0.3, 0.6)])
    assert rank(a, a + 0.2, others) == 1
    assert rank(a, a, others) == 0
    assert rank(a, a + 0.9, others) == 3
    assert rank(a, a + 0.1, others) == 1  # a tie finds nothing
    assert rank(a, np.stack([a + 0.9, a + 0.2]), others) == 1  # of several, the nearest


def test_a_colour_map_finds_any_quadratic_recolouring() -> None:
    source = RNG.random((5, 8, 8, 3)).astype(np.float32)
    target = 0.2 + 0.3 * source[..., ::-1] + 0.3 * source**2
    fitted = ColourMap(source, target)
    assert error(fitted(source[0]), target[0]) < 1e-3


def test_style_statistics_tell_ink_from_colour() -> None:
    mask = np.ones((2, 2))
    ink = np.array([[[0, 0, 0], [1, 1, 1]], [[0.1, 0.1, 0.1], [0.95, 0.95, 0.95]]], np.float32)
    assert style_statistics(ink, mask) == pytest.approx([0, 1])
    red = np.broadcast_to(np.array([0.9, 0.2, 0.2], np.float32), (2, 2, 3))
    assert style_statistics(red, mask) == pytest.approx([0.7, 0])


@pytest.mark.parametrize("label", PICTURE_LABELS)
def test_the_attribute_is_0_for_a_copy_and_1_for_the_truth(label: str) -> None:
    rng = random.Random(3)
    for _ in range(5):
        edit = PICTURES.query(rng, label)
        assert edit.source.subject in HELD_OUT
        assert PICTURES.attribute(edit, PICTURES.drawn(edit.source)) == pytest.approx(
            (0, 1), abs=1e-6
        )
        assert PICTURES.attribute(edit, PICTURES.drawn(edit.target)) == pytest.approx(
            (1, 0), abs=1e-6
        )


def _overlay(edit: Edit) -> Frames:
    """A tint that the goals' own colour maps do not hold: the source, half its target's colour."""
    target = PICTURES.drawn(edit.target)
    return (0.5 * PICTURES.drawn(edit.source) + 0.5 * target.mean((0, 1, 2))).astype(np.float32)


def _blurred(edit: Edit) -> Frames:
    picture = Image.fromarray(draw(edit.target)).filter(ImageFilter.GaussianBlur(1))
    return np.asarray(picture, np.float32)[None] / 255


@pytest.fixture(scope="module")
def scores() -> dict[str, dict[str, Score]]:
    """Six edits of every kind by what is no editor, and by what could be a good one."""
    recolour, other, rng = Recolour(PICTURES), Recolour(PICTURES, "row "), np.random.default_rng(0)

    def noisy(edit: Edit) -> Frames:
        picture = PICTURES.drawn(edit.target)
        return np.clip(picture + 0.1 * rng.normal(size=picture.shape), 0, 1).astype(np.float32)

    methods = {
        "copy": lambda label, edits: [PICTURES.drawn(e.source) for e in edits],
        "recoloured": lambda label, edits: [recolour(label, e) for e in edits],
        "recoloured, other pairs": lambda label, edits: [other(label, e) for e in edits],
        "overlaid": lambda label, edits: [_overlay(e) for e in edits],
        "other subject": lambda label, edits: [
            PICTURES.drawn(replace(e.target, subject="apple")) for e in edits
        ],
        "noisy": lambda label, edits: [noisy(e) for e in edits],
        "blurred": lambda label, edits: [_blurred(e) for e in edits],
        "truth": lambda label, edits: [PICTURES.drawn(e.target) for e in edits],
    }
    return PICTURES.measure(methods, 6, recolour=recolour)[0]


@pytest.mark.slow
@pytest.mark.parametrize("label", PICTURE_LABELS)
def test_the_truth_passes_the_gate_and_copy_and_tinted_copies_fail_it(
    scores: dict[str, dict[str, Score]], label: str
) -> None:
    rows = scores[label]
    passed = {
        name: all(goals_met(rows[name], rows["copy"], rows["recoloured"]).values())
        for name in ("copy", "recoloured", "overlaid", "truth")
    }
    assert passed == {"copy": False, "recoloured": False, "overlaid": False, "truth": True}


@pytest.mark.parametrize("label", PICTURE_LABELS)
def test_what_makes_no_edit_and_what_keeps_nothing_has_no_joint_score(
    scores: dict[str, dict[str, Score]], label: str
) -> None:
    rows = scores[label]
    assert (rows["truth"].edit, rows["truth"].keep, rows["truth"].joint) == (1, 1, 1)
    assert (rows["copy"].edit, rows["copy"].keep) == (0, 1)
    assert rows["recoloured"].edit == rows["overlaid"].edit == 0
    assert rows["other subject"].keep == 0
    assert rows["recoloured, other pairs"].edit <= 1 / 6  # a map that was not in the gallery
    for name in ("copy", "recoloured", "overlaid", "other subject"):
        assert rows[name].joint == 0, name
    # An edit need not be exact to count.
    assert rows["noisy"].joint == 1
    assert rows["blurred"].joint >= 4 / 6


def test_half_an_edit_is_none() -> None:
    """On the way from the source to the truth, the score is made in the middle."""
    source, truth = np.zeros((4, 4, 3), np.float32), np.ones((4, 4, 3), np.float32)
    undone = np.stack([source, truth * 2])
    made = [edit_score(source + s, truth, undone) for s in (0, 0.45, 0.5, 0.55, 1, 1.45, 1.5, 2)]
    assert made == [0, 0, 0, 1, 1, 1, 0, 0]


def test_a_scene_is_kept_before_and_after_its_edit() -> None:
    shape = np.zeros((4, 4, 3), np.float32)
    own, others = np.stack([shape, shape + 1]), np.stack([shape + 0.4, shape + 2])
    kept = [keep_score(shape + d, own, others) for d in (0, 0.1, 0.3, 0.6, 0.9, 1.4, 1.6)]
    assert kept == [1, 1, 0, 0, 1, 1, 0]


def test_the_joint_score_is_the_geometric_mean() -> None:
    assert joint_score(0.25, 1) == 0.5
    assert joint_score(1, 0) == joint_score(0, 1) == 0
    assert joint_score(1, 1) == 1


def test_the_best_recolouring_knows_both_values_of_the_attribute() -> None:
    recolour = Recolour(PICTURES)
    edits = [PICTURES.query(random.Random(i), "background") for i in range(12)]
    done = [recolour("background", e) for e in edits]
    went = [PICTURES.attribute(e, out)[0] for e, out in zip(edits, done, strict=True)]
    assert np.mean(went) == pytest.approx(1, abs=0.2)
    assert (
        np.mean([error(o, PICTURES.drawn(e.target)) for o, e in zip(done, edits, strict=True)])
        < 0.12
    )


def test_overshoot_fails_the_gate() -> None:
    copy, tint = Score(0, 1, 0, 1, 0, 1, 0.5, 9), Score(0, 1, 0, 1, 0.9, 0.3, 0.4, 9)
    good = Score(1, 1, 1, 0.9, 1.1, 0.2, 0.2, 9)
    assert all(goals_met(good, copy, tint).values())
    for worse in ({"top5": 0.7}, {"attribute": 1.3}, {"attribute": 0.7}, {"error": 0.45}):
        assert not all(goals_met(replace(good, **worse), copy, tint).values())


def test_the_demo_data_is_unpaired_and_repeatable(tmp_path: Path) -> None:
    a, b = (DEMOS["demo"].prepare(tmp_path / name, items=40) for name in "ab")
    assert (a / "metadata.jsonl").read_bytes() == (b / "metadata.jsonl").read_bytes()
    lines = (a / "metadata.jsonl").read_text()
    train = [line for line in lines.splitlines() if '"train"' in line]
    words = {w for line in train for w in line.replace('"', " ").replace(".", " ").split()}
    assert words & set(KNOWN)
    assert not words & set(HELD_OUT)
    assert lines.count('"file_name"') == len(list(a.rglob("*.png")))
    assert "target_file_name" not in lines


def test_the_demo_trains_on_what_comes_first_and_is_measured_by_it(tmp_path: Path) -> None:
    demo = DEMOS["demo"]
    rows = _rows(demo.prepare(tmp_path / "data", items=30))
    kinds = Counter((row["split"], row["edit_type"]) for row in rows)
    wanted = {(split, kind): n for split, n in (("train", 10), ("test", 1)) for kind in FIRST}
    assert kinds == wanted
    assert [*demo.judge.labels] == [*FIRST]
    assert len(WHOLE["demo"].judge.labels) == 7  # what studies compare on


def test_a_run_is_measured_by_what_it_trained_on(tmp_path: Path) -> None:
    """A demo's own run by its demo; one on other data by every edit of its base's world."""
    for preset in ("demo", "demo_video", "wan21_small_style"):
        write_config(tmp_path / preset, merge_settings(preset))
    assert demo_of(tmp_path / "demo") is WHOLE["demo"]
    # As it was drawn before the demo had three types.
    data = WHOLE["demo"].prepare(tmp_path / "demo" / "data", items=30)
    assert demo_of(tmp_path / "demo") is WHOLE["demo"]
    with pytest.raises(ConfigError, match="holds other types of edit"):
        DEMOS["demo"].prepare(data)
    shutil.rmtree(data)
    assert DEMOS["demo"].prepare(data, items=30) == DEMOS["demo"].prepare(data)
    assert demo_of(tmp_path / "demo") is DEMOS["demo"] is not WHOLE["demo"]
    assert demo_of(tmp_path / "demo_video") is demo_of(tmp_path / "wan21_small_style")


def test_the_tool_that_draws_base_samples_knows_the_judge_of_every_preset() -> None:
    assert {demo.judge for demo in WHOLE.values()} == LOTS.keys() == SHEETS.keys()


def test_pairs_are_the_same_items_with_their_true_edits(tmp_path: Path) -> None:
    """For the supervised baseline; nothing else may differ."""
    data = DEMOS["demo"].prepare(tmp_path / "data", items=40)
    pairs = DEMOS["demo"].prepare(tmp_path / "pairs", 40, pairs=True)
    for line, paired in zip(*(_rows(folder) for folder in (data, pairs)), strict=True):
        target = paired.pop("target_file_name", None)
        assert line == paired
        assert (target is not None) == (line["split"] == "train")
        source = (data / line["file_name"]).read_bytes()
        assert source == (pairs / line["file_name"]).read_bytes()
        assert target is None or (pairs / target).read_bytes() != source


def _rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def test_the_demos_table_shows_every_goal_and_whether_it_is_met() -> None:
    """In 80 columns: retrieval, attribute and error of every method, marks for what was trained."""
    rest = {"edit": 0.5, "keep": 0.5, "joint": 0.5, "remaining_error": 0.1, "queries": 24}
    rows = {
        "ByG": Score(top5=0.91, attribute=0.70, error=0.098, **rest),
        "copy": Score(top5=0.83, attribute=0.0, error=0.317, **rest),
        "recoloured copy": Score(top5=0.92, attribute=0.93, error=0.086, **rest),
        "true target, encoded": Score(top5=1.0, attribute=1.0, error=0.039, **rest),
    }
    goals = goals_met(rows["ByG"], rows["copy"], rows["recoloured copy"])
    (table,) = tables({"background": rows}, {"background": {"goals": goals}})
    console = Console(width=80, file=StringIO())
    console.print(table)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert lines[0] == "background: 24 edits, top 5 of 150 alike"
    heads, *body = (
        [cell.strip() for cell in line.strip("┃│").replace("┃", "│").split("│")]
        for line in lines
        if line[:1] in "┃│"
    )
    assert heads == ["held-out names", "top 5", "attribute", "error", "edit", "keep", "joint"]
    assert [row[0] for row in body] == list(rows)  # none is broken over two lines
    assert body[0][1:4] == ["0.91 ✓", "0.70 ✗", "0.098 ✗"]
    assert body[1][1:4] == ["0.83", "0.00", "0.317"]
    said = " ".join(line for line in lines if line[:1].isalpha())
    assert "attribute within a quarter" in said and "best recoloured copy" in said
    assert "true counterpart" not in said and "nearer to the truth than a copy" not in said
