"""`data generate`: captions from templates, and pictures that are a function of their seed."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_runs import byg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import Result

from byg_train.config import ConfigError, DataConfig
from byg_train.data.items import load_items
from byg_train.data.prompt_templates import parse_template, read_templates, shots

Generate = Callable[..., Result]
SMALL = (
    "model.text_len=24",
    "model.dtype=float32",
    "data.resolution=16",
    "sample.steps=2",
)


@pytest.fixture
def generate(tiny_base: Path) -> Generate:
    """The command on a tiny random FLUX."""

    def run(root: Path, style: str, *more: object) -> Result:
        sets = [word for assignment in SMALL for word in ("--set", assignment)]
        where = ["data", "generate", root, style, "--model", tiny_base, "--device", "cpu"]
        return byg(*where, *sets, *more)

    return run


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


# ---------------------------------------------------------------- captions


choices = st.lists(st.text("abc ", max_size=4), min_size=2, max_size=3)


@pytest.mark.slow
@given(st.lists(choices, max_size=3), st.integers(0, 99))
def test_a_template_gives_its_choices_and_nothing_else(parts: list[list[str]], seed: int) -> None:
    text = "x" + "".join(f" {{{'|'.join(part)}}} y" for part in parts)
    template = parse_template(text, {}, "here")
    wanted = {
        " ".join(("x" + "".join(f" {word.strip()} y" for word in words)).split())
        for words in itertools.product(*parts)
    }
    assert template.fill(random.Random(seed)) in wanted
    found = {
        template.fill(random.Random(i)) for i in range(60 * math.prod(map(len, template.choices)))
    }
    assert found == wanted


def test_lists_stand_for_their_lines(tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("\ufeffa {animal}\n\n# not this\na {old|new} {place}\n")
    lists = {"animal": ["cat", "dog"], "place": ["inn"]}
    first, second = read_templates(tmp_path / "captions.txt", lists)
    assert first.choices == (("cat", "dog"),)
    assert second.choices == (("old", "new"), ("inn",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a {animl}", r"\{animl\} names no list; did you mean 'animal'"),
        ("a {cat", "a brace without its partner"),
        ("a cat|dog}", "a brace without its partner"),
        ("a {{cat}}", "cat"),
        ("a {}", "names no list"),
    ],
)
def test_a_mistake_in_a_template_is_told(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_template(text, {"animal": ["cat"]}, "--template")


def test_a_shot_depends_on_nothing_but_its_place(tmp_path: Path) -> None:
    templates = [parse_template("a {cat|dog|cow|owl}", {}, ""), parse_template("b", {}, "")]
    few, many = shots(templates, 5, "ink", 3), shots(templates, 40, "ink", 3)
    assert many[:5] == few
    assert [shot.caption for shot in many[1::2]] == ["b"] * 20
    assert len({shot.seed for shot in many}) == len({shot.name for shot in many}) == 40
    other = [*shots(templates, 40, "ink", 4), *shots(templates, 40, "photo", 3)]
    assert not {shot.seed for shot in many} & {shot.seed for shot in other}


# ---------------------------------------------------------------- pictures


@pytest.mark.slow
def test_the_same_seed_gives_the_same_files_whatever_was_there(
    generate: Generate, tmp_path: Path
) -> None:
    words = ["--template", "a {red|blue} {cat|dog}", "--seed", 7]
    result = generate(tmp_path / "one", "photo", *words, "--count", 3)
    assert result.exit_code == 0, result.output
    first = content(tmp_path / "one" / "photo")
    assert list(first) == [f"gen7-0000{i}.{e}" for i in range(3) for e in ("png", "txt")]
    assert len({first[name] for name in first if name.endswith("png")}) == 3
    # A run that was stopped: a picture lacks, and a caption without its picture is there.
    (tmp_path / "one" / "photo" / "gen7-00001.png").unlink()
    result = generate(tmp_path / "one", "photo", *words, "--count", 4)
    assert result.exit_code == 0 and "2 of 4 are there already" in result.stderr
    again = content(tmp_path / "one" / "photo")
    assert {name: again[name] for name in first} == first and len(again) == 8
    assert generate(tmp_path / "two", "photo", *words, "--count", 4).exit_code == 0
    assert content(tmp_path / "two" / "photo") == again


def test_a_picture_is_drawn_from_the_caption_that_training_gives_it(
    generate: Generate, tmp_path: Path
) -> None:
    (tmp_path / "styles.toml").write_text('[styles.toon]\ncaption = "a {style} still: {caption}"')
    for style in ("toon", "photo"):
        result = generate(tmp_path, style, "--template", "a {red|blue} ball", "--count", 2)
        assert result.exit_code == 0, result.output
    told = {}
    for path in tmp_path.glob("*/*.png"):
        with Image.open(path) as picture:
            told[path] = json.loads(picture.info["byg_train"])
            assert picture.size == (16, 16)
    items = load_items(DataConfig(path=tmp_path, holdout=0), multiple=8).train
    assert len(items) == 4
    for item in items:
        assert told[item.path]["prompt"] == item.src_caption
    assert {i.src_caption.split(":")[0] for i in items if i.path.parent.name == "toon"} == {
        "a toon still"
    }


@pytest.mark.slow
def test_other_settings_do_not_mix_with_what_is_there(generate: Generate, tmp_path: Path) -> None:
    words = ["--template", "a ball", "--count", 1]
    assert generate(tmp_path, "photo", *words).exit_code == 0
    before = content(tmp_path / "photo")
    for change in (["--set", "sample.steps=3"], ["--size", "32x16"]):
        result = generate(tmp_path, "photo", *words, *change)
        assert result.exit_code == 2 and "another seed" in result.stderr, result.output
    assert content(tmp_path / "photo") == before
    result = generate(tmp_path, "photo", *words, "--size", "32x16", "--seed", 1)
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "photo" / "gen1-00000.png") as picture:
        assert picture.size == (32, 16)


def test_captions_from_a_file_give_a_picture_each(generate: Generate, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("a {animal}\na bus\n")
    (tmp_path / "animals.txt").write_text("owl\n")
    words = ["--captions", tmp_path / "c.txt", "--list", f"animal={tmp_path / 'animals.txt'}"]
    assert generate(tmp_path / "d", "photo", *words).exit_code == 0
    captions = [p.read_text() for p in sorted((tmp_path / "d" / "photo").glob("*.txt"))]
    assert captions == ["a owl\n", "a bus\n"]


def test_the_captions_of_one_style_are_drawn_in_another(generate: Generate, tmp_path: Path) -> None:
    (tmp_path / "d" / "ink").mkdir(parents=True)
    for name, caption in (("b", "a bus,\n at night"), ("a", "an owl")):
        (tmp_path / "d" / "ink" / f"{name}.txt").write_text(caption)  # no line break at the end
    assert generate(tmp_path / "d", "photo", "--captions", tmp_path / "d" / "ink").exit_code == 0
    captions = [p.read_text() for p in sorted((tmp_path / "d" / "photo").glob("*.txt"))]
    assert captions == ["an owl\n", "a bus, at night\n"]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["photo"], "either --captions FILE or --template"),
        (["photo", "--template", "a", "--captions", "b"], "either --captions FILE or --template"),
        (["photo", "--template", "a {b}"], "--list b=FILE"),
        (["photo", "--template", "a", "--list", "b"], "name=FILE"),
        (["photo", "--template", "a", "--list", "b=none.txt"], "none.txt does not exist"),
        (["photo", "--captions", "none.txt"], "none.txt does not exist"),
        (["photo", "--template", "a", "--count", "0"], "--count 0"),
        (["photo", "--template", "a", "--size", "100"], "WIDTHxHEIGHT"),
        (["photo", "--template", "a", "--size", "48x50"], "multiples of 8"),
        (["../photo", "--template", "a"], "name of a folder"),
        ([".photo", "--template", "a"], "name of a folder"),
        (["photo", "--template", "a", "--preset", "demos"], "did you mean 'demo'"),
        (["photo", "--template", "a", "--set", "data.frames=5"], "for Wan alone"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(
    words: list[str], answer: str, tmp_path: Path
) -> None:
    result = byg("data", "generate", tmp_path / "new", *words, "--model", "world")
    assert result.exit_code == 2 and answer in result.stderr, result.output
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_the_tiny_world_draws_a_style_folder(tmp_path: Path) -> None:
    words = [
        "--template",
        "a 3d render of an apple on a blue ground",
        "--count",
        1,
        "--device",
        "cpu",
    ]
    result = byg("data", "generate", tmp_path, "3d", "--model", "world", *words)
    assert result.exit_code == 0, result.output
    assert f"data preview {tmp_path}" in result.output
    with Image.open(tmp_path / "3d" / "gen0-00000.png") as picture:
        red, _, blue = picture.convert("RGB").getpixel((2, 2))
        assert picture.size == (48, 48) and blue > red + 60  # the ground that was asked for
