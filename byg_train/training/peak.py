"""The memory that a piece of work needs at its peak: what a graph keeps, what CUDA allocates."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Work = Callable[[], object]


class _Held:
    """A tensor that autograd keeps for backward, for as long as it keeps it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def peak_saved_bytes(work: Work, weights: Iterable[Tensor]) -> int:
    """Measure the peak of bytes that autograd holds for backward during `work`, without weights.

    A storage counts once however many tensors share it. Under gradient checkpointing this counts
    the blocks' inputs, not what one block recomputes.
    """
    known = {w.untyped_storage().data_ptr() for w in weights}
    holders: Counter[int] = Counter()
    live = peak = 0

    def hold(tensor: Tensor) -> _Held:
        nonlocal live, peak
        held, storage = _Held(tensor), tensor.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        if key not in known:
            live += 0 if holders[key] else size
            peak = max(peak, live)
            holders[key] += 1
            weakref.finalize(held, release, key, size)
        return held

    def release(key: int, size: int) -> None:
        nonlocal live
        holders[key] -= 1
        live -= 0 if holders[key] else size

    with torch.autograd.graph.saved_tensors_hooks(hold, lambda held: held.tensor):
        work()
    return peak


def peak_allocated_bytes(work: Work) -> int:
    """Measure the peak of CUDA bytes during `work` beyond those allocated before it."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return torch.cuda.max_memory_allocated() - before
