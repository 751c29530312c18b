"""The video demo's judge: the truth meets all goals, copies and frozen clips do not."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from byg_train.config import DataConfig
from byg_train.data.items import load_items
from byg_train.media.clips import frames, probe
from byg_train.media.writer import LOSSLESS, write_clip
from byg_train.world.clips import FPS, FRAMES, SIZE, Clip, draw
from byg_train.world.demo import DEMOS
from byg_train.world.judge import CLIP_LABELS, CLIPS, ClipScore, Example, Frames, Recolour, tall
from byg_train.world.names import HELD_OUT
from byg_train.world.report import comparison, write_gif
from byg_train.world.scenes import Edit

per_label = pytest.mark.parametrize("label", CLIP_LABELS)


def truths(label: str, edits: list[Edit]) -> list[Frames]:
    return [CLIPS.drawn(e.target) for e in edits]


def copies(label: str, edits: list[Edit]) -> list[Frames]:
    return [CLIPS.drawn(e.source) for e in edits]


def frozen(label: str, edits: list[Edit]) -> list[Frames]:
    """The truth's middle frame, over and over."""
    return [np.repeat(CLIPS.drawn(e.target)[FRAMES // 2 :][:1], FRAMES, 0) for e in edits]


def strangers(label: str, edits: list[Edit]) -> list[Frames]:
    """The truth of another edit, as of a model that does not look at the source."""
    return [CLIPS.drawn(e.target) for e in (*edits[1:], edits[0])]


@pytest.fixture(scope="module")
def scores() -> dict[str, dict[str, ClipScore]]:
    recolour = Recolour(CLIPS)
    methods = {
        "truth": truths,
        "copy": copies,
        "recoloured": lambda label, edits: [recolour(label, e) for e in edits],
        "frozen": frozen,
        "stranger": strangers,
    }
    return CLIPS.measure(methods, 4, recolour=recolour)[0]


@pytest.mark.slow
@per_label
def test_the_truth_meets_all_goals(label: str, scores: dict) -> None:
    rows = scores[label]
    assert all(CLIPS.goals(rows["truth"], rows["copy"], rows["recoloured"]).values())
    truth = rows["truth"]
    assert (truth.edit, truth.keep, truth.joint, truth.top5, truth.attribute) == (1,) * 5
    assert truth.error == truth.remaining_error == truth.motion == 0 and truth.queries == 4


@pytest.mark.slow
@per_label
def test_copies_keep_all_and_edit_nothing(label: str, scores: dict) -> None:
    copy, recoloured = scores[label]["copy"], scores[label]["recoloured"]
    assert (copy.edit, copy.joint, copy.attribute, copy.remaining_error) == (0, 0, 0, 1)
    assert copy.keep == 1 and copy.motion < 0.5
    assert recoloured.edit == recoloured.joint == 0
    for one in (copy, recoloured):  # for there is nothing that either could be nearer than
        assert not all(CLIPS.goals(one, copy, recoloured).values())


@pytest.mark.slow
@per_label
def test_what_stands_still_does_not_keep_the_motion(label: str, scores: dict) -> None:
    rows = scores[label]
    met = CLIPS.goals(rows["frozen"], rows["copy"], rows["recoloured"])
    assert not met["motion kept (within 1 px)"] and rows["frozen"].flicker == 1
    assert rows["frozen"].edit >= 0.5 and rows["frozen"].keep < 1


@pytest.mark.slow
@per_label
def test_what_ignores_the_source_is_told(label: str, scores: dict) -> None:
    assert scores[label]["stranger"].keep == 0
    assert scores[label]["stranger"].top5 < 0.8


@per_label
def test_queries_are_of_held_out_names(label: str) -> None:
    rng, (kind, source, target) = random.Random(0), CLIP_LABELS[label]
    for edit in (CLIPS.query(rng, label) for _ in range(10)):
        assert edit.edit_type == kind and edit.source.subject in HELD_OUT
        assert source in (None, edit.source.style) and target in (None, edit.target.style)


def test_a_recoloured_copy_knows_colours_and_nothing_else() -> None:
    edit = CLIPS.query(random.Random(0), "colour")
    out = Recolour(CLIPS)("colour", edit)
    source, target = CLIPS.drawn(edit.source), CLIPS.drawn(edit.target)
    assert np.abs(out - target).mean() < 0.5 * np.abs(source - target).mean()
    # One colour of the source, one of the result, wherever it is.
    flat = tall(source).reshape(-1, 3), tall(out).reshape(-1, 3)
    first = {tuple(c): tuple(r) for c, r in zip(*map(np.ndarray.tolist, flat), strict=True)}
    assert all(
        first[tuple(c)] == tuple(r) for c, r in zip(*map(np.ndarray.tolist, flat), strict=True)
    )


# ---------------------------------------------------------------- the training set


def test_clips_are_written_without_loss(tmp_path: Path) -> None:
    for i, how in enumerate(("left", "up")):
        clip = draw(Clip("fox", "ink", "pink", how))
        write_clip(tmp_path / f"{i}.mp4", clip, Fraction(FPS), codec=LOSSLESS)
        assert np.array_equal(np.stack(list(frames(tmp_path / f"{i}.mp4", FPS))), clip)
    facts = probe(tmp_path / "0.mp4")
    assert (facts.frames, facts.fps, facts.width, facts.height) == (FRAMES, FPS, SIZE, SIZE)


def test_the_training_set_is_unpaired_and_of_known_names(tmp_path: Path) -> None:
    demo = DEMOS["demo_video"]
    folder = demo.prepare(tmp_path / "data", items=20)
    data = load_items(DataConfig(path=folder, resolution=SIZE, frames=FRAMES, fps=FPS), 8)
    assert not data.problems and len(data.test) == len(CLIP_LABELS)
    assert len(data.train) == sum(round(20 * share) for *_, share in demo.shares)
    assert len(list(folder.glob("*.mp4"))) == len(data.train) + len(data.test)
    for item in data.train:
        assert not set(HELD_OUT) & {word for text in item.texts for word in text.split()}
    for item in data.test:
        assert set(HELD_OUT) & set(item.src_caption.split())
    before = (folder / "metadata.jsonl").read_bytes()
    assert demo.prepare(folder, items=20) == folder  # a second run finds them
    assert (folder / "metadata.jsonl").read_bytes() == before
    edit = demo.draw_lot(random.Random(0), "background", None, None)  # the first item
    first = min(folder.glob("*.mp4"))
    assert np.array_equal(np.stack(list(frames(first, FPS))), draw(edit.source))


def test_a_readme_can_show_the_report_as_an_endless_loop(tmp_path: Path) -> None:
    edit = CLIPS.query(random.Random(0), "background")
    outs = dict.fromkeys(("ByG", "text-to-video", "true target"), CLIPS.drawn(edit.target))
    shown = {"background": [Example(edit, outs)]}
    write_gif(tmp_path / "report.gif", comparison(CLIPS, shown, 1))
    with Image.open(tmp_path / "report.gif") as shown:
        assert (shown.n_frames, shown.info["loop"]) == (FRAMES, 0)
        assert shown.info["duration"] == pytest.approx(1000 / FPS, abs=10)  # GIF counts in 10 ms
