"""What models say is read: every wrapping that was met, and by properties what was not."""

from __future__ import annotations

import json

import pytest
from chat_server import UNUSABLE, USABLE, Asked, good_fields
from hypothesis import example, given
from hypothesis import strategies as st

from byg_train.data.vlm.answers import EDIT_FIELDS, AnswerError, read_clip, read_edit, read_fields
from byg_train.data.vlm.edit_types import EDIT_TYPES, Offer, known_type

OFFER = Offer(("color_change", "background_change", "style_change"), ())
ASKED = Asked("7", '"edit_type": ' + " or ".join(f'"{t}"' for t in OFFER.types), [], {}, {}, 0)
GOOD = good_fields(ASKED)

# Texts as models write them: lettering, braces and quotes included.
letters = st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp"))
texts = (
    st.text(letters, min_size=1, max_size=40)
    .map(lambda text: " ".join(text.split()))
    .filter(lambda text: text and "think" not in text)
)
answers = st.fixed_dictionaries({name: texts for name in EDIT_FIELDS})
# Prose without a whole JSON object of its own.
prose = st.text(max_size=60).filter(lambda text: "think" not in text and "}" not in text)


def flat(fields: dict[str, str]) -> dict[str, str]:
    return {
        k: " ".join("".join(c for c in v if c.isprintable()).split()) for k, v in fields.items()
    }


@pytest.mark.slow
@given(answers, prose, prose, st.booleans(), st.sampled_from([None, 1, "\t"]))
@example(GOOD, "{", '{"', False, None)
@example(GOOD, '"', "'''", True, 2)
def test_whatever_stands_around_an_answer_it_is_found(
    fields: dict[str, str], before: str, after: str, escaped: bool, indent: int | str | None
) -> None:
    answer = json.dumps(fields, ensure_ascii=escaped, indent=indent)
    assert read_fields(before + answer + after, False, EDIT_FIELDS) == flat(fields)
    thought = f"{before}<think>{before}{answer}</think>{answer}"
    assert read_fields(thought, False, EDIT_FIELDS) == flat(fields)
    assert read_fields(f"```json\n[{answer}]\n```", False, EDIT_FIELDS) == flat(fields)


@pytest.mark.slow
@given(answers, st.integers(0, 400))
@example({**dict.fromkeys(EDIT_FIELDS, "0"), "src_caption": "00}"}, 107)
@example({**dict.fromkeys(EDIT_FIELDS, "0"), "src_caption": '\\"} 0'}, 110)
def test_an_answer_that_was_cut_is_never_completed(fields: dict[str, str], kept: int) -> None:
    """However it was cut: what is read of it is whole or nothing."""
    answer = json.dumps(fields)
    for was_told in (True, False):
        if kept >= len(answer):
            assert read_fields(answer[:kept], was_told, EDIT_FIELDS) == flat(fields)
        elif not was_told and answer[:kept].endswith("}"):
            pass  # it looks finished, a quotation mark apart: nobody can tell
        else:
            with pytest.raises(AnswerError):
                read_fields(answer[:kept], was_told, EDIT_FIELDS)


@given(st.text(max_size=200) | st.text('{}[]":,\\ abe\n', max_size=200), st.booleans())
def test_nothing_that_is_said_breaks_the_reader(said: str, cut: bool) -> None:
    with pytest.raises(AnswerError) as refused:
        read_edit(said, cut, OFFER)
    assert len(str(refused.value)) < 300


