"""excluded.txt is read as it was written, and training leaves out what it names."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from data_sets import TEXTS, manifest, row, save
from hypothesis import given
from hypothesis import strategies as st

from byg_train.config import DataConfig
from byg_train.data import DataError
from byg_train.data.excluded import read_excluded, write_excluded
from byg_train.data.items import load_items

names = st.text(string.ascii_letters + "#. é", min_size=1, max_size=9).filter(
    lambda name: name.strip(" .") == name
)
texts = st.text(string.ascii_letters + " '#é", min_size=1, max_size=20)


@pytest.mark.slow
@given(st.sets(st.tuples(names, st.none() | texts.map(lambda t: " ".join(t.split())))))
def test_what_is_excluded_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, entries: set[tuple[str, str | None]]
) -> None:
    root = tmp_path_factory.mktemp("excluded")
    write_excluded(root, entries)
    assert read_excluded(root) == entries


def test_training_leaves_excluded_tuples_out_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / name, len(name))
    (tmp_path / "broken.png").write_text("no picture")
    manifest(tmp_path, row("a.png"), row("./b.png"), row("b.png", instruction="Add  a hat"),
             row("broken.png"))  # fmt: skip
    (tmp_path / "excluded.txt").write_text("# mine\nbroken.png\nb.png\tAdd a hat\nother.png\n\n")
    config = DataConfig(path=tmp_path, holdout=0)
    with caplog.at_level("INFO", "byg_train"):
        data = load_items(config, multiple=16)
    assert [(i.path.name, i.instruction) for i in data.train] == [
        ("a.png", TEXTS["instruction"]),
        ("b.png", TEXTS["instruction"]),
    ]
    assert data.excluded == 2 and data.problems == []
    assert "2 of 4" in caplog.text and "excluded.txt" in caplog.text
    write_excluded(tmp_path, {(name, None) for name in ("a.png", "b.png", "broken.png")})
    with pytest.raises(DataError, match=r"no item to train on \(4 excluded by excluded.txt\)"):
        load_items(config, multiple=16)


def test_an_excluded_picture_needs_no_caption(tmp_path: Path) -> None:
    for style in ("ink", "photo"):
        for i in range(2):
            save(tmp_path / style / f"{i}.png", i).with_suffix(".txt").write_text("a ball")
    (tmp_path / "ink" / "0.txt").unlink()
    config = DataConfig(path=tmp_path, holdout=0)
    with pytest.raises(DataError, match="no caption"):
        load_items(config, multiple=16)
    (tmp_path / "excluded.txt").write_text("ink/0.png\n")
    assert len(load_items(config, multiple=16).train) == 4  # balanced: ink/1 stands in twice


@pytest.mark.parametrize("times", [1, 3])
def test_repeats_are_times_per_epoch(tmp_path: Path, times: int) -> None:
    save(tmp_path / "a.png")
    manifest(tmp_path, row("a.png", repeats=times))
    data = load_items(DataConfig(path=tmp_path, holdout=0), multiple=16)
    assert len(data.train) == times and len(set(data.train)) == 1


def test_decisions_under_the_former_name_still_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "struck.txt").write_text("a.png\nb.png\tAdd a hat\n")
    entries = {("a.png", None), ("b.png", "Add a hat")}
    assert read_excluded(tmp_path) == entries
    assert "struck.txt" in caplog.text and "excluded.txt" in caplog.text
    write_excluded(tmp_path, {("c.png", None)})  # the new one is whole: it goes first
    assert read_excluded(tmp_path) == {("c.png", None)}
