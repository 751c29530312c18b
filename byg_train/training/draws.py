"""What is drawn for the micro-batches of an optimiser step."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import TrainConfig
from ..core.schedule import Draw, Span, draw_t_within, sampled_rows, time_grid


def draw_for(config: TrainConfig, x: Tensor, span: Span, generator: torch.Generator) -> Draw:
    """Times within a span, noise, and the rows of sampled terms, for rows x (B, ...).

    Rows of one item have its noise: `rollout.times` in a row, or all of a smaller batch.
    """
    rollout, times = config.rollout, config.time
    t = draw_t_within(span, len(x), generator, times.distribution, times.shift)
    own = min(rollout.times, len(x))
    eps = torch.randn((len(x) // own, *x.shape[1:]), generator=generator)
    return Draw(
        eps=eps.repeat_interleave(own, 0).to(x),
        t=t.to(x),
        grid=time_grid(rollout.steps, rollout.shift).to(x),
        order=rollout.order,
        times=rollout.times,
        **_sampled(config, x, generator),
    )


def _sampled(
    config: TrainConfig, x: Tensor, generator: torch.Generator
) -> dict[str, Tensor | None]:
    """The weights (B,) of every term that its objective may ask for a share of the rows."""
    found = {}
    for term in ("identity", "prior_rev"):
        weights = sampled_rows(len(x), getattr(config.method, f"{term}_rate", 1.0), generator)
        found[term] = None if weights is None else weights.to(x)
    return found
