"""The cache: exact, keyed by content, whole under kills, truncation, full disks and two writers."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing as mp
import os
import time
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from byg_train.config import DataConfig
from byg_train.data import DataError, cache
from byg_train.data.cache import AT_ONCE, STALE, Cache
from byg_train.data.items import Item
from byg_train.data.media_kind import PICTURES
from byg_train.data.segments import inspect_file
from byg_train.media.fit import cover

CONFIG = DataConfig(resolution=32)


class Toy:
    """Latents are 8 x 8 means in half precision; embeddings come from the text's hash."""

    experts = nn.ModuleDict()
    multiple = 8

    def __init__(self, fingerprint: str = "toy", pause: float = 0) -> None:
        self.fingerprint, self.pause = fingerprint, pause
        self.pictures: list[int] = []  # batch sizes, call by call
        self.texts: list[int] = []

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        time.sleep(self.pause)
        self.pictures.append(len(pixels))
        return F.avg_pool3d(pixels, (1, 8, 8)).bfloat16()

    def encode_text(self, texts: list[str]) -> dict[str, Tensor]:
        self.texts.append(len(texts))
        codes = [list(hashlib.sha256(text.encode()).digest()) for text in texts]
        rows = torch.tensor(codes, dtype=torch.float32) / 255
        return {"tokens": rows.view(-1, 8, 4).bfloat16(), "pooled": rows[:, :5]}


def make_items(folder: Path, number: int) -> list[Item]:
    """Pictures of two shapes; instructions are shared, captions are not."""
    folder.mkdir(exist_ok=True)
    items = []
    for i in range(number):
        size = (40, 40) if i % 3 else (60, 30)
        pixels = np.random.default_rng(i).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
        path = folder / f"{i}.png"
        Image.fromarray(pixels).save(path)
        facts = inspect_file(path, PICTURES, None)
        captions = {"src_caption": f"source {i}", "tgt_caption": f"target {i}"}
        asks = {"instruction": "edit", "reverse_instruction": "undo"}
        size = {"width": facts.width, "height": facts.height, "digest": facts.digest}
        items.append(Item(path=path, **captions, **asks, **size))
    return items


def prepared(folder: Path, items: list[Item], backbone: Toy | None = None) -> Cache:
    store = Cache(folder, backbone or Toy(), CONFIG)
    store.prepare(items, [""], lambda done: None)
    return store


def entries(folder: Path, pattern: str = "*.safetensors") -> list[Path]:
    return sorted(folder.glob(f"*/*/{pattern}"))


def expect_exact(store: Cache, items: list[Item]) -> None:
    """Every entry equals what encoding gives, bit for bit and in its type."""
    for item in items:
        size = store.bucket(item)
        with Image.open(item.path) as picture:
            levels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None, :, None]
        pixels = cover(levels.float() / 127.5 - 1, *size)
        z = store.latents(item)
        assert z.dtype == torch.float32
        assert torch.equal(z, Toy().encode_pixels(pixels)[0].float())
        for text in (*item.texts, ""):
            found, wanted = store.text(text), Toy().encode_text([text])
            assert found.keys() == wanted.keys()
            for name, row in found.items():
                assert row.dtype == wanted[name].dtype
                assert torch.equal(row, wanted[name][0])


def test_what_comes_back_is_exact(tmp_path: Path) -> None:
    items = make_items(tmp_path / "data", 5)
    backbone = Toy()
    expect_exact(prepared(tmp_path / "cache", items, backbone), items)
    expect_exact(prepared(tmp_path / "cache", items, backbone), items)
    assert sum(backbone.pictures) == 5  # nothing is encoded twice
    assert sum(backbone.texts) == 5 * 2 + 2 + 1


def test_progress_counts_every_item_and_encoding_goes_in_batches(tmp_path: Path) -> None:
    items = make_items(tmp_path / "data", 40) * 2
    done: list[int] = []
    backbone = Toy()
    Cache(tmp_path / "cache", backbone, CONFIG).prepare(items, [], done.append)
    assert sum(done) == 80 and len(done) > 3
    assert sum(backbone.pictures) == 40 and sum(backbone.texts) == 82
    assert 40 / 80 < len(backbone.pictures) < 40 / 3
    assert len(backbone.texts) < 82 / 3
    assert max(backbone.pictures + backbone.texts) <= AT_ONCE


def test_large_pictures_are_encoded_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "PIXELS_AT_ONCE", 1000)  # below one picture of 32 x 32
    backbone = Toy()
    prepared(tmp_path / "cache", make_items(tmp_path / "data", 4), backbone)
    assert backbone.pictures == [1] * 4


def test_entries_belong_to_content_bucket_and_model(tmp_path: Path) -> None:
    (item,) = make_items(tmp_path / "data", 1)
    folder = tmp_path / "cache"
    store = prepared(folder, [item])
    number = len(entries(folder))
    copy = tmp_path / "other name.png"
    copy.write_bytes(item.path.read_bytes())
    assert torch.equal(store.latents(replace(item, path=copy)), store.latents(item))
    with pytest.raises(DataError, match="lacks"):
        store.latents(replace(item, digest="another"))
    with pytest.raises(DataError, match="lacks 'unseen'"):
        store.text("unseen")
    smaller = Cache(folder, Toy(), DataConfig(resolution=16))
    with pytest.raises(DataError, match="lacks"):
        smaller.latents(item)
    smaller.prepare([item], [""], lambda done: None)
    assert len(entries(folder)) == number + 1  # the texts are shared, the latents are not
    assert smaller.latents(item).shape < store.latents(item).shape
    prepared(folder, [item], Toy("another model"))
    assert len(entries(folder)) == 2 * number + 1


