"""Micro-batches as a pure function of (seed, k): a run resumes its data order from k alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import torch
from torch import Tensor

from ..config.methods import MethodConfig, NpEditConfig
from ..core.critic import NOTHING, Ask
from ..core.roles import EditBatch
from ..models.backbone import Text, sent
from .cache import Cache
from .items import Item
from .vlm.edit_types import known_type


class Batches:
    """`batches[k]` for k = 0, 1, 2, ... without end.

    Every batch comes from one bucket. An epoch is `per_epoch` batches and takes every item once;
    where the last batch of a bucket is not full, items of the bucket's next order fill it up.
    """

    def __init__(
        self,
        items: Sequence[Item],
        cache: Cache,
        batch_size: int,
        seed: int,
        method: MethodConfig | None = None,
    ) -> None:
        self._cache, self._size, self._seed = cache, batch_size, seed
        self._method = method if isinstance(method, NpEditConfig) else None
        self._groups = [group for _, group in sorted(cache.by_bucket(items).items())]
        # Where each batch of an epoch begins: (group, first of the group's order).
        self._starts = [
            (g, start)
            for g, own in enumerate(self._groups)
            for start in range(0, len(own), batch_size)
        ]
        self.per_epoch = len(self._starts)

    def items(self, k: int) -> list[Item]:
        """Return the items of batch k."""
        epoch, position = divmod(k, self.per_epoch)
        group, start = self._starts[self._order(epoch, "batches", self.per_epoch)[position]]
        own = self._groups[group]
        chosen = self._order(epoch, f"group {group}", len(own))[start : start + self._size]
        refill = epoch + 1
        while len(chosen) < self._size:
            # Every item of the group is taken before any is taken twice.
            rarest = min(map(chosen.count, range(len(own))))
            more = self._order(refill, f"group {group}", len(own))
            chosen += [i for i in more if chosen.count(i) == rarest][: self._size - len(chosen)]
            refill += 1
        return [own[i] for i in chosen]

    def __getitem__(self, k: int) -> EditBatch:
        """Return batch k, on the CPU."""
        items, method = self.items(k), self._method
        if method is None:
            return collate(items, self._cache)
        lots = Random(f"{self._seed} nothing {k}")
        items = [
            still(item, method.nothing_text) if lots.random() < method.nothing_probability else item
            for item in items
        ]
        return collate(items, self._cache, method.teacher_negative)

    def _order(self, epoch: int, what: str, number: int) -> list[int]:
        """Draw a permutation of range(number) from the seed, the epoch and a name."""
        generator = seeded(self._seed, epoch, what)
        return torch.randperm(number, generator=generator).tolist()


def seeded(*key: object) -> torch.Generator:
    """A generator, on the CPU, for what the words of a key name: the same on every machine."""
    digest = hashlib.sha256(" ".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def still(item: Item, text: str) -> Item:
    """The item with an instruction under which nothing may change."""
    return replace(
        item,
        instruction=text,
        reverse_instruction=text,
        tgt_caption=item.src_caption,
        edit_type=NOTHING,
    )


def collate(items: Sequence[Item], cache: Cache, negative: str | None = None) -> EditBatch:
    """Stack items of one bucket to a batch: latents (B, C, F, h, w), texts batch first."""

    def texts(of: list[str]) -> Text:
        rows = [cache.text(text) for text in of]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    return EditBatch(
        x=_stacked([cache.latents(item) for item in items]),
        c=texts([item.instruction for item in items]),
        c_inv=texts([item.reverse_instruction for item in items]),
        p_src=texts([item.src_caption for item in items]),
        p_tgt=texts([item.tgt_caption for item in items]),
        y=_stacked([cache.latents(item.target) for item in items]) if items[0].target else None,
        asks=tuple(
            Ask(item.instruction, known_type(item.edit_type) or item.edit_type) for item in items
        ),
        negative=None if negative is None else texts([negative] * len(items)),
    )


def to_device(batch: EditBatch, device: torch.device) -> EditBatch:
    """Move a batch to a device."""

    def moved(part: Any) -> Any:
        if isinstance(part, Tensor):
            return sent(part, device)
        if not isinstance(part, dict):
            return part  # words
        return {name: sent(tensor, device) for name, tensor in part.items()}

    return EditBatch(*map(moved, batch))


def _stacked(latents: list[Tensor]) -> Tensor:
    if len({z.shape for z in latents}) > 1:
        raise ValueError("items of several buckets in one batch")
    return torch.stack(latents)
