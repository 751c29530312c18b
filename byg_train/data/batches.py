"""Micro-batches as a pure function of (seed, k): a run resumes its data order from k alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.roles import EditBatch
from ..media.fit import Size
from ..models.backbone import Text
from .cache import Cache
from .items import Item


class Batches:
    """`batches[k]` for k = 0, 1, 2, ... without end.

    Every batch comes from one bucket. An epoch is `per_epoch` batches and takes every item once;
    where the last batch of a bucket is not full, items of the bucket's next order fill it up.
    """

    def __init__(self, items: Sequence[Item], cache: Cache, batch_size: int, seed: int) -> None:
        self._items, self._cache, self._size, self._seed = items, cache, batch_size, seed
        groups: dict[Size, list[int]] = {}
        for index, item in enumerate(items):
            groups.setdefault(cache.bucket(item), []).append(index)
        self._groups = [groups[size] for size in sorted(groups)]
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
        return [self._items[own[i]] for i in chosen]

    def __getitem__(self, k: int) -> EditBatch:
        """Return batch k, on the CPU."""
        return collate(self.items(k), self._cache)

    def _order(self, epoch: int, what: str, number: int) -> list[int]:
        """Draw a permutation of range(number) from the seed, the epoch and a name."""
        key = hashlib.sha256(f"{self._seed} {epoch} {what}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key[:7], "big"))
        return torch.randperm(number, generator=generator).tolist()


def collate(items: Sequence[Item], cache: Cache) -> EditBatch:
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
    )


def to_device(batch: EditBatch, device: torch.device) -> EditBatch:
    """Move a batch to a device."""

    def moved(part: Tensor | Text | None) -> Tensor | Text | None:
        if part is None or isinstance(part, Tensor):
            return None if part is None else sent(part)
        return {name: sent(tensor) for name, tensor in part.items()}

    def sent(tensor: Tensor) -> Tensor:
        # From pinned memory a GPU fetches it by itself, while it computes.
        pinned = tensor.pin_memory() if device.type == "cuda" else tensor
        return pinned.to(device, non_blocking=True)

    return EditBatch(*map(moved, batch))


def _stacked(latents: list[Tensor]) -> Tensor:
    if len({z.shape for z in latents}) > 1:
        raise ValueError("items of several buckets in one batch")
    return torch.stack(latents)