def test_buckets_can_be_switched_off(tmp_path: Path) -> None:
    wide = make_items(tmp_path / "data", 1)[0]
    assert prepared(tmp_path / "cache", [wide]).bucket(wide) != (32, 32)
    square = Cache(tmp_path / "cache", Toy(), DataConfig(resolution=32, buckets=False))
    assert square.bucket(wide) == (32, 32)


@pytest.mark.parametrize("left", [0, 20, -1])
def test_a_truncated_entry_is_made_anew(tmp_path: Path, left: int) -> None:
    items, folder = make_items(tmp_path / "data", 3), tmp_path / "cache"
    backbone = Toy()
    store = prepared(folder, items, backbone)
    (damaged,) = [p for p in entries(folder) if _holds(p, store.latents(items[1]))]
    damaged.write_bytes(damaged.read_bytes()[:left])
    backbone.pictures.clear()
    expect_exact(prepared(folder, items, backbone), items)
    assert backbone.pictures == [1]


def _holds(path: Path, latents: Tensor) -> bool:
    found = load_file(path).get("latents")
    return found is not None and torch.equal(found, latents)


def test_a_damaged_entry_met_in_training_is_removed_and_told(tmp_path: Path) -> None:
    items, folder = make_items(tmp_path / "data", 1), tmp_path / "cache"
    prepared(folder, items)
    for path in entries(folder):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"0\.png was damaged .* resume"):
        Cache(folder, Toy(), CONFIG).latents(items[0])
    expect_exact(prepared(folder, items), items)


def test_reading_again_needs_no_disk_within_the_memory_it_may_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, folder = make_items(tmp_path / "data", 2), tmp_path / "cache"
    size = prepared(folder, items).latents(items[1]).nbytes
    monkeypatch.setattr(cache, "KEPT", size)
    store = Cache(folder, Toy(), CONFIG)
    kept = store.latents(items[1])
    store.text("")
    for path in entries(folder):
        path.unlink()
    assert torch.equal(store.latents(items[1]), kept)
    with pytest.raises(DataError, match="lacks"):
        store.text("")


def test_a_full_disk_is_told_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, folder = make_items(tmp_path / "data", 2), tmp_path / "cache"
    prepared(folder, items[:1])
    before = entries(folder, "*")
    write = Path.write_bytes

    def half(path: Path, data: bytes) -> NoReturn:
        write(path, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half)
        with pytest.raises(DataError, match=r"No space left .* data\.cache"):
            prepared(folder, items)
    assert entries(folder, "*") == before
    expect_exact(prepared(folder, items), items)


def test_a_picture_that_went_away_is_told(tmp_path: Path) -> None:
    items = make_items(tmp_path / "data", 1)
    items[0].path.unlink()
    with pytest.raises(DataError, match=r"0\.png.*start again"):
        prepared(tmp_path / "cache", items)


# ---------------------------------------------------------------- processes

# Spawned: the processes share nothing but the folder.
spawn = mp.get_context("spawn")


def fill(folder: Path, items: list[Item], go: Event) -> None:
    """A run that fills the cache; its status says whether all came back exact."""
    go.wait(60)
    expect_exact(prepared(folder, items, Toy(pause=0.01)), items)


@pytest.mark.slow
def test_two_processes_fill_one_cache_while_a_third_reads(tmp_path: Path) -> None:
    items, folder = make_items(tmp_path / "data", 24), tmp_path / "cache"
    go = spawn.Event()
    runs = [spawn.Process(target=fill, args=(folder, items, go)) for _ in range(2)]
    for run in runs:
        run.start()
    go.set()
    while any(run.is_alive() for run in runs):
        for path in entries(folder):
            load_file(path)  # whole whenever it is there
        time.sleep(0.01)
    assert [run.exitcode for run in runs] == [0, 0]
    assert not entries(folder, "*.tmp")
    assert len(entries(folder)) == 24 * 3 + 3
    idle = Toy()
    expect_exact(prepared(folder, items, idle), items)
    assert idle.pictures == idle.texts == []


def hang_before_renaming(folder: Path, items: list[Item], written: Event) -> None:
    """A run that stops for ever when its first picture's file is written, before its rename."""
    rename = Path.replace

    def hang(path: Path, target: Path) -> Path:
        if "latents" in load_file(path):
            written.set()
            time.sleep(600)
        return rename(path, target)

    Path.replace = hang
    prepared(folder, items)


@pytest.mark.slow
def test_a_killed_process_leaves_a_file_that_nobody_reads(tmp_path: Path) -> None:
    items, folder = make_items(tmp_path / "data", 3), tmp_path / "cache"
    written = spawn.Event()
    run = spawn.Process(target=hang_before_renaming, args=(folder, items, written))
    run.start()
    assert written.wait(60)
    run.kill()
    run.join()
    (left,) = entries(folder, "*.tmp")
    left.write_bytes(left.read_bytes()[:-3])
    store = prepared(folder, items)
    expect_exact(store, items)
    assert left.exists()  # for all that can be known its writer lives
    old = time.time() - STALE - 10
    os.utime(left, (old, old))
    expect_exact(prepared(folder, items), items)
    assert not entries(folder, "*.tmp")
