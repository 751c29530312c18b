"""The linter: what it finds in a folder, and what it must leave alone."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from cli_runs import byg
from data_sets import manifest, row
from data_sets import save as save_any
from PIL import Image, ImageFilter

from byg_train.config import DataConfig
from byg_train.data import DataError
from byg_train.data.check import Limits, Report, check, estimated
from byg_train.data.excluded import write_excluded
from byg_train.data.findings import near_duplicates, signature
from byg_train.data.items import load_items
from byg_train.data.media_kind import PICTURES
from byg_train.data.rows import read_rows
from byg_train.world.demo import WHOLE

# As large as training wants them.
save = partial(save_any, size=512)


def report(root: Path, tokens: int = 256) -> Report:
    return check(
        root, *read_rows(root, None, PICTURES), Limits(estimated(tokens), 16, DataConfig())
    )


def found(root: Path, tokens: int = 256) -> list[tuple[str, str, str]]:
    """(where, rule, level) of everything."""
    return [(f.where, f.rule, f.level) for f in report(root, tokens).findings]


# ---------------------------------------------------------------- the same as training


BAD = [
    '{"file_name": "a.png", ',
    "[1, 2]",
    {"file_name": "a.png", "src_caption": "a", "tgt_caption": "b"},
    row("a.png", instruction="  "),
    row("a.png", instruction=3),
    row("a.png", instruction="other", tgt_caption="A red  BALL on grass"),
    row("a.png"),
    row("none.png"),
    row("../a.png"),
    row("cut.png"),
    row("thin.png"),
    row("a.png", instruction="third", split="validation"),
    row("a.png", instruction="fourth", repeats=0),
    row("a.png", instruction="fourth", repeats="2"),
]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_what_training_refuses_is_an_error(bad: dict | str, tmp_path: Path) -> None:
    whole = save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:-500])
    Image.new("RGB", (15, 60)).save(tmp_path / "thin.png")
    manifest(tmp_path, row("a.png"), bad)
    with pytest.raises(DataError) as refused:
        load_items(DataConfig(path=tmp_path), multiple=16)
    told = report(tmp_path).errors
    assert [(f.where, f.found) for f in told] == [
        (p.where.split(" (")[0], p.found) for p in refused.value.problems
    ]


def test_a_clean_set_is_clean(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / f"{i}.png", i)
    manifest(tmp_path, *(row(f"{i}.png", repeats=i + 1) for i in range(3)))
    assert found(tmp_path) == []
    result = byg("data", "check", tmp_path, "--strict")
    assert result.exit_code == 0 and "0 errors, 0 warnings" in result.output


@pytest.mark.slow
def test_the_worlds_own_tuples_are_clean(tmp_path: Path) -> None:
    """With the tokenizer of the base that reads them."""
    WHOLE["demo"].prepare(tmp_path / "world", items=120)
    result = byg("data", "check", tmp_path / "world", "--preset", "demo", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["text_limit"] == {"tokens": 24, "estimated": False}
    # A picture may be drawn twice, and rare kinds are rare on purpose.
    assert {f["rule"] for f in told["findings"]} <= {"duplicate", "balance"}
    assert set(told["edit_types"]) == {"background", "style", "colour", "add", "remove", "replace"}


# ---------------------------------------------------------------- length


def test_long_texts_are_told_and_captions_that_differ_too_late(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    long = " ".join(["word"] * 40)
    texts = {"src_caption": f"{long}, photo style", "tgt_caption": f"{long}, ink style"}
    manifest(tmp_path, row("a.png", **texts))
    where = "metadata.jsonl:1"
    assert found(tmp_path, 20) == [
        (where, "too long", "warning"),
        (where, "too long", "warning"),
        (where, "equal captions", "error"),
    ]
    # 40 words, a comma, the style in two or one pieces, `style` in two, and the end.
    assert found(tmp_path, 45) == [(where, "too long", "warning")]
    assert found(tmp_path, 46) == []
    assert report(tmp_path, 45).findings[0].found.startswith("46 tokens (estimated)")


def test_a_base_counts_with_its_own_tokenizer(tmp_path: Path, tiny_base: Path) -> None:
    save(tmp_path / "a.png")
    from transformers import T5TokenizerFast

    text = " ".join(["a hippopotamus: its photograph!"] * 60)
    manifest(tmp_path, row("a.png", src_caption=text))
    result = byg("data", "check", tmp_path, "--model", tiny_base, "--json")
    (finding,) = json.loads(result.stdout)["findings"]
    number = len(T5TokenizerFast.from_pretrained(tiny_base / "tokenizer_2")(text).input_ids)
    assert number != len(estimated(256).split(text)) and number > 256
    assert finding["found"] == f"{number} tokens; the end is cut off"
    assert json.loads(result.stdout)["text_limit"] == {"tokens": 256, "estimated": False}


# ---------------------------------------------------------------- pictures


def test_copies_are_found_and_recoloured_pictures_are_not(tmp_path: Path) -> None:
    first = save_any(tmp_path / "first.png", 1, 200)
    picture = Image.open(first)
    variants = {
        "small.png": picture.resize((90, 90), Image.Resampling.LANCZOS),
        "jpeg.jpg": picture,
        "soft.png": picture.filter(ImageFilter.GaussianBlur(1)),
    }
    for name, variant in variants.items():
        variant.save(tmp_path / name, quality=60)
    save_any(tmp_path / "other.png", 2, 200)
    red, green, blue = picture.split()
    Image.merge("RGB", (blue, green, red)).save(tmp_path / "recoloured.png")
    signatures = {path: signature(path) for path in sorted(tmp_path.iterdir())}
    pairs = {(a.name, b.name) for a, b in near_duplicates(signatures)}
    assert pairs == {(name, "first.png") for name in variants}


def test_many_unlike_pictures_have_no_copies(tmp_path: Path) -> None:
    paths = [save_any(tmp_path / f"{i}.png", i) for i in range(60)]
    paths += [tmp_path / f"flat{i}.png" for i in range(4)]
    for i, path in enumerate(paths[60:]):  # their hashes are all equal
        Image.new("RGB", (32, 32), (60 * i, 0, 0)).save(path)
    assert near_duplicates({path: signature(path) for path in paths}) == []


def test_duplicates_are_told_with_their_first_and_their_split(tmp_path: Path) -> None:
    data = save(tmp_path / "a.png", 1).read_bytes()
    (tmp_path / "b.png").write_bytes(data)
    Image.open(tmp_path / "a.png").save(tmp_path / "c.jpg")
    manifest(tmp_path, row("a.png"), row("b.png"), row("c.jpg", split="test"))
    findings = report(tmp_path).findings
    assert [(f.where[-1], f.rule, f.other) for f in findings] == [
        ("2", "duplicate", "a.png"),
        ("3", "duplicate", "a.png"),
    ]
    assert findings[0].found == "same file as a.png"
    assert findings[1].found == "looks like a.png, which is in the other split"


@pytest.mark.slow
def test_rare_edit_types_and_unused_pictures(tmp_path: Path) -> None:
    for i in range(12):
        save(tmp_path / f"{i}.png", i)
    kinds = ["add"] * 9 + ["remove"]
    manifest(tmp_path, *(row(f"{i}.png", edit_type=k) for i, k in enumerate(kinds)))
    (tmp_path / "excluded.txt").write_text("10.png\n")
    told = {f.rule: f.found for f in report(tmp_path).findings}
    assert told == {
        "balance": "edit type 'remove' has 1 of 10 tuples",
        "unused": "1 picture in no tuple, such as 11.png",
    }


# ---------------------------------------------------------------- the command


def test_exit_codes_and_json(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    manifest(tmp_path, row("a.png", instruction="Paint it blue"))
    assert byg("data", "check", tmp_path).exit_code == 0
    assert byg("data", "check", tmp_path, "--strict").exit_code == 1
    manifest(tmp_path, row("a.png", tgt_caption="a ball that is now [bold]blue"))
    result = byg("data", "check", tmp_path, "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert (told["tuples"], told["errors"], told["warnings"]) == (1, 1, 0)
    (finding,) = told["findings"]
    assert (finding["field"], finding["start"], finding["length"]) == ("tgt_caption", 15, 3)
    table = byg("data", "check", tmp_path)
    assert table.exit_code == 1 and "metadata.jsonl:1" in table.output and "now" in table.output
    result = byg("data", "check", tmp_path / "nowhere")
    assert result.exit_code == 2 and "does not exist" in result.stderr


@pytest.mark.slow
def test_the_same_said_of_many_is_one_row(tmp_path: Path) -> None:
    for i in range(30):
        save(tmp_path / f"{i}.png", i)
    manifest(tmp_path, *(row(f"{i}.png", instruction="Paint it blue") for i in range(30)))
    assert "and 29 more" in byg("data", "check", tmp_path).output


def test_excluded_tuples_are_not_checked(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    manifest(tmp_path, row("a.png"), row("gone.png"), row("a.png", instruction="Paint it  gray"))
    write_excluded(tmp_path, {("gone.png", None), ("a.png", "Paint it gray")})
    result = byg("data", "check", tmp_path, "--strict")
    assert result.exit_code == 0 and "2 excluded" in result.output
