"""NP-Edit on networks of closed form: a judge, draws, roles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from step_problems import Net, gaussian, problem
from torch import Tensor

from byg_train.config.methods import NpEditConfig
from byg_train.core.critic import Ask
from byg_train.core.roles import EditBatch, Roles
from byg_train.core.schedule import Draw, Unroll

W = NpEditConfig(critic_weight=0.7, dmd_weight=0.4, nothing_weight=0.9, teacher_guidance=2.0)
ASKS = (Ask("paint it", "color_change"), Ask("remove it", "remove"), Ask("do nothing.", "nothing"))


class Judge:
    """Answers that depend on source and edit, element by element."""

    def __init__(self) -> None:
        self.asked: list[tuple[Tensor, Tensor, tuple[Ask, ...]]] = []

    def __call__(self, source: Tensor, edited: Tensor, asks: Sequence[Ask]) -> dict[str, Tensor]:
        self.asked.append((source, edited, tuple(asks)))
        seen = (edited - 0.3 * source).flatten(1)
        return {"edit": seen.sin().mean(1), "identity": seen.square().mean(1)}


def roles() -> Roles:
    return Roles(Net(0), Net(1), Net(2), Net(3), Net(4), Judge())


def work(depth: int, seed: int = 0) -> tuple[EditBatch, Draw]:
    """Three rows; one evaluation of the student, or two that meet at 0.6."""
    batch, draw = problem([0.9, 0.35, 0.6], seed)
    g = torch.Generator().manual_seed(seed + 9)
    grid = torch.tensor([1.0, 0.6, 0.0][:depth] + [0.0], dtype=torch.float64)
    fresh, eps = (gaussian(g, *batch.x.shape) for _ in range(2))
    batch = batch._replace(asks=ASKS, negative=gaussian(g, 3, 5))
    return batch, draw._replace(unroll=Unroll(grid, fresh, eps))
