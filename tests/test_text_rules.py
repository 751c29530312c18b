"""Wordings that training would suffer from: which are found, and which only look like them."""

from __future__ import annotations

import pytest
from data_sets import TEXTS
from hypothesis import given
from hypothesis import strategies as st

from byg_train.data.text_rules import RULES, violations


@pytest.mark.parametrize(
    ("field", "text", "rule"),
    [
        ("tgt_caption", "a blue ball, now on grass", "change in caption"),
        ("tgt_caption", "the ball HAS BEEN painted", "change in caption"),
        ("tgt_caption", "a car changed\ninto a bus", "change in caption"),
        ("tgt_caption", "a street after the edit", "change in caption"),
        ("tgt_caption", "a table without a cup", "absence in caption"),
        ("tgt_caption", "a man who isn't there", "absence in caption"),
        ("reverse_instruction", "Restore the ball", "points at the past"),
        ("reverse_instruction", "Undo the change", "points at the past"),
        ("reverse_instruction", "Turn the ball back to red", "points at the past"),
        ("reverse_instruction", "Give the ball the original colour", "points at the past"),
        ("instruction", "Follow the target caption", "speaks of a caption"),
        ("instruction", "Paint it blue", "unnamed object"),
        ("instruction", "Remove the object on the left", "unnamed object"),
        ("reverse_instruction", "Add them again", "unnamed object"),
    ],
)
def test_a_wording_is_found_where_it_stands(field: str, text: str, rule: str) -> None:
    found = violations({**TEXTS, field: text})
    assert {(violation.field, violation.rule) for violation in found} == {(field, rule)}
    for violation in found:
        assert text[violation.start : violation.start + len(violation.words)] == violation.words


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("tgt_caption", "snow on the nose of a knowing man in November, a notch, a hafterlight"),
        ("tgt_caption", "a shop sign that says 'NOW OPEN, no longer closed'"),
        ("tgt_caption", 'a poster with the words "after" and “without”, ‘now’, «not»'),
        ("tgt_caption", "a no-parking sign beside a now-famous house"),
        ("tgt_caption", "a man turned to the camera, the dogs' toys and the cat's bed"),
        ("src_caption", "a shop that is now closed, without lights"),
        ("instruction", "Restore the torn photograph"),
        ("instruction", "Take the cup on the left and paint it blue"),
        ("instruction", "Write 'it' on the wall"),
        ("instruction", "Give the ink drawing a green subject"),
        ("reverse_instruction", "Turn the man with his back to the wall"),
        ("reverse_instruction", "Write 'back to the original' on the wall"),
    ],
)
def test_what_only_looks_wrong_is_left_alone(field: str, text: str) -> None:
    assert violations({**TEXTS, field: text}) == []


def test_it_is_the_picture_where_the_whole_picture_changes() -> None:
    fields = {**TEXTS, "instruction": "Make it an oil painting"}
    assert violations(fields, "style") == violations(fields, "style_change") == []
    assert [violation.words for violation in violations(fields, "colour")] == ["it"]


FORBIDDEN = ("now", "no longer", "has been", "becomes", "turned into", "without", "not", "after")
harmless = st.lists(
    st.text("bcdfgjkqvwxz", min_size=2, max_size=8), min_size=1, max_size=6
).map(" ".join)  # fmt: skip


@given(harmless, st.sampled_from(FORBIDDEN), harmless, st.sampled_from('"“«'))
def test_quoting_or_gluing_a_word_hides_it_and_nothing_else_does(
    before: str, word: str, after: str, mark: str
) -> None:
    def number(caption: str) -> int:
        return len(violations({"tgt_caption": caption}))

    closing = {'"': '"', "“": "”", "«": "»"}[mark]
    assert number(f"{before} {word} {after}") == 1
    assert number(f"{before}, {word.upper()}.") == 1
    assert number(f"{before} {mark}{word} {after}{closing} {after}") == 0
    assert number(f"{before} '{word} {after}' {after}") == 0
    assert number(f"{before} {mark}{word}") == 1  # a mark that is never closed quotes nothing
    glued = f"{before}{word.replace(' ', '')}{after}"
    assert number(f"{glued} {before}") == 0


@given(st.dictionaries(st.sampled_from([*TEXTS]), st.text(max_size=80)))
def test_no_text_breaks_the_rules(fields: dict[str, str]) -> None:
    for violation in violations(fields):
        start, end = violation.start, violation.start + len(violation.words)
        assert fields[violation.field][start:end] == violation.words
        assert violation.rule in {"unnamed object", *(rule.name for rule in RULES)}
