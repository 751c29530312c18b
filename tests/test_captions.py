"""Captions are found under the names that people's tools give them, and read by one function."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from byg_train.data.names import CaptionError, Captions


@pytest.mark.parametrize("name", ["a.txt", "a.TXT", "A.Txt", "a.caption", "a.CAPTION", "a.png.txt"])
def test_a_caption_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(" a  cat\n", encoding="utf-8-sig")
    assert Captions().read(tmp_path / "a.png") == "a cat"


def test_accents_may_be_composed_in_either_way(tmp_path: Path) -> None:
    (tmp_path / unicodedata.normalize("NFD", "é.txt")).write_text("a cat")
    assert Captions().read(tmp_path / unicodedata.normalize("NFC", "é.png")) == "a cat"


def test_the_nearest_name_counts(tmp_path: Path) -> None:
    for name in ("a.caption", "A.txt", "a.txt"):
        (tmp_path / name).write_text(name)
    found = Captions()
    assert [found.read(tmp_path / name) for name in ("a.png", "A.png")] == ["a.txt", "A.txt"]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (None, "no caption"),
        (b"\xe2\x80\x8b", "empty text"),
        (b"caf\xe9", "encoding"),
    ],
)
def test_what_is_wrong_has_a_code(tmp_path: Path, text: bytes | None, rule: str) -> None:
    if text is not None:
        (tmp_path / "a.txt").write_bytes(text)
    with pytest.raises(CaptionError) as error:
        Captions().read(tmp_path / "a.png")
    assert error.value.rule == rule


def test_json_says_its_caption(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"caption": "a cat", "caption_short": "cat"}')
    assert Captions((".json",)).read(tmp_path / "a.png") == "a cat"
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(CaptionError, match="no field 'caption'"):
        Captions((".json",)).read(tmp_path / "a.png")
