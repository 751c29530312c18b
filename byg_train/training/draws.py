"""What is drawn for an update: by seed, turn and place in its global batch alone.

A turn is the number of the optimiser step, and of what is trained beside the editor its own name.

So a run draws the same however its global batch is cut: in micro-batches, and among processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..config import TrainConfig
from ..core.schedule import Draw, Span, Unroll, draw_span, draw_t_within, sampled_rows, time_grid
from ..data.batches import seeded
from ..models.backbone import sent
from ..models.sampler import sampling_grid

Turn = int | str


def draw_identity_only(config: TrainConfig, step: int) -> bool:
    """Whether a step of the method is one of the identity alone (B.1)."""
    chance = torch.rand((), generator=seeded(config.seed, step, "kind")).item()
    return chance < config.method.identity_share


def draw_experts(
    config: TrainConfig, turn: Turn, spans: dict[str, Span], alike: int = 1
) -> list[str]:
    """The expert of every item of an update, `alike` items in a row having the same."""
    times, key = config.time, (config.seed, turn, "expert")
    return [
        draw_span(spans, seeded(*key, item // alike), times.distribution, times.shift)
        for item in range(config.items_per_step)
    ]


def draw_for(
    config: TrainConfig, turn: Turn, rows: Sequence[int], x: Tensor, span: Span, alike: int = 1
) -> Draw:
    """Times within a span, noise, and the weights of sampled terms.

    Args:
        config: the run.
        turn: the update: the optimiser step, from 0, or the name of another network's.
        rows: places of the rows in the global batch; those of one item stand in a row.
        x: the rows, (B, ...). Rows of one item have its noise.
        span: the times of an expert.
        alike: so many items in a row are asked for the same terms.
    """
    rollout, times, key = config.rollout, config.time, (config.seed, turn)
    t = [
        draw_t_within(span, 1, seeded(*key, "t", row), times.distribution, times.shift)
        for row in rows
    ]
    items = [row // rollout.times for row in rows]

    def noise(name: str) -> Tensor:
        own = {
            item: torch.randn(x.shape[1:], generator=seeded(*key, name, item))
            for item in dict.fromkeys(items)
        }
        return sent(torch.stack([own[item] for item in items]).to(x.dtype), x.device)

    return Draw(
        eps=noise("eps"),
        t=torch.cat(t).to(x.dtype),
        grid=time_grid(rollout.steps, rollout.shift).to(x.dtype),
        order=rollout.order,
        times=rollout.times,
        identity=_sampled(config, "identity", turn, rows, x, alike),
        prior_rev=_sampled(config, "prior_rev", turn, rows, x, alike),
        unroll=_unrolled(config, turn, x, noise) if config.method.unrolls else None,
    )


def _unrolled(config: TrainConfig, turn: Turn, x: Tensor, noise: Callable[[str], Tensor]) -> Unroll:
    """Draw one evaluation, or a second one at any other time of sampling: each as likely.

    One depth for all items of an update, in all processes: they ask the same experts.
    """
    grid = sampling_grid(config.sample.steps, config.sample.shift, x)
    drawn = seeded(config.seed, turn, "depth")
    k = int(torch.randint(config.sample.steps, (), generator=drawn))
    times = [1.0, float(grid[k]), 0.0] if k else [1.0, 0.0]
    return Unroll(torch.tensor(times, dtype=x.dtype), noise("fresh"), noise("score"))


def _sampled(
    config: TrainConfig, term: str, turn: Turn, rows: Sequence[int], x: Tensor, alike: int
) -> Tensor | None:
    """The weights (B,) of a term that its objective may ask for a share of all rows of a step."""
    times, whole = config.rollout.times, max(config.train.global_batch, max(rows) + 1)
    share = getattr(config.method, f"{term}_rate", 1.0)
    weights = sampled_rows(whole // alike, share, seeded(config.seed, turn, term))
    if weights is None:
        return None
    return weights[[row // times // alike * times + row % times for row in rows]].to(x.dtype)
