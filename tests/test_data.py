"""Manifests: what is accepted, how every problem is told with its place, splits."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from byg_train.config import DataConfig
from byg_train.data import SHOWN, DataError, Problem
from byg_train.data.items import Dataset, load_items, split

TEXTS = {
    "src_caption": "a red ball",
    "tgt_caption": "a blue ball",
    "instruction": "make the ball blue",
    "reverse_instruction": "make the ball red",
}


def save(path: Path, size: tuple[int, int] = (20, 24), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def row(name: str, **fields: Any) -> dict[str, Any]:
    return {"file_name": name, **TEXTS, **fields}


def manifest(root: Path, rows: list[dict[str, Any] | str]) -> None:
    lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
    (root / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")


def load(root: Path | None, on_bad_item: str = "stop", holdout: int = 0) -> Dataset:
    return load_items(DataConfig(path=root, on_bad_item=on_bad_item, holdout=holdout), multiple=16)


def problems(root: Path) -> dict[str, str]:
    """where -> what was found, of a folder with mistakes."""
    with pytest.raises(DataError) as error:
        load(root)
    assert all(str(p) in str(error.value) for p in error.value.problems[:SHOWN])
    assert len({p.where for p in error.value.problems}) == len(error.value.problems)
    return {p.where: p.found for p in error.value.problems}


# ---------------------------------------------------------------- reading


def test_a_manifest_becomes_items(tmp_path: Path) -> None:
    save(tmp_path / "sub" / "a.png", (20, 24))
    save(tmp_path / "b.JPG", (40, 18))
    rows = [
        row("sub/a.png", edit_type="colour", text="an extra column"),
        "",
        row("b.JPG", instruction="  make it blue ", split="test"),
        row(str((tmp_path / "b.JPG").resolve())),
    ]
    manifest(tmp_path, rows)
    data = load(tmp_path)
    first, again = data.train
    (test,) = data.test
    assert first.path == tmp_path / "sub" / "a.png"
    assert first.texts == tuple(TEXTS.values())
    assert (first.edit_type, first.width, first.height) == ("colour", 20, 24)
    assert first.digest == hashlib.sha256(first.path.read_bytes()).hexdigest()
    assert (test.instruction, test.split) == ("make it blue", "test")
    assert again.path == test.path and (again.width, again.height) == (40, 18)
    assert data.problems == []


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    line = json.dumps(row("a.png")).encode("utf-8-sig")
    (tmp_path / "metadata.jsonl").write_bytes(line + b"\r\n")
    assert len(load(tmp_path).train) == 1


def test_every_problem_is_told_with_its_place(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.png", (200, 200))
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:-2000])
    (tmp_path / "text.png").write_text("no picture")
    save(tmp_path / "thin.png", (15, 60))
    (tmp_path / "clip.mp4").write_bytes(b"")
    rows = [
        row("a.png"),
        '{"file_name": "a.png", ',
        "[1, 2]",
        {"file_name": "a.png", "src_caption": "a", "tgt_caption": "b"},
        row("a.png", instruction="  ", reverse_instruction=""),
        row("a.png", instruction=3),
        row("a.png", instruction="other", tgt_caption="A red  BALL"),
        row("a.png"),
        row("none.png"),
        row("../a.png"),
        row("/etc/a.png"),
        row("..\\a.png"),
        row("clip.mp4"),
        row("cut.png"),
        row("cut.png", instruction="another"),
        row("text.png"),
        row("thin.png"),
        row("a.png", instruction="third", split="validation"),
    ]
    manifest(tmp_path, rows)
    found = problems(tmp_path)
    at = "metadata.jsonl:"
    assert found.pop(f"{at}2").startswith("a broken line (Expecting property name")
    assert found.pop(f"{at}14 (cut.png)").startswith("a broken picture (image file is truncated")
    assert found == {
        f"{at}3": "'[1, 2]'",
        f"{at}4": "no instruction, reverse_instruction",
        f"{at}5": "empty instruction, reverse_instruction",
        f"{at}6": "instruction is 3",
        f"{at}7": "equal captions 'a red ball'",
        f"{at}8": f"file and instruction of {at}1 again",
        f"{at}9": "no file none.png",
        f"{at}10": "file_name '../a.png' leads out of the data folder",
        f"{at}11": "file_name '/etc/a.png' leads out of the data folder",
        f"{at}12": "file_name '..\\\\a.png' leads out of the data folder",
        f"{at}13": "file type '.mp4' of clip.mp4",
        f"{at}16 (text.png)": "a broken picture (not a picture)",
        f"{at}17 (thin.png)": "15 x 60 pixels",
        f"{at}18": "split 'validation'",
    }


def test_dropping_keeps_the_good_items_and_the_list(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    manifest(tmp_path, [row("a.png"), row("b.png"), "{"])
    data = load(tmp_path, "drop")
    assert [item.path.name for item in data.train] == ["a.png"]
    assert sorted(p.where for p in data.problems) == ["metadata.jsonl:2", "metadata.jsonl:3"]
    manifest(tmp_path, [row("b.png")])
    with pytest.raises(DataError, match=r"no item to train on\n.*metadata.jsonl:1: no file b.png"):
        load(tmp_path, "drop")


def test_a_long_list_is_cut_but_counted(tmp_path: Path) -> None:
    manifest(tmp_path, [row(f"{i}.png") for i in range(SHOWN + 7)])
    with pytest.raises(DataError, match=f"{SHOWN + 7} problems in") as error:
        load(tmp_path)
    text = str(error.value)
    assert f"{SHOWN - 1}.png" in text and f" {SHOWN}.png" not in text
    assert text.endswith("... and 7 more")
    assert len(error.value.problems) == SHOWN + 7


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data.path"):
        load(None)
    with pytest.raises(DataError, match="nowhere does not exist"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="a.png is a file"):
        load(save(tmp_path / "a.png"))


def test_both_layouts_are_explained_when_neither_is_there(tmp_path: Path) -> None:
    for folder, found in ((tmp_path / "empty", "it is empty"), (tmp_path / "loose", "2 pictures")):
        folder.mkdir()
        if found != "it is empty":
            save(folder / "a.png"), save(folder / "b.png")
        with pytest.raises(DataError, match=found) as error:
            load(folder)
        for word in ("metadata.jsonl", "reverse_instruction", "3d-cartoon/", "cat.txt"):
            assert word in str(error.value)


def test_a_manifest_must_be_one_and_hold_something(tmp_path: Path) -> None:
    manifest(tmp_path, [""])
    with pytest.raises(DataError, match="metadata.jsonl is empty"):
        load(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name\n")
    with pytest.raises(DataError, match="metadata.jsonl and metadata.csv"):
        load(tmp_path)


def test_parquet_is_read_by_pyarrow_or_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    save(tmp_path / "a.png")
    rows = [row("a.png", split=None, repeats=2.0), row("a.png", instruction=None, repeats=math.nan)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "metadata.parquet")
    with monkeypatch.context() as patch, pytest.raises(DataError, match="pip install pyarrow"):
        patch.setitem(sys.modules, "pyarrow", None)
        load(tmp_path)
    data = load(tmp_path, "drop")
    assert [item.texts for item in data.train] == [tuple(TEXTS.values())] * 2
    assert [(p.where, p.rule) for p in data.problems] == [
        ("metadata.parquet, row 2", "missing field")
    ]
    (tmp_path / "metadata.parquet").write_text("")
    with pytest.raises(DataError, match="metadata.parquet cannot be read: "):
        load(tmp_path)


# ---------------------------------------------------------------- splits and fingerprint


def several(root: Path, number: int) -> None:
    """`number` pictures with two instructions each."""
    for i in range(number):
        save(root / f"{i}.png", seed=i)
    rows = [row(f"{i}.png", instruction=text) for text in ("one", "two") for i in range(number)]
    manifest(root, rows)


def test_whole_pictures_are_held_out_by_name(tmp_path: Path) -> None:
    several(tmp_path, 12)
    data = load(tmp_path, holdout=3)
    held_out = {item.path for item in data.test}
    assert len(data.test) == 4
    order = sorted(range(12), key=lambda i: hashlib.sha256(f"{i}.png".encode()).digest())
    assert {path.name for path in held_out} == {f"{i}.png" for i in order[-2:]}
    assert not held_out & {item.path for item in data.train}
    assert {item.split for item in data.test} == {"test"}
    # Neither other contents nor the order nor another picture change what is held out.
    for i in range(12):
        save(tmp_path / f"{i}.png", seed=99)
    (tmp_path / "metadata.jsonl").write_text(
        "\n".join(reversed((tmp_path / "metadata.jsonl").read_text().splitlines()))
    )
    assert {item.path for item in load(tmp_path, holdout=3).test} == held_out
    (tmp_path / next(iter(held_out)).name).unlink()
    fewer = {item.path for item in load(tmp_path, "drop", holdout=3).test}
    assert len(fewer & held_out) == 1


def test_training_is_never_left_empty(tmp_path: Path) -> None:
    several(tmp_path, 3)
    data = load(tmp_path, holdout=100)
    assert len(data.train) == 4 and len(data.test) == 2
    manifest(tmp_path, [row("0.png", split="test")])
    with pytest.raises(DataError, match="no item to train on"):
        load(tmp_path)


def test_a_marked_split_is_kept(tmp_path: Path) -> None:
    several(tmp_path, 3)
    items = [replace(item, split="train") for item in load(tmp_path).train]
    items[1] = replace(items[1], split="test")
    train, test = split(items, 5, tmp_path)
    assert test == [items[1]] and train == [items[0], *items[2:]]


def test_the_fingerprint_follows_texts_pictures_and_splits_only(tmp_path: Path) -> None:
    several(tmp_path, 2)
    before = load(tmp_path).fingerprint
    other = tmp_path / "moved"
    several(other, 2)
    assert load(other).fingerprint == before
    assert load(tmp_path, holdout=1).fingerprint != before
    save(tmp_path / "0.png", seed=5)
    changed = load(tmp_path).fingerprint
    assert changed != before
    text = (tmp_path / "metadata.jsonl").read_text()
    (tmp_path / "metadata.jsonl").write_text(text.replace("one", "uno"))
    assert load(tmp_path).fingerprint not in (before, changed)


def test_a_problem_reads_as_a_sentence() -> None:
    text = str(Problem("metadata.jsonl:3", "no instruction", "all five texts"))
    assert text == "metadata.jsonl:3: no instruction; wanted all five texts"
