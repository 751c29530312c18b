"""Batches: every item once per epoch, one bucket each, a pure function of (seed, k)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from byg_train.data.batches import Batches, collate, to_device
from byg_train.data.cache import Cache
from byg_train.data.items import Item
from byg_train.media.fit import Size


class Shelf:
    """What batches ask of a cache: latents hold the item's number, embeddings the text's length."""

    by_bucket = Cache.by_bucket

    def bucket(self, item: Item) -> Size:
        return Size(item.width, item.height)

    def latents(self, item: Item) -> Tensor:
        return torch.full((4, 1, item.height // 8, item.width // 8), float(item.digest))

    def text(self, text: str) -> dict[str, Tensor]:
        return {"tokens": torch.full((3, 2), float(len(text))).half(), "mask": torch.ones(3)}


def make_items(*per_bucket: int) -> list[Item]:
    """Items of several shapes, interleaved."""
    shapes = [(n, (8 * (b + 1), 16)) for b, count in enumerate(per_bucket) for n in range(count)]
    return [
        Item(
            path=Path(f"{i}.png"),
            src_caption="s" * (i + 1),
            tgt_caption="t" * (i + 2),
            instruction="i" * (i + 3),
            reverse_instruction="r" * (i + 4),
            width=width,
            height=height,
            digest=str(i),
        )
        for i, (_, (width, height)) in enumerate(sorted(shapes))
    ]


def names(batches: Batches, k: int) -> list[str]:
    return [item.digest for item in batches.items(k)]


counts = st.lists(st.integers(1, 11), min_size=1, max_size=4)
sizes = st.integers(1, 6)
seeds = st.integers(0, 2**31)


@given(counts=counts, size=sizes, seed=seeds, epoch=st.integers(0, 5))
@settings(max_examples=60)
def test_an_epoch_takes_every_item_once_apart_from_fill_ups(
    counts: list[int], size: int, seed: int, epoch: int
) -> None:
    items = make_items(*counts)
    batches = Batches(items, Shelf(), size, seed)
    assert batches.per_epoch == sum(-(-count // size) for count in counts)
    taken: Counter[str] = Counter()
    for k in range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch):
        batch = batches.items(k)
        assert len(batch) == size
        assert len({item.width for item in batch}) == 1
        taken.update(item.digest for item in batch)
        own = counts[batch[0].width // 8 - 1]
        repeats = Counter(item.digest for item in batch).values()
        assert max(repeats) == -(-size // own)  # nothing twice before everything was there once
    assert set(taken) == {item.digest for item in items}
    # As many as there are, and no more than one fill-up batch per bucket.
    assert sum(taken.values()) - len(items) == sum(-count % size for count in counts)


@given(counts=counts, size=sizes, seed=seeds, k=st.integers(0, 1000))
@settings(max_examples=30)
def test_a_batch_depends_on_seed_and_k_alone(
    counts: list[int], size: int, seed: int, k: int
) -> None:
    items = make_items(*counts)
    one = Batches(items, Shelf(), size, seed)
    for other in (0, k + 1, 3):
        one.items(other)
    torch.manual_seed(k)
    state = torch.get_rng_state()
    assert names(one, k) == names(Batches(items, Shelf(), size, seed), k)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_order_differs_between_epochs_seeds_and_buckets() -> None:
    batches = Batches(make_items(12, 12), Shelf(), 1, seed=0)
    orders = [
        [names(b, epoch * 24 + i)[0] for i in range(24)]
        for b in (batches, Batches(make_items(12, 12), Shelf(), 1, seed=1))
        for epoch in range(3)
    ]
    assert len(set(map(tuple, orders))) == 6
    narrow = [int(n) for n in orders[0] if int(n) < 12]
    wide = [int(n) - 12 for n in orders[0] if int(n) >= 12]
    assert narrow != wide
    widths = [batches.items(k)[0].width for k in range(24)]
    assert widths != sorted(widths) and widths != sorted(widths, reverse=True)  # buckets mix


def test_every_item_leads_equally_often() -> None:
    batches = Batches(make_items(4), Shelf(), 4, seed=3)
    first = Counter(names(batches, k)[0] for k in range(400))
    assert all(first[str(i)] == pytest.approx(100, abs=35) for i in range(4))  # 4 sigma


def test_fill_ups_are_drawn_from_everybody() -> None:
    batches = Batches(make_items(3), Shelf(), 2, seed=0)
    taken = Counter(name for k in range(2 * 300) for name in names(batches, k))
    assert sum(taken.values()) == 4 * 300
    assert all(taken[str(i)] - 300 == pytest.approx(100, abs=33) for i in range(3))  # 4 sigma


def test_fill_ups_begin_the_next_order() -> None:
    batches = Batches(make_items(3), Shelf(), 4, seed=0)  # one batch per epoch, one fill-up
    assert all(names(batches, k)[3] == names(batches, k + 1)[0] for k in range(20))


def test_a_batch_holds_what_its_items_say() -> None:
    batches = Batches(make_items(5, 2), Shelf(), 3, seed=0)
    for k in range(batches.per_epoch):
        items, batch = batches.items(k), batches[k]
        numbers = [float(item.digest) for item in items]
        assert batch.x.shape == (3, 4, 1, 2, items[0].width // 8)
        assert batch.x[:, 0, 0, 0, 0].tolist() == numbers
        for text, more in ((batch.p_src, 1), (batch.p_tgt, 2), (batch.c, 3), (batch.c_inv, 4)):
            assert text["tokens"].shape == (3, 3, 2) and text["tokens"].dtype == torch.float16
            assert text["tokens"][:, 0, 0].tolist() == [n + more for n in numbers]
            assert text["mask"].shape == (3, 3)


def test_every_part_of_a_batch_moves() -> None:
    batch = collate(make_items(2), Shelf())
    moved = to_device(batch, torch.device("meta"))
    assert moved.x.is_meta and moved.x.shape == batch.x.shape
    for text, was in zip(moved[1:5], batch[1:5], strict=True):
        assert text.keys() == was.keys() and all(tensor.is_meta for tensor in text.values())
        assert text["tokens"].dtype == torch.float16


def test_items_of_several_buckets_are_no_batch() -> None:
    with pytest.raises(ValueError, match="several buckets"):
        collate(make_items(1, 1), Shelf())
