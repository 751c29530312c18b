"""What a step works with: the networks as velocities, and the items that it learns from."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from torch import Tensor

Text = Any  # prompt embeddings, opaque here


class Velocity(Protocol):
    """(x_t (B, ...), t (B,), text, source like x_t or None) -> v like x_t."""

    def __call__(self, x_t: Tensor, t: Tensor, text: Text, source: Tensor | None = None) -> Tensor:
        """Predict the velocity at (x_t, t)."""


class Roles(NamedTuple):
    """The three networks of Algorithm 1, usually one set of weights (`lora.LoraBank`)."""

    edit: Velocity  # G_edit, trains
    ema: Velocity  # G_EMA, dreams the targets
    base: Velocity  # G_T2I, frozen; called without a source


class EditBatch(NamedTuple):
    """Training tuples (x, c, c_inv, p_src, p_tgt); line 2. Latents are (B, C, F, H, W)."""

    x: Tensor
    c: Text
    c_inv: Text
    p_src: Text
    p_tgt: Text
    y: Tensor | None = None  # the true edit, which objectives that need pairs alone may see


def rows(of: Tensor | Text, at: Tensor | slice | None) -> Tensor | Text:
    """Some rows of a tensor, or of a text's tensors; None: what was given."""
    if at is None:
        return of
    return {name: a[at] for name, a in of.items()} if isinstance(of, dict) else of[at]


def repeated(batch: EditBatch, times: int) -> EditBatch:
    """Every item so many times in a row."""

    def more(part: Tensor | Text | None) -> Tensor | Text | None:
        if isinstance(part, dict):
            return {name: more(a) for name, a in part.items()}
        return None if part is None else part.repeat_interleave(times, 0)

    return batch if times == 1 else EditBatch(*map(more, batch))
