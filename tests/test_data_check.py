"""The linter: what it finds, what it must leave alone, what it repairs; and what is struck."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from typer.testing import CliRunner, Result

from byg_train.cli import app
from byg_train.config import DataConfig
from byg_train.data import DataError
from byg_train.data.alike import copies, look
from byg_train.data.check import Report, check, estimated
from byg_train.data.items import load_items
from byg_train.data.kinds import PICTURES
from byg_train.data.repair import repair
from byg_train.data.rows import read_rows
from byg_train.data.struck import read_struck, write_struck
from byg_train.data.words import RULES, slips
from byg_train.world.demo import prepare

TEXTS = {
    "src_caption": "a red ball on grass",
    "tgt_caption": "a blue ball on grass",
    "instruction": "Paint the ball blue",
    "reverse_instruction": "Paint the ball red",
}


def byg(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def save(path: Path, seed: int = 0, size: int = 64) -> Path:
    """A picture of soft blobs: like a photograph, not like noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC).save(path)
    return path


def row(name: str, **fields: Any) -> dict[str, Any]:
    return {"file_name": name, **TEXTS, **fields}


def manifest(root: Path, *rows: dict[str, Any] | str) -> None:
    lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
    (root / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")


def report(root: Path, tokens: int = 256) -> Report:
    return check(root, *read_rows(root, None, PICTURES), estimated(tokens), 16, DataConfig())


def found(root: Path, tokens: int = 256) -> list[tuple[str, str, str]]:
    """(where, rule, level) of everything."""
    return [(f.where, f.rule, f.level) for f in report(root, tokens).findings]


# ---------------------------------------------------------------- words


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
    found = slips({**TEXTS, field: text})
    assert {(slip.field, slip.rule) for slip in found} == {(field, rule)}
    for slip in found:
        assert text[slip.at : slip.at + len(slip.words)] == slip.words


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
    assert slips({**TEXTS, field: text}) == []


def test_it_is_the_picture_where_the_whole_picture_changes() -> None:
    fields = {**TEXTS, "instruction": "Make it an oil painting"}
    assert slips(fields, "style") == slips(fields, "style_change") == []
    assert [slip.words for slip in slips(fields, "colour")] == ["it"]


FORBIDDEN = ("now", "no longer", "has been", "becomes", "turned into", "without", "not", "after")
harmless = st.lists(
    st.text("bcdfgjkqvwxz", min_size=2, max_size=8), min_size=1, max_size=6
).map(" ".join)  # fmt: skip


@given(harmless, st.sampled_from(FORBIDDEN), harmless, st.sampled_from('"“«'))
def test_quoting_or_gluing_a_word_hides_it_and_nothing_else_does(
    before: str, word: str, after: str, mark: str
) -> None:
    def number(caption: str) -> int:
        return len(slips({"tgt_caption": caption}))

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
    for slip in slips(fields):
        assert fields[slip.field][slip.at : slip.at + len(slip.words)] == slip.words
        assert slip.rule in {"unnamed object", *(rule.name for rule in RULES)}


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


def test_the_worlds_own_tuples_are_clean(tmp_path: Path) -> None:
    """With the tokenizer of the base that reads them."""
    prepare(tmp_path / "world", items=120)
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
    first = save(tmp_path / "first.png", 1, 200)
    picture = Image.open(first)
    variants = {
        "small.png": picture.resize((90, 90), Image.Resampling.LANCZOS),
        "jpeg.jpg": picture,
        "soft.png": picture.filter(ImageFilter.GaussianBlur(1)),
    }
    for name, variant in variants.items():
        variant.save(tmp_path / name, quality=60)
    save(tmp_path / "other.png", 2, 200)
    red, green, blue = picture.split()
    Image.merge("RGB", (blue, green, red)).save(tmp_path / "recoloured.png")
    looks = {path: look(path) for path in sorted(tmp_path.iterdir())}
    pairs = {(a.name, b.name) for a, b in copies(looks)}
    assert pairs == {(name, "first.png") for name in variants}


def test_many_unlike_pictures_have_no_copies(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{i}.png", i) for i in range(60)]
    paths += [tmp_path / f"flat{i}.png" for i in range(4)]
    for i, path in enumerate(paths[60:]):  # their hashes are all equal
        Image.new("RGB", (32, 32), (60 * i, 0, 0)).save(path)
    assert copies({path: look(path) for path in paths}) == []


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


def test_rare_edit_types_and_unused_pictures(tmp_path: Path) -> None:
    for i in range(12):
        save(tmp_path / f"{i}.png", i)
    kinds = ["add"] * 9 + ["remove"]
    manifest(tmp_path, *(row(f"{i}.png", edit_type=k) for i, k in enumerate(kinds)))
    (tmp_path / "struck.txt").write_text("10.png\n")
    told = {f.rule: f.found for f in report(tmp_path).findings}
    assert told == {
        "balance": "edit type 'remove' has 1 of 10 tuples",
        "unused": "1 pictures in no tuple, such as 11.png",
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
    assert (finding["field"], finding["at"], finding["length"]) == ("tgt_caption", 15, 3)
    table = byg("data", "check", tmp_path)
    assert table.exit_code == 1 and "metadata.jsonl:1" in table.output and "now" in table.output
    result = byg("data", "check", tmp_path / "nowhere")
    assert result.exit_code == 2 and "does not exist" in result.stderr


def test_the_same_said_of_many_is_one_row(tmp_path: Path) -> None:
    for i in range(30):
        save(tmp_path / f"{i}.png", i)
    manifest(tmp_path, *(row(f"{i}.png", instruction="Paint it blue") for i in range(30)))
    assert "and 29 more" in byg("data", "check", tmp_path).output


def test_struck_tuples_are_not_checked(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    manifest(tmp_path, row("a.png"), row("gone.png"), row("a.png", instruction="Paint it  gray"))
    write_struck(tmp_path, {("gone.png", None), ("a.png", "Paint it gray")})
    result = byg("data", "check", tmp_path, "--strict")
    assert result.exit_code == 0 and "2 struck" in result.output


# ---------------------------------------------------------------- repair


def test_repair_does_what_is_mechanical_and_keeps_the_rest(tmp_path: Path) -> None:
    save(tmp_path / "sub" / "a.png")
    broken, good = '{"file_name": "a.png",  ', json.dumps(row("sub/a.png", extra=[1]), indent=None)
    absolute = str((tmp_path / "sub" / "a.png").resolve())
    before = "\n".join(
        [
            good,
            broken,
            json.dumps(row("sub\\a.png", instruction="  Add a\n hat ", split="Validation")),
            json.dumps(row(absolute, instruction="Add a cafe\u0301", repeats="3")),
            json.dumps(row("./sub/a.png", edit_type=" Color ")),
            json.dumps(row("../a.png", instruction="Add a bus")),
        ]
    )
    (tmp_path / "metadata.jsonl").write_text(before, encoding="utf-8")
    result = byg("data", "check", tmp_path, "--fix")
    assert "removed: the same tuple again: 1" in result.stderr
    assert (tmp_path / "metadata.jsonl.bak").read_text(encoding="utf-8") == before
    lines = (tmp_path / "metadata.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == [good, broken]
    hat, cafe, bus = (json.loads(line) for line in lines[2:])
    assert (hat["file_name"], hat["instruction"], hat["split"]) == (
        "sub/a.png",
        "Add a hat",
        "test",
    )
    assert (cafe["file_name"], cafe["instruction"], cafe["repeats"]) == (
        "sub/a.png",
        "Add a caf\u00e9",
        3,
    )
    assert bus["file_name"] == "../a.png"  # where that leads is no matter of spelling


values = st.one_of(st.text(max_size=12), st.integers(), st.none(), st.just(" a  b "))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.dictionaries(
                st.sampled_from(["file_name", *TEXTS, "split", "repeats", "edit_type", "x"]), values
            ).map(json.dumps),
            st.text(string.printable, max_size=20).map(lambda s: s.replace("\n", " ")),
        )
    )
)
def test_repair_loses_no_line_and_is_done_after_once(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.mktemp("repair") / "metadata.jsonl"
    path.write_bytes("\n".join(lines).encode())
    done = repair(path)
    after = [line for line in path.read_bytes().decode().split("\n") if line.strip()]
    removed = done["removed: the same tuple again"]
    assert len(after) == len([line for line in lines if line.strip()]) - removed
    assert not repair(path)


@pytest.mark.parametrize("name", ["metadata.csv", None])
def test_repair_asks_for_a_manifest(tmp_path: Path, name: str | None) -> None:
    save(tmp_path / "x" / "a.png")
    if name:
        (tmp_path / name).write_text("file_name\n")
    result = byg("data", "check", tmp_path, "--fix")
    assert result.exit_code == 2 and "metadata.jsonl" in result.stderr


# ---------------------------------------------------------------- struck


names = st.text(string.ascii_letters + "#. é", min_size=1, max_size=9).filter(
    lambda name: name.strip(" .") == name
)
texts = st.text(string.ascii_letters + " '#é", min_size=1, max_size=20)


@given(st.sets(st.tuples(names, st.none() | texts.map(lambda t: " ".join(t.split())))))
def test_what_is_struck_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, entries: set[tuple[str, str | None]]
) -> None:
    root = tmp_path_factory.mktemp("struck")
    write_struck(root, entries)
    assert read_struck(root) == entries


def test_training_leaves_struck_tuples_out_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / name, len(name))
    (tmp_path / "broken.png").write_text("no picture")
    manifest(tmp_path, row("a.png"), row("./b.png"), row("b.png", instruction="Add  a hat"),
             row("broken.png"))  # fmt: skip
    (tmp_path / "struck.txt").write_text("# mine\nbroken.png\nb.png\tAdd a hat\nother.png\n\n")
    config = DataConfig(path=tmp_path, holdout=0)
    with caplog.at_level("INFO", "byg_train"):
        data = load_items(config, multiple=16)
    assert [(i.path.name, i.instruction) for i in data.train] == [
        ("a.png", TEXTS["instruction"]),
        ("b.png", TEXTS["instruction"]),
    ]
    assert data.struck == 2 and data.problems == []
    assert "2 of 4" in caplog.text and "struck.txt" in caplog.text
    write_struck(tmp_path, {(name, None) for name in ("a.png", "b.png", "broken.png")})
    with pytest.raises(DataError, match=r"no item to train on \(4 struck in struck.txt\)"):
        load_items(config, multiple=16)


def test_a_struck_picture_needs_no_caption(tmp_path: Path) -> None:
    for style in ("ink", "photo"):
        for i in range(2):
            save(tmp_path / style / f"{i}.png", i).with_suffix(".txt").write_text("a ball")
    (tmp_path / "ink" / "0.txt").unlink()
    config = DataConfig(path=tmp_path, holdout=0)
    with pytest.raises(DataError, match="no caption"):
        load_items(config, multiple=16)
    (tmp_path / "struck.txt").write_text("ink/0.png\n")
    assert len(load_items(config, multiple=16).train) == 4  # balanced: ink/1 stands in twice


@pytest.mark.parametrize("times", [1, 3])
def test_repeats_are_times_per_epoch(tmp_path: Path, times: int) -> None:
    save(tmp_path / "a.png")
    manifest(tmp_path, row("a.png", repeats=times))
    data = load_items(DataConfig(path=tmp_path, holdout=0), multiple=16)
    assert len(data.train) == times and len(set(data.train)) == 1
