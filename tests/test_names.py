"""Names in texts, and the files that they mean."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from byg_train.data.names import FileNames


def touch(root: Path, *names: str) -> FileNames:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return FileNames(root)


@pytest.mark.parametrize(
    ("disk", "text"),
    [
        ("a.png", "a.png"),
        ("Cat.JPG", "cat.jpg"),
        ("ink/Cat.JPG", "Ink/cat.jpg"),
        (" a.png", " a.png"),
        (" a.png", "a.png"),
        ("a.png", "  a.png "),
        (" photo/a.png", " photo/a.png"),
        (" photo/a.png", "photo/a.png"),
        ("photo/a.png", "photo\\a.png"),
        ("photo/a.png", "./photo//a.png"),
        ("STRASSE.png", "straße.png"),
        ("%41.png", "%41.png"),
    ],
)
def test_the_file_is_found(tmp_path: Path, disk: str, text: str) -> None:
    assert touch(tmp_path, disk).find(text).name == disk


@pytest.mark.parametrize("word", ["é", "Ångström", "über/é", "각", "が"])
@pytest.mark.parametrize("forms", [("NFD", "NFC"), ("NFC", "NFD")])
def test_accents_of_either_kind(tmp_path: Path, word: str, forms: tuple[str, str]) -> None:
    disk, text = (f"{unicodedata.normalize(form, word)}.png" for form in forms)
    assert touch(tmp_path, disk).find(text).name == disk
    assert touch(tmp_path, disk).find(text.upper()).name == disk


def test_the_exact_name_comes_first(tmp_path: Path) -> None:
    names = touch(tmp_path, "a.png", "A.png", "b.PNG", "B.png")
    assert names.find("a.png").name == "a.png"
    assert names.find("A.png").name == "A.png"
    found = names.find("b.png")
    assert found.name is None
    assert found.instead == ": there are B.png and b.PNG"


def test_two_folders_that_differ_in_case_are_both_searched(tmp_path: Path) -> None:
    names = touch(tmp_path, "ink/a.png", "Ink/b.png")
    assert names.find("INK/b.png").name == "Ink/b.png"
    assert names.find("ink/B.PNG").name == "Ink/b.png"


def test_what_may_have_been_meant_is_said(tmp_path: Path) -> None:
    names = touch(tmp_path, "cat.png", "in/house.jpg")
    assert names.find(str((tmp_path / "cat.png").resolve())).name == "cat.png"
    assert names.find("cat.jpg").instead == "; there is cat.png"
    assert "in/house.jpg" in names.find("in/house.jpeg").instead
    assert "cat.png" in names.find("cot.png").instead
    for text in ("", "  ", "../a.png", "/etc/passwd", "x" * 5000, "nul\0.png", "in", "none/a.png"):
        assert names.find(text).name is None
