"""The wide world: pictures show what texts leave out, and who changes that has not kept it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from byg_train.world import names, scenes
from byg_train.world.judge import PICTURES, Recolour
from byg_train.world.names import HELD_OUT, SUBJECTS
from byg_train.world.scenes import is_symmetric
from byg_train.world.wide import (
    COVERED,
    EDIT_TYPES,
    EDITED,
    KIND,
    KNOWN,
    PLACES,
    STRANGE,
    Edit,
    Scene,
    caption,
    draw,
    object_mask,
    random_edit,
    random_scene,
    training_edit,
    withheld,
)
from byg_train.world.wide_demo import OF_WIDE, WIDE
from tools.world.lots import CANVASES, base_scene
from tools.world.show_wide import found
from tools.world.train_base import BASE, CLIP_LEN, TEXT_LEN, Net, carry_on
from tools.world.words import build_tokenizers, corpus

per_type = pytest.mark.parametrize("edit_type", EDIT_TYPES)


def edits(edit_type: str, count: int = 150) -> list[Edit]:
    rng = random.Random(0)
    return [random_edit(rng, edit_type, SUBJECTS) for _ in range(count)]


def texts(edit: Edit) -> list[str]:
    """All that is told of an edit."""
    scenes_told = [caption(edit.source), caption(edit.target)]
    return [*scenes_told, edit.instruction, edit.reverse_instruction]


def test_the_tiny_world_is_what_it_was_before_there_was_a_wide_one() -> None:
    rng = random.Random(0)
    drawn = [scenes.random_edit(rng, kind) for _ in range(50) for kind in EDIT_TYPES]
    assert all(e.source.place == (0, 0) and not e.source.mirrored for e in drawn)
    assert crc32("|".join(t for edit in drawn for t in texts(edit)).encode()) == 1986598631


# ---------------------------------------------------------------- drawing


@pytest.mark.parametrize("canvas", CANVASES)
def test_the_subject_goes_from_edge_to_edge(canvas: tuple[int, int]) -> None:
    scene = Scene("fox", "flat", "blue", "plain", canvas=canvas)
    middle = object_mask(scene)
    steps = [(side - scenes.SUBJECT_SIZE) // 2 for side in canvas]
    for right, down in PLACES:
        shift = (down * steps[1], right * steps[0])
        moved = object_mask(replace(scene, place=(right, down)))
        assert np.array_equal(moved, np.roll(middle, shift, (0, 1)))


def test_mirroring_turns_the_subject_alone() -> None:
    scene = Scene("fish", "3d", "blue", "striped", extra="key", place=(1, 1))
    mirrored = replace(scene, mirrored=True)
    box = np.s_[-32:, -32:]
    assert np.array_equal(object_mask(mirrored)[box], object_mask(scene)[box][:, ::-1])
    assert np.array_equal(draw(mirrored)[:16], draw(scene)[:16])
    assert not is_symmetric(scene)
    assert is_symmetric(replace(scene, subject="lock", style="ink"))


# ---------------------------------------------------------------- telling


def test_every_name_has_a_kind() -> None:
    assert set(KIND) == set(SUBJECTS)
    assert set(KIND.values()) == {KIND[name] for name in KNOWN}  # none is new to the base
    assert set(KNOWN) < set(names.KNOWN)
    examples = {"seal": "animal", "bagel": "food", "tractor": "vehicle", "palm": "plant"}
    assert examples.items() <= KIND.items()


@per_type
def test_half_of_the_texts_tell_the_kind_alone(edit_type: str) -> None:
    count = 0
    for edit in edits(edit_type, 400):
        words = [set(text.split()) for text in texts(edit)]
        named = [edit.source.subject in each for each in words]
        assert any(named) != bool(edit.source.called)
        if edit.source.called:
            count += 1
            assert edit.source.called == KIND[edit.source.subject]
            assert all(edit.source.called in each for each in words[:2])
    assert 160 < count < 240
    if edit_type == "colour":
        assert all(e.source.name in e.instruction for e in edits(edit_type))


def test_no_text_tells_place_or_side() -> None:
    for scene in (random_scene(random.Random(i)) for i in range(40)):
        others = {caption(replace(scene, place=p, mirrored=m)) for p in PLACES for m in (0, 1)}
        assert others == {caption(scene)}


# ---------------------------------------------------------------- lots


@per_type
def test_edits_keep_what_is_untold_and_cover_no_subject(edit_type: str) -> None:
    for edit in edits(edit_type):
        s, t = edit.source, edit.target
        assert (s.place, s.mirrored, s.called) == (t.place, t.mirrored, t.called)
        assert COVERED[s.corner] != s.place
        assert getattr(s, EDITED[edit_type]) != getattr(t, EDITED[edit_type])


def test_all_places_and_both_sides_are_as_frequent() -> None:
    rng = random.Random(0)
    drawn = [random_scene(rng) for _ in range(1800)]
    places = Counter(scene.place for scene in drawn)
    assert set(places) == set(PLACES) and places[0, 0] > max(places[p] for p in COVERED.values())
    assert min(places.values()) > 150
    assert 800 < sum(scene.mirrored for scene in drawn) < 1000


@per_type
def test_lessons_start_in_the_bases_share_and_lead_out_of_it(edit_type: str) -> None:
    rng = random.Random(0)
    lessons = [training_edit(rng, edit_type) for _ in range(80)]
    known = [edit for edit in lessons if edit.source.subject in KNOWN]
    assert len(known) == 80 if edit_type == "style" else 20 < len(known) < 60
    assert all(edit.source.subject in STRANGE for edit in lessons if edit not in known)
    for edit in known:
        assert not withheld(edit.source)
        assert edit_type == "remove" or EDITED[edit_type] in withheld(edit.target)
    seen = [base_scene(rng, draw_lot=random_scene) for _ in range(40)]
    assert not any(map(withheld, seen)) and {s.called is None for s in seen} == {True, False}


# ---------------------------------------------------------------- judging


def kept(subject: str, **changed: object) -> float:
    """Whether the true counterpart of an edit counts as kept, with something changed."""
    source = Scene(subject, "flat", "blue", "plain", place=(1, 0))
    edit = Edit("background", source, replace(source, ground="red"), "", "")
    query = WIDE.told_from(random.Random(0), "background", edit, Recolour(WIDE))
    return WIDE.score(query, WIDE.drawn(replace(edit.target, **changed))).keep


def test_who_moves_or_mirrors_the_subject_has_not_kept_the_source() -> None:
    assert [kept("dolphin", place=place) for place in PLACES] == [p == (1, 0) for p in PLACES]
    assert [kept("dolphin", mirrored=value) for value in (False, True)] == [1, 0]


def test_a_subject_without_sides_is_kept_when_it_is_mirrored() -> None:
    assert [kept("crown", mirrored=value) for value in (False, True)] == [1, 1]
    assert kept("crown", place=(0, 0)) == 0


def test_the_tiny_worlds_judge_knows_nothing_of_it() -> None:
    assert WIDE.values.keys() - PICTURES.values.keys() == {"place", "mirrored"}
    assert OF_WIDE.judge is WIDE
    assert WIDE.query(random.Random(0), "colour").source.subject in HELD_OUT


# ---------------------------------------------------------------- its base


def test_a_base_goes_on_with_the_words_that_it_knows() -> None:
    base = FluxPipeline.from_pretrained(BASE, torch_dtype=torch.float32)
    tokenizers = build_tokenizers(corpus(random.Random(0), 2000, random_edit))
    net = Net(len(tokenizers[0]), len(tokenizers[1]), tokenizers[0].eos_token_id)
    told = ["a 3d render of a red fox on a blue ground with a small key at the top left", ""]

    def ids(pair: Sequence) -> list[torch.Tensor]:
        whole = {"padding": "max_length", "return_tensors": "pt"}
        lengths = zip(pair, (CLIP_LEN, TEXT_LEN), strict=True)
        return [of(told, max_length=length, **whole).input_ids for of, length in lengths]

    clip, t5 = ids((base.tokenizer, base.tokenizer_2))
    wanted = base.text_encoder(clip).pooler_output, base.text_encoder_2(t5).last_hidden_state
    carry_on(net, tokenizers, base)
    for got, want in zip(net.texts(ids(tokenizers)), wanted, strict=True):
        assert torch.equal(got, want)
    assert "▁animal" in tokenizers[1].get_vocab()


def test_what_a_base_drew_is_found_among_all_that_its_caption_leaves_open() -> None:
    drawn = Scene("fish", "3d", "blue", "plain", place=(1, -1), mirrored=True, called="animal")
    asked = replace(drawn, subject="cat", place=(0, 0), mirrored=False)
    assert caption(asked) == caption(drawn)
    assert found(asked, WIDE.drawn(drawn)) == drawn
