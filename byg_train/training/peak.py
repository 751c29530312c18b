"""The memory that a piece of work needs at its peak: what a graph keeps, what CUDA allocates."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from .cost import Memory
from .words import size_words

Work = Callable[[], object]
# Of all memory: above this the allocator clears its caches again and again.
TIGHT = 0.95


class _Held:
    """A tensor that autograd keeps for backward, for as long as it keeps it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def peak_saved_bytes(work: Work, weights: Iterable[Tensor]) -> int:
    """Measure the peak of bytes that autograd holds for backward during `work`, without weights.

    A storage counts once however many tensors share it. Under gradient checkpointing this counts
    the blocks' inputs, not what one block recomputes.
    """
    # What is fetched block by block has no memory of its own.
    known = {w.untyped_storage()._cdata for w in weights if not hasattr(w, "to_local")}
    holders: Counter[int] = Counter()
    live = peak = 0

    def hold(tensor: Tensor) -> _Held:
        nonlocal live, peak
        held, storage = _Held(tensor), tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
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


class Watch:
    """Says once what memory a full step took, beside what was planned for it."""

    def __init__(
        self, planned: Memory | None, device: torch.device, weights: Iterable[Tensor]
    ) -> None:
        """`weights` are on the device without being kept for backward; None: say nothing."""
        self.planned, self.device, self.weights = planned, device, list(weights)
        self.said = planned is None

    def step(self, take: Callable[[], dict], *, warming_up: bool) -> tuple[dict, str | None]:
        """Take a step; its record, and after the first full one a sentence."""
        if self.said or warming_up:
            return take(), None
        record: dict = {}
        words = self._measured(lambda: record.update(take()))
        self.said = record["kind"] == "full"
        return record, words if self.said else None

    def _measured(self, work: Work) -> str:
        if self.device.type != "cuda":
            kept, planned = peak_saved_bytes(work, self.weights), self.planned.activations
            return f"A step keeps {size_words(kept)} for backward (planned {size_words(planned)})"
        torch.cuda.reset_peak_memory_stats()
        work()
        found, total = torch.cuda.memory_stats(), torch.cuda.mem_get_info()[1]
        retries = found["num_alloc_retries"]
        peak, reserved = (found[f"{kind}_bytes.all.peak"] for kind in ("allocated", "reserved"))
        words = (
            f"A step takes {size_words(peak)} of memory at its peak (planned "
            f"{size_words(self.planned.step)}), {size_words(reserved)} reserved"
        )
        if retries or reserved > TIGHT * total:
            words += (
                f"; that is tight ({retries} retries of {size_words(total)}): a lower --vram, "
                f"data.resolution or train.batch_size makes room"
            )
        return words


def peak_allocated_bytes(work: Work) -> int:
    """Measure the peak of CUDA bytes during `work` beyond those allocated before it."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    return torch.cuda.max_memory_allocated() - before
