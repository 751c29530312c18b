"""Style folders: texts by templates, every direction, balance, mistakes in folders and files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from byg_train.config import ConfigError, DataConfig
from byg_train.data import DataError
from byg_train.data.items import Dataset, load_items


def picture(path: Path, caption: str | None = "a cat.") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), "teal").save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")


def load(root: Path, styles: Path | None = None, on_bad_item: str = "stop") -> Dataset:
    config = DataConfig(path=root, styles=styles, on_bad_item=on_bad_item, holdout=0)
    return load_items(config, multiple=16)


def templates(root: Path, text: str) -> Path:
    path = root.with_name("my.toml")
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two styles with one picture each."""
    picture(tmp_path / "data" / "3d-cartoon" / "a.png", "\ufeffa cat\n on grass. ")
    picture(tmp_path / "data" / "oil_painting" / "b.JPG", "a dog")
    return tmp_path / "data"


def test_the_built_in_texts(root: Path) -> None:
    cat, dog = sorted(load(root).train, key=lambda item: item.path)
    assert cat.path == root / "3d-cartoon" / "a.png"
    assert cat.texts == (
        "a cat on grass, 3d cartoon style",
        "a cat on grass, oil painting style",
        "Turn the picture into oil painting style",
        "Turn the picture into 3d cartoon style",
    )
    assert dog.texts == (
        "a dog, oil painting style",
        "a dog, 3d cartoon style",
        "Turn the picture into 3d cartoon style",
        "Turn the picture into oil painting style",
    )
    assert {item.edit_type for item in (cat, dog)} == {"style_change"}


OWN = """
instruction = "From {from_style} to {style}"
[styles.3d-cartoon]
phrase = "Pixar"
caption = "a {style} still of {caption}"
"""


def test_a_file_overrides_what_it_names(root: Path) -> None:
    wanted = (
        "a Pixar still of a cat on grass",
        "a cat on grass, oil painting style",
        "From Pixar to oil painting",
        "From oil painting to Pixar",
    )
    cat = min(load(root, templates(root, OWN)).train, key=lambda item: item.path)
    assert cat.texts == wanted
    (root / "styles.toml").write_text(OWN, encoding="utf-8")  # beside the folders: found by itself
    assert min(load(root).train, key=lambda item: item.path).texts == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('caption = "{captoin}, {style}"', r"unknown field \{captoin\} .* known: \{caption\}"),
        ('instruction = "{caption} in {style}"', r"unknown field \{caption\}"),
        ('caption = "{caption.__class__} {style}"', "unknown field"),
        ('caption = "{caption!r:>{style}}"', "unknown field"),
        ('caption = "{} {style}"', r"unknown field \{\}"),
        ('caption = "{caption"', "cannot be filled in"),
        ('caption = " "', "wanted a text"),
        ("caption = 3", "wanted a text"),
        ('captions = "{caption}"', "unknown 'captions'; did you mean 'caption'"),
        ('[styles.3d_cartoon]\nphrase = "x"', "did you mean '3d-cartoon'"),
        ("styles = 3", "wanted a table"),
        ('[styles.3d-cartoon]\nphrse = "x"', "did you mean 'phrase'"),
        ('[styles.3d-cartoon]\nphrase = "oil painting"', "2 style folders .* 'oil painting'"),
    ],
)
def test_a_mistake_in_the_file_is_told(root: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(root, templates(root, text))


def test_a_file_that_is_missing_or_no_toml_is_told(root: Path) -> None:
    with pytest.raises(ConfigError, match="none.toml does not exist"):
        load(root, root / "none.toml")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(root, templates(root, "caption = "))


def test_captions_that_hide_the_style_are_equal_and_refused(root: Path) -> None:
    with pytest.raises(DataError, match="2 problems") as error:
        load(root, templates(root, 'caption = "{caption}"'))
    assert "equal captions 'a cat on grass'" in str(error.value)


def test_one_instruction_for_two_styles_is_refused(root: Path) -> None:
    picture(root / "photo" / "c.png")
    with pytest.raises(DataError) as error:
        load(root, templates(root, 'instruction = "Make it nice"'))
    assert [p.where for p in error.value.problems] == [
        "3d-cartoon/a.png",
        "oil_painting/b.JPG",
        "photo/c.png",
    ]


def test_every_direction_is_there_and_equally_frequent(root: Path) -> None:
    for i in range(4):
        picture(root / "photo" / f"{i}.webp")
    picture(root / "3d-cartoon" / "second.png")
    train = load(root).train
    directions = Counter((item.path.parent.name, item.instruction) for item in train)
    assert len(directions) == 6
    assert set(directions.values()) == {4}
    uses = Counter((item.path.name, item.instruction) for item in train)
    assert {n for (name, _), n in uses.items() if name == "b.JPG"} == {4}
    assert {n for (name, _), n in uses.items() if name in ("a.png", "second.png")} == {2}
    assert {n for (name, _), n in uses.items() if name.endswith(".webp")} == {1}


def test_problems_of_folders_and_captions(root: Path) -> None:
    picture(root / "photo" / "good.png")
    picture(root / "photo" / "bare.png", None)
    picture(root / "photo" / "blank.png", " \n")
    picture(root / "photo" / "latin.png")
    (root / "photo" / "latin.txt").write_bytes("Café".encode("latin-1"))
    picture(root / "photo" / "._good.png", None)  # what macOS leaves on foreign disks
    (root / "photo" / "notes.md").write_text("not a picture, but others are there")
    (root / ".byg_cache").mkdir()
    (root / "clips").mkdir()
    for name in ("a.mp4", "b.mp4", "c.gif", "a.txt"):
        (root / "clips" / name).write_bytes(b"")
    (root / "void").mkdir()
    with pytest.raises(DataError) as error:
        load(root)
    assert {p.where: p.found for p in error.value.problems} == {
        "photo/bare.png": "no caption",
        "photo/blank.png": "blank.txt is empty",
        "photo/latin.png": "latin.txt is not UTF-8 text (byte 0xE9 at offset 3, line 1): it "
        "looks like Windows-1252 ('Café'); save it as UTF-8",
        "clips/": "no pictures (only 1 .gif, 2 .mp4, 1 .txt files)",
        "void/": "no pictures",
    }
    data = load(root, on_bad_item="drop")
    assert {item.path.name for item in data.train} == {"a.png", "b.JPG", "good.png"}
    assert len(data.problems) == 5


def test_a_broken_picture_is_told_once_for_all_directions(root: Path) -> None:
    picture(root / "photo" / "a.png")
    (root / "photo" / "a.png").write_bytes(b"no")
    with pytest.raises(DataError, match="1 problem in") as error:
        load(root)
    assert error.value.problems[0].where == "photo/a.png"


def test_one_style_alone_is_no_layout(tmp_path: Path) -> None:
    picture(tmp_path / "photo" / "a.png")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"")
    with pytest.raises(DataError, match="1 folder with pictures: photo") as error:
        load(tmp_path)
    assert "clips/: no pictures (only 1 .mp4 files)" in str(error.value)
