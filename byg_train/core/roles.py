"""What a step works with: the networks as velocities, and the items that it learns from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from .critic import Ask, CriticLoss

Text = Any  # prompt embeddings, opaque here


class Velocity(Protocol):
    """(x_t (B, ...), t (B,), text, source like x_t or None) -> v like x_t."""

    def __call__(self, x_t: Tensor, t: Tensor, text: Text, source: Tensor | None = None) -> Tensor:
        """Predict the velocity at (x_t, t)."""


class Roles(NamedTuple):
    """The networks that an objective asks, usually one set of weights (`lora.LoraBank`).

    The first three are those of Algorithm 1; the others there are where the objective needs them.
    """

    edit: Velocity  # G_edit, trains
    ema: Velocity  # G_EMA, dreams the targets
    base: Velocity  # G_T2I, frozen; called without a source
    aux: Velocity | None = None  # NP-Edit's auxiliary, trains beside the editor
    teacher: Velocity | None = None  # a frozen editor of many steps
    judge: CriticLoss | None = None  # what answers questions about an edit


class EditBatch(NamedTuple):
    """Training tuples (x, c, c_inv, p_src, p_tgt); line 2. Latents are (B, C, F, H, W)."""

    x: Tensor
    c: Text
    c_inv: Text
    p_src: Text
    p_tgt: Text
    y: Tensor | None = None  # the true edit, which objectives that need pairs alone may see
    asks: tuple[Ask, ...] | None = None  # what every row is asked for, in words
    negative: Text | None = None  # what the teacher's guidance leads away from


def rows(of: Tensor | Text, at: Tensor | slice | None) -> Tensor | Text:
    """Some rows of a tensor, or of a text's tensors; None: what was given."""
    if at is None:
        return of
    if isinstance(of, dict):
        return {name: rows(a, at) for name, a in of.items()}
    return of[at.to(of.device, non_blocking=True) if isinstance(at, Tensor) else at]


def joined(batches: Sequence[EditBatch]) -> EditBatch:
    """The rows of several batches of one shape, one batch after the other."""

    def whole(parts: Sequence[Any]) -> Any:
        if isinstance(parts[0], dict):
            return {name: whole([part[name] for part in parts]) for name in parts[0]}
        if isinstance(parts[0], tuple):
            return tuple(ask for part in parts for ask in part)
        return None if parts[0] is None else torch.cat(list(parts))

    return EditBatch(*map(whole, zip(*batches, strict=True)))


def repeated(batch: EditBatch, times: int) -> EditBatch:
    """Return the batch with every item repeated so many times in a row."""

    def more(part: Any) -> Any:
        if isinstance(part, dict):
            return {name: more(a) for name, a in part.items()}
        if isinstance(part, tuple):
            return tuple(ask for ask in part for _ in range(times))
        return None if part is None else part.repeat_interleave(times, 0)

    return batch if times == 1 else EditBatch(*map(more, batch))
