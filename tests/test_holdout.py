"""Which pictures are held out: never the last one of a style."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from PIL import Image

from byg_train.config import DataConfig
from byg_train.data import DataError
from byg_train.data.items import Dataset, load_items


def style(root: Path, name: str, pictures: int, *, broken: bool = False) -> None:
    (root / name).mkdir(parents=True)
    for i in range(pictures):
        path = root / name / f"{i}.png"
        Image.new("RGB", (20, 20), (i, 0, len(name))).save(path)
        path.with_suffix(".txt").write_text(f"thing {i}")
        if broken:
            path.write_bytes(b"no picture")


def load(root: Path, holdout: int, on_bad_item: str = "stop") -> Dataset:
    config = DataConfig(path=root, holdout=holdout, on_bad_item=on_bad_item)
    return load_items(config, multiple=16)


@pytest.mark.parametrize("small", [1, 2])
@pytest.mark.parametrize("holdout", [1, 4, 100])
def test_every_style_keeps_a_picture_to_train_on(tmp_path: Path, small: int, holdout: int) -> None:
    """However the names hash: ten small styles beside a large one."""
    for i in range(10):
        style(tmp_path, f"style-{i}", small)
    style(tmp_path, "large", 5)
    data = load(tmp_path, holdout)
    assert {item.path.parent.name for item in data.train} == {
        "large", *(f"style-{i}" for i in range(10))
    }  # fmt: skip
    held_out = {item.path for item in data.test}
    assert not held_out & {item.path for item in data.train}
    most = min(4 + 10 * (small - 1), (5 + 10 * small) // 5)  # pictures that may go, ten items each
    assert len(held_out) == min(-(-holdout // 10), most)


def test_two_styles_of_one_picture_can_be_trained(tmp_path: Path) -> None:
    style(tmp_path, "ink", 1)
    style(tmp_path, "photo", 1)
    data = load(tmp_path, holdout=4)
    assert (len(data.train), data.test) == (2, [])


def test_a_style_that_lost_all_its_pictures_is_named(tmp_path: Path) -> None:
    style(tmp_path, "ink", 2)
    style(tmp_path, "photo", 3)
    style(tmp_path, "torn", 2, broken=True)
    with pytest.raises(DataError, match="no picture to train on in torn; put usable ones there"):
        load(tmp_path, holdout=1, on_bad_item="drop")


@pytest.mark.parametrize("pictures", [1, 2, 3, 6, 12, 50])
def test_training_keeps_most_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pictures: int
) -> None:
    """The issue's case: holdout 4 of 6 left 2 to train on."""
    style(tmp_path, "ink", pictures)
    style(tmp_path, "photo", pictures)
    with caplog.at_level(logging.WARNING, "byg_train"):
        data = load(tmp_path, holdout=4)
    held_out = len({item.path for item in data.test})
    assert held_out == (0 if pictures == 1 else min(4, max(1, 2 * pictures // 5)))
    told = "more than a fifth of" in caplog.text
    assert told == (1 < pictures < 10)
