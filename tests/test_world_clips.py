"""The tiny world in motion: captions tell all, edits keep the motion, and motion is measured."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest

from byg_train.world import names
from byg_train.world.clips import (
    EDIT_TYPES,
    EDITED,
    FRAMES,
    GROUNDS,
    KNOWN,
    MOTIONS,
    SIDE,
    SIZE,
    STEP,
    Clip,
    base_styles,
    caption,
    draw,
    ground_colour,
    motion_error,
    object_mask,
    path,
    random_clip,
    random_edit,
    track,
    training_edit,
    withheld,
)
from byg_train.world.names import COLOURS, HELD_OUT, STYLE_PHRASE, STYLES, SUBJECTS, TINTS
from byg_train.world.scenes import Edit
from tools.world import train_wan_vae
from tools.world.lots import base_clip

per_type = pytest.mark.parametrize("edit_type", EDIT_TYPES)
per_motion = pytest.mark.parametrize("how", MOTIONS)


def edits(edit_type: str, count: int = 100, seed: int = 0) -> list[Edit]:
    rng = random.Random(seed)
    return [random_edit(rng, edit_type) for _ in range(count)]


def training_edits(edit_type: str, count: int = 100, seed: int = 1) -> list[Edit]:
    rng = random.Random(seed)
    return [training_edit(rng, edit_type) for _ in range(count)]


def told(clip: Clip) -> Clip:
    """What a clip shows: ink has no tint."""
    return replace(clip, tint=None) if clip.style == "ink" else clip


def seen(clip: Clip) -> np.ndarray:
    return draw(clip).astype(np.float32) / 255


# ---------------------------------------------------------------- texts


def test_equal_captions_and_equal_clips_are_one_and_the_same() -> None:
    every = itertools.product(("fox", "egg"), STYLES, GROUNDS, MOTIONS, (None, *TINTS))
    by_caption: dict[str, set[Clip]] = {}
    by_frames: dict[bytes, set[Clip]] = {}
    for clip in (Clip(*fields) for fields in every):
        by_caption.setdefault(caption(clip), set()).add(told(clip))
        by_frames.setdefault(draw(clip).tobytes(), set()).add(told(clip))
    assert all(len(clips) == 1 for clips in by_caption.values())
    assert all(len(clips) == 1 for clips in by_frames.values())
    assert len(by_caption) == len(by_frames) == 2 * len(GROUNDS) * len(MOTIONS) * (2 * 7 + 1)


def test_captions_in_full() -> None:
    clip = Clip("egg", "3d", "yellow", "down", "orange")
    assert caption(clip) == "a 3d render of an orange egg falling on a yellow ground"
    assert caption(clip, "object") == caption(replace(clip, subject="object"))
    ink = replace(clip, style="ink", motion="still")
    assert caption(ink) == "an ink drawing of an egg standing still on a yellow ground"


def follow(instruction: str, clip: Clip) -> Clip:
    """Do what an instruction says, from its words alone."""
    styles = {phrase: style for style, phrase in STYLE_PHRASE.items()}
    if m := re.fullmatch(r"change the background to an? (\w+) ground", instruction):
        return replace(clip, ground=m[1])
    if m := re.fullmatch(r"paint the (\w+) (\w+)", instruction):
        assert m[1] == clip.subject
        return replace(clip, tint=m[2])
    pattern = r"turn the video into an? ([\w ]+?)(?: with an? (\w+) subject)?"
    m = re.fullmatch(pattern, instruction)
    return replace(clip, style=styles[m[1]], tint=m[2] if clip.style == "ink" else clip.tint)


@per_type
def test_instructions_say_all_in_both_directions(edit_type: str) -> None:
    for edit in edits(edit_type):
        assert told(follow(edit.instruction, edit.source)) == told(edit.target)
        assert told(follow(edit.reverse_instruction, edit.target)) == told(edit.source)


@per_type
def test_an_edit_changes_its_attribute_and_never_the_motion(edit_type: str) -> None:
    for edit in edits(edit_type) + training_edits(edit_type):
        source, target = asdict(edit.source), asdict(edit.target)
        changed = {name for name in source if source[name] != target[name]}
        # Ink has no colour: one must be given to it, or is lost.
        may = {"style", "tint"} if edit_type == "style" else {EDITED[edit_type]}
        assert {EDITED[edit_type]} <= changed <= may
        assert not np.array_equal(draw(edit.source), draw(edit.target))
        for clip in (edit.source, edit.target):
            assert clip.style == "ink" or clip.tint != clip.ground


def test_edits_reach_every_value() -> None:
    assert {e.target.ground for e in edits("background")} == set(GROUNDS)
    assert {e.target.tint for e in edits("colour")} == set(TINTS)
    directions = {(e.source.style, e.target.style) for e in edits("style")}
    assert directions == set(itertools.permutations(STYLES, 2))


# ---------------------------------------------------------------- what is kept from whom


def test_held_out_names_are_known_to_nobody() -> None:
    assert not set(HELD_OUT) & {*KNOWN, *train_wan_vae.SEEN}
    assert set(KNOWN) < set(train_wan_vae.SEEN) < set(SUBJECTS)
    rng = random.Random(0)
    lessons = [e for edit_type in EDIT_TYPES for e in training_edits(edit_type)]
    clips = [base_clip(rng) for _ in range(300)] + [e.source for e in lessons]
    texts = [caption(clip) for clip in clips] + [e.instruction for e in lessons]
    assert not set(HELD_OUT) & {word for text in texts for word in text.split()}
    assert random_edit(rng, "style", HELD_OUT).source.subject in HELD_OUT


@per_type
def test_training_edits_lead_out_of_the_bases_share_by_what_they_edit(edit_type: str) -> None:
    for edit in training_edits(edit_type):
        assert not withheld(edit.source)
        assert EDITED[edit_type] in withheld(edit.target)


def test_the_base_sees_only_its_share_and_some_of_everything() -> None:
    rng = random.Random(0)
    shown = [base_clip(rng) for _ in range(3000)]
    assert not any(withheld(clip) for clip in shown)
    for field, values in (("subject", KNOWN), ("ground", GROUNDS), ("motion", MOTIONS)):
        assert {getattr(clip, field) for clip in shown} == set(values)
    kept = Counter(style for name in KNOWN for style in set(STYLES) - set(base_styles(name)))
    assert kept == {"ink": 4, "3d": 4, "flat": 2}
    for name in KNOWN:
        grounds = {clip.ground for clip in shown if clip.subject == name}
        assert len(grounds) == 4
    assert withheld(Clip(HELD_OUT[0], "3d", "blue", "up")) == {"subject"}


def test_a_seed_determines_edits_and_frames() -> None:
    for edit_type in EDIT_TYPES:
        once, again = edits(edit_type, 3, seed=3), edits(edit_type, 3, seed=3)
        assert once == again != edits(edit_type, 3, seed=4)
        for a, b in zip(once, again, strict=True):
            assert np.array_equal(draw(a.target), draw(b.target))


# ---------------------------------------------------------------- drawing


@per_motion
def test_the_subject_is_where_its_path_says(how: str) -> None:
    rng = random.Random(0)
    for clip in (random_clip(rng, SUBJECTS, motion=how) for _ in range(5)):
        frames, masks = draw(clip), object_mask(clip)
        assert frames.shape == (FRAMES, SIZE, SIZE, 3) and frames.dtype == np.uint8
        assert (frames[masks == 0] == COLOURS[clip.ground]).all()
        edge = (SIZE - SIDE) // 2
        for (x, y), mask in zip(path(how), masks, strict=True):
            outside = mask.copy()
            outside[edge + y : edge + y + SIDE, edge + x : edge + x + SIDE] = 0
            assert not outside.any() and mask.sum() > 0.2 * SIDE**2


def test_paths_are_what_the_captions_say() -> None:
    ends = {how: tuple((path(how)[-1] - path(how)[0]).tolist()) for how in MOTIONS}
    way = STEP * (FRAMES - 1)
    assert ends == {
        "still": (0, 0), "left": (-way, 0), "right": (way, 0), "up": (0, -way), "down": (0, way)
    }  # fmt: skip
    for how in MOTIONS:  # all pass the same place, so no motion is told by where it is
        assert path(how)[FRAMES // 2].tolist() == [0, 0]


# ---------------------------------------------------------------- the measure of motion


@per_motion
def test_motion_of_true_clips_is_measured_exactly(how: str) -> None:
    rng = random.Random(0)
    for clip in (random_clip(rng, (*KNOWN, *HELD_OUT), motion=how) for _ in range(25)):
        assert np.array_equal(ground_colour(draw(clip)), COLOURS[clip.ground])
        found = track(seen(clip))
        assert np.allclose(found - found.mean(0), path(how), atol=1e-9)
        assert np.abs(found.mean(0)).max() < SIDE / 4  # about where it is


@per_type
def test_true_counterparts_move_alike(edit_type: str) -> None:
    for edit in edits(edit_type, 40):
        assert motion_error(seen(edit.source), seen(edit.target)) == pytest.approx(0, abs=1e-9)


def test_other_motions_are_far_from_the_true_one() -> None:
    clip = Clip("fox", "3d", "blue", "left")
    # Shifts of 1 px about the middle: the root of the mean of i^2, i from -4 to 4.
    still = STEP * (60 / 9) ** 0.5
    frozen = np.repeat(seen(clip)[:1], FRAMES, 0)
    assert motion_error(frozen, seen(clip)) == pytest.approx(still)
    apart = {how: motion_error(seen(replace(clip, motion=how)), seen(clip)) for how in MOTIONS}
    across = still * 2**0.5
    wanted = {"still": still, "left": 0, "right": 2 * still, "up": across, "down": across}
    assert apart == pytest.approx(wanted, abs=1e-9)


def test_where_it_stands_does_not_count_and_losing_it_does() -> None:
    frames = seen(Clip("egg", "flat", "green", "up"))
    aside = np.roll(frames, 3, axis=2)
    assert motion_error(aside, frames) == pytest.approx(0, abs=1e-9)
    lost = frames.copy()
    lost[5:] = np.array(COLOURS["green"]) / 255
    assert motion_error(lost, frames) > 1
    assert track(lost)[5:].tolist() == [[0, 0]] * (FRAMES - 5)


def test_colours_and_styles_of_clips_are_the_worlds() -> None:
    assert set(GROUNDS) < set(names.COLOURS) and len(set(KNOWN)) == 16
