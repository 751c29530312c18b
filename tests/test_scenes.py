"""The tiny world: an edit changes what its texts say and nothing else; nothing leaks."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest

from byg_train.world.names import (
    COLOURS,
    CORNERS,
    EXTRAS,
    HELD_OUT,
    KNOWN,
    PATTERNS,
    STYLE_PHRASE,
    STYLES,
    SUBJECTS,
    TINTS,
)
from byg_train.world.scenes import (
    EDIT_TYPES,
    EDITED,
    Edit,
    Scene,
    base_styles,
    caption,
    draw,
    object_mask,
    random_edit,
    random_scene,
    sprite,
    training_edit,
    withheld,
)
from tools.world.lots import CANVASES, base_scene

MAY_CHANGE = {
    "background": {"ground", "pattern"},
    "style": {"style"},
    "colour": {"tint"},
    "add": {"extra"},
    "remove": {"extra"},
    "replace": {"extra"},
}
MUST_CHANGE = {**MAY_CHANGE, "background": {"ground"}}
per_type = pytest.mark.parametrize("edit_type", EDIT_TYPES)


def edits(edit_type: str, count: int = 150, seed: int = 0) -> list[Edit]:
    rng = random.Random(seed)
    return [random_edit(rng, edit_type) for _ in range(count)]


def training_edits(edit_type: str, count: int = 150, seed: int = 1) -> list[Edit]:
    rng = random.Random(seed)
    return [training_edit(rng, edit_type) for _ in range(count)]


def changed(edit: Edit) -> set[str]:
    source, target = asdict(edit.source), asdict(edit.target)
    return {name for name in source if source[name] != target[name]}


def told(scene: Scene) -> tuple[str | None, ...]:
    """What a picture shows: ink has no tint, no extra no corner."""
    return (
        scene.subject,
        scene.style,
        scene.ground,
        scene.pattern,
        scene.tint if scene.style != "ink" else None,
        scene.extra,
        scene.corner if scene.extra else None,
    )


# ---------------------------------------------------------------- edits


@per_type
def test_target_differs_only_in_what_the_edit_is_about(edit_type: str) -> None:
    for edit in edits(edit_type) + training_edits(edit_type):
        may = MAY_CHANGE[edit_type]
        if edit_type == "style" and edit.source.style == "ink":
            may = may | {"tint"}  # a colour must be given to what had none
        assert edit.edit_type == edit_type
        assert MUST_CHANGE[edit_type] <= changed(edit) <= may
        assert told(edit.source) != told(edit.target)


@per_type
def test_no_edit_hides_the_subject_in_its_ground(edit_type: str) -> None:
    for edit in edits(edit_type):
        for scene in (edit.source, edit.target):
            assert scene.style == "ink" or scene.tint != scene.ground


def test_extras_appear_vanish_and_are_replaced() -> None:
    for edit in edits("add"):
        assert edit.source.extra is None and edit.target.extra in EXTRAS
    for edit in edits("remove"):
        assert edit.source.extra in EXTRAS and edit.target.extra is None
    for edit in edits("replace"):
        assert edit.source.extra in EXTRAS and edit.target.extra in EXTRAS


def test_edits_reach_every_value() -> None:
    assert {e.target.ground for e in edits("background")} == set(COLOURS)
    assert {e.target.pattern for e in edits("background")} == set(PATTERNS)
    assert {(e.source.style, e.target.style) for e in edits("style")} == set(
        itertools.permutations(STYLES, 2)
    )
    assert {e.target.tint for e in edits("colour")} == set(TINTS)
    assert {(e.target.extra, e.target.corner) for e in edits("add", 600)} == set(
        itertools.product(EXTRAS, CORNERS)
    )


# ---------------------------------------------------------------- captions and instructions


def test_captions_tell_all() -> None:
    """Equal captions and equal pictures are one and the same."""
    extras = [(None, CORNERS[0]), *itertools.product(EXTRAS[:2], CORNERS)]
    by_caption: dict[str, set[tuple[str | None, ...]]] = {}
    for subject, style, ground, pattern, tint, (extra, corner) in itertools.product(
        ("fox", "apple"), STYLES, COLOURS, PATTERNS, (None, *TINTS), extras
    ):
        scene = Scene(subject, style, ground, pattern, tint, extra, corner)
        by_caption.setdefault(caption(scene), set()).add(told(scene))
    assert all(len(scenes) == 1 for scenes in by_caption.values())
    keys = [next(iter(scenes)) for scenes in by_caption.values()]
    assert len(set(keys)) == len(keys)


def test_fields_that_captions_omit_are_not_drawn() -> None:
    ink = Scene("fox", "ink", "blue", "plain")
    assert np.array_equal(draw(ink), draw(replace(ink, tint="red")))
    assert np.array_equal(draw(ink), draw(replace(ink, corner="bottom right")))


def test_caption_in_full() -> None:
    scene = Scene("apple", "3d", "orange", "striped", "blue", "star", "top right")
    assert caption(scene) == (
        "a 3d render of a blue apple on an orange striped ground with a small star at the top right"
    )
    assert caption(scene, "object") == caption(replace(scene)).replace("apple", "object")
    bare = replace(scene, style="ink", pattern="plain", extra=None)
    assert caption(bare) == "an ink drawing of an apple on an orange ground"


def follow(instruction: str, scene: Scene) -> Scene:
    """Do what an instruction says, from its words alone."""
    phrase_to_style = {phrase: style for style, phrase in STYLE_PHRASE.items()}
    if m := re.fullmatch(r"change the background to an? (\w+)(?: (\w+))? ground", instruction):
        return replace(scene, ground=m[1], pattern=m[2] or "plain")
    if m := re.fullmatch(
        r"turn the ([\w ]+?) into an? ([\w ]+?)(?: with an? (\w+) subject)?", instruction
    ):
        assert phrase_to_style[m[1]] == scene.style
        tint = m[3] if scene.style == "ink" else scene.tint
        return replace(scene, style=phrase_to_style[m[2]], tint=tint)
    if m := re.fullmatch(r"paint the (\w+) (\w+)", instruction):
        assert m[1] == scene.subject
        return replace(scene, tint=m[2])
    if m := re.fullmatch(r"add a small (\w+) at the ([\w ]+)", instruction):
        return replace(scene, extra=m[1], corner=m[2])
    if m := re.fullmatch(r"remove the small (\w+) at the ([\w ]+)", instruction):
        assert (m[1], m[2]) == (scene.extra, scene.corner)
        return replace(scene, extra=None)
    if m := re.fullmatch(r"replace the small (\w+) with a small (\w+)", instruction):
        assert m[1] == scene.extra
        return replace(scene, extra=m[2])
    raise AssertionError(f"nobody understands {instruction!r}")


@per_type
def test_instructions_say_all_in_both_directions(edit_type: str) -> None:
    for edit in edits(edit_type):
        assert told(follow(edit.instruction, edit.source)) == told(edit.target)
        assert told(follow(edit.reverse_instruction, edit.target)) == told(edit.source)


@per_type
def test_instructions_do_not_lean_on_the_past(edit_type: str) -> None:
    leaning = {"restore", "undo", "original", "back", "again", "previous", "before", "revert"}
    for edit in edits(edit_type):
        words = f"{edit.instruction} {edit.reverse_instruction}".lower().split()
        assert not leaning & set(words)


# ---------------------------------------------------------------- what is kept from whom


def test_held_out_names_are_known_to_nobody() -> None:
    held_out = set(HELD_OUT)
    assert len(held_out) == 16
    assert len(set(KNOWN)) == 118
    assert not held_out & {*KNOWN, *EXTRAS}
    assert held_out | set(KNOWN) < set(SUBJECTS)
    rng = random.Random(0)
    scenes = [random_scene(rng) for _ in range(500)] + [base_scene(rng) for _ in range(500)]
    lessons = [e for edit_type in EDIT_TYPES for e in training_edits(edit_type, 60)]
    scenes += [scene for e in lessons for scene in (e.source, e.target)]
    texts = [caption(s) for s in scenes]
    texts += [text for e in lessons for text in (e.instruction, e.reverse_instruction)]
    assert not held_out & {word for text in texts for word in text.split()}


@pytest.mark.parametrize("name", [*KNOWN, *HELD_OUT])
def test_a_subjects_ink_drawing_is_the_outline_of_its_render(name: str) -> None:
    render, ink = (np.asarray(sprite(name, style, None)) for style in ("3d", "ink"))
    inside = ink[..., 3] > 127
    dark = ink[..., :3].mean(-1) < 128
    assert dark[inside].mean() <= 0.7
    both = render[..., 3] > 127
    assert (inside & both).sum() >= 0.75 * (inside | both).sum()


def test_held_out_names_can_be_asked_for() -> None:
    rng = random.Random(0)
    assert {random_scene(rng, HELD_OUT).subject for _ in range(100)} <= set(HELD_OUT)
    assert random_edit(rng, "style", HELD_OUT).source.subject in HELD_OUT


@per_type
def test_training_edits_lead_out_of_the_bases_share_by_what_they_edit(edit_type: str) -> None:
    for edit in training_edits(edit_type):
        assert not withheld(edit.source)
        assert edit_type == "remove" or EDITED[edit_type] in withheld(edit.target)


def test_base_sees_only_its_share() -> None:
    rng = random.Random(0)
    for _ in range(300):
        scene = base_scene(rng)
        assert not withheld(scene) and scene.style in base_styles(scene.subject)
    kept = Counter(style for name in KNOWN for style in set(STYLES) - set(base_styles(name)))
    assert min(kept["ink"], kept["3d"]) >= 30 and kept["flat"] >= 10
    assert all(len(base_styles(name)) >= 2 for name in SUBJECTS)


def test_each_attribute_is_withheld_by_itself() -> None:
    rng = random.Random(0)
    alone = set()
    while len(alone) < 4:
        scene = random_scene(rng)
        if len(away := withheld(scene)) == 1:
            alone |= away
    assert alone == set(EDITED.values())


# ---------------------------------------------------------------- determinism


@per_type
def test_a_seed_determines_edits_and_pictures(edit_type: str) -> None:
    once, again = edits(edit_type, 5, seed=3), edits(edit_type, 5, seed=3)
    assert once == again != edits(edit_type, 5, seed=4)
    assert training_edits(edit_type, 3) == training_edits(edit_type, 3)
    first = [draw(e.source).copy() for e in once]
    for e in once:  # drawing other scenes on the same grounds leaves no trace
        draw(e.target)
    assert all(np.array_equal(p, draw(e.source)) for p, e in zip(first, again, strict=True))


# ---------------------------------------------------------------- drawing


def varied(count: int) -> list[Scene]:
    rng = random.Random(5)
    return [random_scene(rng, SUBJECTS, canvas=CANVASES[i % 3]) for i in range(count)]


def test_pictures_fill_their_canvas() -> None:
    for scene in varied(6):
        width, height = scene.canvas
        assert draw(scene).shape == (height, width, 3) and draw(scene).dtype == np.uint8
        assert object_mask(scene).shape == (height, width)


def test_plain_ground_is_its_colour_outside_the_objects() -> None:
    for scene in varied(30):
        scene = replace(scene, pattern="plain")
        outside = object_mask(scene) == 0
        assert 0.2 < outside.mean() < 0.95
        assert (draw(scene)[outside] == COLOURS[scene.ground]).all()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_ground_is_the_same_behind_every_object(pattern: str) -> None:
    seen = np.zeros((48, 48), bool)
    ground = np.zeros((48, 48, 3), np.uint8)
    for scene in varied(20):
        scene = replace(scene, ground="green", pattern=pattern, canvas=(48, 48))
        picture, outside = draw(scene), object_mask(scene) == 0
        both = outside & seen
        assert np.array_equal(picture[both], ground[both])
        ground[outside] = picture[outside]
        seen |= outside
    colours = {tuple(c) for c in ground[seen].tolist()}
    assert COLOURS["green"] in colours and len(colours) == (1 if pattern == "plain" else 2)


@per_type
def test_pictures_change_where_the_edit_is_and_nowhere_else(edit_type: str) -> None:
    for edit in edits(edit_type, 25):
        before, after = draw(edit.source), draw(edit.target)
        masks = object_mask(edit.source), object_mask(edit.target)
        differs = (before != after).any(-1)
        assert differs.any()
        if edit_type == "background":  # the objects stay as they are
            covered = masks[0] == 1
            apart = np.abs(before[covered].astype(int) - after[covered])
            # Where an extra's soft edge lies on the subject's, composing rounds by one level.
            assert apart.max() <= (1 if edit.source.extra else 0) and np.array_equal(*masks)
            assert differs[masks[0] == 0].mean() > 0.3
            continue
        assert not differs[(masks[0] == 0) & (masks[1] == 0)].any()
        if edit_type in ("add", "remove", "replace"):
            middle = np.zeros_like(differs)
            middle[16:-16, 16:-16] = True  # an extra is 15 px and stands 1 px from its corner
            assert not differs[middle].any()


def test_a_tint_gives_its_hue_and_keeps_the_shape() -> None:
    for tint in TINTS:
        natural = np.asarray(sprite("fox", "flat", None))
        tinted = np.asarray(sprite("fox", "flat", tint))
        assert np.array_equal(natural[..., 3], tinted[..., 3])
        solid = tinted[tinted[..., 3] == 255][:, :3].astype(float)
        distance = {c: np.abs(np.median(solid, 0) - COLOURS[c]).sum() for c in TINTS}
        assert min(distance, key=distance.get) == tint


def test_every_name_has_its_own_picture_in_every_style() -> None:
    for style in STYLES:
        pictures = {sprite(name, style, None).tobytes() for name in (*SUBJECTS, *EXTRAS)}
        assert len(pictures) == len(SUBJECTS) + len(EXTRAS)
    for name in SUBJECTS:
        solid = [(np.asarray(sprite(name, style, None))[..., 3] > 127).mean() for style in STYLES]
        assert min(solid) > 0.03, name
