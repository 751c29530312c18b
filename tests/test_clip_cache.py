"""Clips as latents: a segment is encoded once, as training sees it, and few are held at once."""

from __future__ import annotations

from pathlib import Path
from time import sleep as wait

import pytest
import tiny_wan
import torch
from clip_files import clip, told

from byg_train.config import DataConfig
from byg_train.data import cache as cache_module
from byg_train.data.batches import Batches
from byg_train.data.cache import Cache
from byg_train.data.items import Dataset, load_items
from byg_train.data.segments import read_segment

STYLES = ("cartoon", "photo-realistic")


def settings(root: Path, **changes: object) -> DataConfig:
    plain = {"frames": 5, "fps": 8, "resolution": 45, "holdout": 0}
    return DataConfig(path=root, **{**plain, **changes})


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("pair", {(2, 4, 2, 4, 8), (2, 4, 2, 8, 4)}), ("one", {(2, 4, 2, 2, 2)})],
)
def test_a_folder_of_clips_becomes_batches_of_latents(
    tmp_path: Path, kind: str, expected: set[tuple[int, ...]]
) -> None:
    """32 x 64 pixels, upright and lying; with multiples of 32, 32 x 32."""
    backbone = tiny_wan.load(tiny_wan.base(kind))
    for style in STYLES:
        told(clip(tmp_path / style / "wide.mp4", 24, size=(128, 64)))
        told(clip(tmp_path / style / "tall.mp4", 24, size=(64, 128)))
    config = settings(tmp_path, extraction="chunk")
    data = load_items(config, backbone.multiple)
    cache = Cache(tmp_path / ".cache", backbone, config)
    done: list[int] = []
    cache.prepare([*data.train, *data.test], [""], done.append)
    assert sum(done) == len(data.train) == 4
    batches = Batches(data.train, cache, batch_size=2, seed=0)
    assert {tuple(batches[k].x.shape) for k in range(batches.per_epoch)} == expected

    item = data.train[0]
    size = cache.bucket(item)
    pixels = read_segment(item.path, item.digest, item.segment, size)
    expected = backbone.encode_pixels(pixels.float() / 127.5 - 1)[0]
    assert torch.equal(cache.latents(item), expected)


def test_entries_belong_to_segments_and_are_made_once(tmp_path: Path) -> None:
    backbone = tiny_wan.load(tiny_wan.base())
    encoded: list[int] = []
    encode = backbone.encode_pixels
    backbone.encode_pixels = lambda pixels: encoded.append(len(pixels)) or encode(pixels)

    def prepared(**changes: object) -> tuple[Cache, Dataset]:
        config = settings(tmp_path / "data", **changes)
        data = load_items(config, 16)
        cache = Cache(tmp_path / "cache", backbone, config)
        cache.prepare(data.train, [], lambda done: None)
        return cache, data

    for style in STYLES:
        told(clip(tmp_path / "data" / style / "a.mp4", 48))
    cache, head = prepared()
    first = cache.latents(head.train[0])
    assert sum(encoded) == 1, "both clips are the same file"
    prepared()
    assert sum(encoded) == 1
    cache, chunks = prepared(extraction="chunk")
    assert sum(encoded) == 1 + 2, "of three chunks the first is known"
    same = [c for c in chunks.train if c.segment.start == 0]
    assert torch.equal(cache.latents(same[0]), first)
    assert not torch.equal(cache.latents(chunks.train[1]), first)
    prepared(fps=4)
    assert sum(encoded) == 3 + 1


def test_a_stopped_preparation_goes_on_where_it_was(tmp_path: Path) -> None:
    backbone = tiny_wan.load(tiny_wan.base())
    encode, number = backbone.encode_pixels, []

    def stopped(pixels: torch.Tensor) -> torch.Tensor:
        number.append(len(pixels))
        if len(number) == 3:
            raise KeyboardInterrupt
        return encode(pixels)

    for style in STYLES:
        told(clip(tmp_path / style / "a.mp4", 96, size=(32, 32)))
    config = settings(tmp_path, extraction="chunk", resolution=32)
    data = load_items(config, 16)
    assert len(data.train) == 12
    cache = Cache(tmp_path / "cache", backbone, config)
    backbone.encode_pixels = stopped
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cache_module, "AT_ONCE", 1)
        cache.prepare(data.train, [], lambda done: None)
    assert not list((tmp_path / "cache").rglob("*.tmp"))
    kept = len(number) - 1
    backbone.encode_pixels = lambda pixels: number.append(len(pixels)) or encode(pixels)
    del number[:]
    cache.prepare(data.train, [], lambda done: None)
    assert sum(number) == 6 - kept, "both clips are the same file, of six segments"


def test_no_more_is_decoded_ahead_than_memory_is_meant_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_wan.load(tiny_wan.base())
    decoded, encoded, most = [], [], []
    read, encode = cache_module.read_segment, backbone.encode_pixels

    def counted(*of: object) -> torch.Tensor:
        decoded.append(1)
        most.append(len(decoded) - len(encoded))
        return read(*of)

    def slow(pixels: torch.Tensor) -> torch.Tensor:
        wait(0.05)
        latents = encode(pixels)
        encoded.append(1)
        return latents

    for name, value in (("AT_ONCE", 1), ("AHEAD", 1), ("read_segment", counted)):
        monkeypatch.setattr(cache_module, name, value)
    backbone.encode_pixels = slow
    for style in STYLES:
        told(clip(tmp_path / style / "a.mp4", 96, size=(32, 32)))
    config = settings(tmp_path, extraction="chunk", resolution=32)
    cache = Cache(tmp_path / "cache", backbone, config)
    cache.prepare(load_items(config, 16).train, [], lambda done: None)
    assert len(encoded) == 6
    assert max(most) <= 2, "one that is encoded, and one ahead"
