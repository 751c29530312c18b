"""CSV as spreadsheets write it: texts stay texts, gaps are gaps, and a fault is told."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from data_sets import TEXTS, save

from byg_train.config import DataConfig
from byg_train.data import DataError
from byg_train.data.items import Dataset, load_items


def load(root: Path) -> Dataset:
    return load_items(DataConfig(path=root, holdout=0), multiple=16)


HEADER = ("file_name", *TEXTS, "repeats", "split")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_keeps_texts_and_numbers_as_they_stand(tmp_path: Path, delimiter: str) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / name)
    texts = ["2023", f"a cat{delimiter} on grass", "Paint\nit", "Undo"]
    lines = [HEADER, ["a.png", *texts, "2", ""], ["b.png", *texts, "", "train"], [""] * 7]
    with (tmp_path / "metadata.csv").open("w", encoding="utf-16", newline="") as file:
        file.write("sep=;\n" if delimiter == ";" else "")
        csv.writer(file, delimiter=delimiter).writerows(lines)
    items = load(tmp_path).train
    assert sorted((item.path.name, item.repeats) for item in items) == [
        ("a.png", 2), ("a.png", 2), ("b.png", 1),
    ]  # fmt: skip
    assert {item.texts for item in items} == {tuple(texts)}


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("a.png,a cat, on grass,x,y,z,,", "8 cells between commas; wanted 7"),
        ("a.png,a cat", "2 cells"),
        ('a.png,"a cat,x,y,z,,', "line 2: unexpected end of data"),
        ("a.png,a,b,c,d,many,", "repeats 'many'"),
        ("a.png,a,b,c,d,1.5,", "repeats 1.5"),
        ("", "has no rows"),
    ],
)
def test_what_is_wrong_with_a_csv_file_is_told(tmp_path: Path, lines: str, found: str) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text(",".join(HEADER) + "\n" + lines)
    with pytest.raises(DataError, match=found):
        load(tmp_path)


def test_columns_of_a_csv_file_are_named(tmp_path: Path) -> None:
    for header, found in (
        ("filename,text", "did you mean 'filename'"),
        ("file_name,a,a", "more than once"),
    ):
        (tmp_path / "metadata.csv").write_text(f"{header}\nx,y,z\n")
        with pytest.raises(DataError, match=found):
            load(tmp_path)