HOSTILE = {
    "braces": "{" * 20000,
    "closed braces": "{" * 9000 + "}" * 9000,
    "deep": '{"a":' * 9000 + "}",
    "brackets": "[" * 20000 + "{" + "]" * 20000,
    "quotes": '"{' * 9000 + "}",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_answer_is_refused_soon(what: str) -> None:
    with pytest.raises(AnswerError):
        read_edit(HOSTILE[what], False, OFFER)


@given(answers, answers)
def test_of_several_whole_answers_the_last_counts(
    first: dict[str, str], last: dict[str, str]
) -> None:
    said = json.dumps([first, last, {"note": "done"}])
    assert read_fields(said, False, EDIT_FIELDS) == flat(last)


@pytest.mark.parametrize("mood", USABLE)
def test_a_usable_answer_is_read(mood: str) -> None:
    assert read_edit(USABLE[mood](ASKED), False, OFFER) == GOOD


# Part of what is told to the model, and to the person.
COMPLAINTS = {
    "refusal": "no JSON object: \"I'm sorry, but I can't help",
    "nothing": "no JSON object: ''",
    "unknown type": "edit_type is 'make it nice'; wanted color_change or",
    "type that was not offered": "edit_type is 'add'; wanted",
    "number for a text": "tgt_caption is 7; wanted a text",
    "null for a text": "reverse_instruction is null; wanted a text",
    "empty text": "instruction is empty",
    "a field lacks": "lacks instruction, tgt_caption, reverse_instruction",
    "equal captions": "are equal",
    "speaks of before": "reverse_instruction says 'Restore'",
    "speaks of change": "tgt_caption says 'now'",
    "thoughts without end": "no JSON object",
    "cut": "no JSON object",
}


@pytest.mark.parametrize("mood", UNUSABLE)
def test_an_unusable_answer_is_refused_with_its_reason(mood: str) -> None:
    with pytest.raises(AnswerError) as refused:
        read_edit(UNUSABLE[mood](ASKED), False, OFFER)
    assert COMPLAINTS[mood] in str(refused.value)


def test_an_answer_that_was_cut_says_so() -> None:
    with pytest.raises(AnswerError, match="cut off; be brief"):
        read_edit(json.dumps(GOOD)[:-10], True, OFFER)
    assert read_edit(json.dumps(GOOD) + " I hope that", True, OFFER) == GOOD


def test_broken_json_is_repaired() -> None:
    broken = json.dumps({**GOOD, "src_caption": "a sign"}).replace("a sign", 'a sign "OPEN" here')
    assert read_edit(broken, False, OFFER)["src_caption"] == 'a sign "OPEN" here'


def test_no_half_characters_reach_a_file() -> None:
    said = json.dumps({**GOOD, "instruction": "Paint\x00 the \ud83d car\u200b blue"})
    assert read_edit(said, False, OFFER)["instruction"] == "Paint the car blue"


def test_lettering_may_say_anything() -> None:
    fields = {**GOOD, "tgt_caption": "a sign that says 'NOW OPEN'"}
    assert read_edit(json.dumps(fields), False, OFFER) == fields


def test_a_forced_edit_takes_no_other_type() -> None:
    forced = Offer(("style_change",), ("photorealistic",), True)
    with pytest.raises(AnswerError, match="wanted style_change"):
        read_edit(json.dumps({**GOOD, "edit_type": "color_change"}), False, forced)


def test_the_style_of_a_clip_is_one_of_those_asked_for() -> None:
    styles = ("cartoon", "photo-realistic")
    said = '{"Caption": "a car", "style": "Photo Realistic"}'
    assert read_clip(said, False, styles) == {"caption": "a car", "style": "photo-realistic"}
    assert read_clip(said, False, ()) == {"caption": "a car"}
    with pytest.raises(AnswerError, match="style is 'noir'; wanted cartoon or photo-realistic"):
        read_clip('{"caption": "a car", "style": "noir"}', False, styles)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Color Change", "color_change"),
        ("change_colour", "color_change"),
        ("texture/material change", "material_change"),
        ("action/pose change", "pose_change"),
        ("object_swap", "replace"),
        ("bg", "background_change"),
        ("Removal", "remove"),
        ("style-transfer", "style_change"),
        ("make it nice", None),
        ("", None),
    ],
)
def test_types_are_known_by_the_names_that_models_give_them(said: str, meant: str | None) -> None:
    assert known_type(said) == meant


def test_every_type_is_known_by_its_own_name() -> None:
    assert [known_type(name) for name in EDIT_TYPES] == list(EDIT_TYPES)
    assert len(EDIT_TYPES) == 10
