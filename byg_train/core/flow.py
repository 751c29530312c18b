"""Flow matching in the paper's letters: noising, one-step prediction, rollout, gradient routing.

Time runs from t = 1 (noise) to t = 0 (data): x_t = (1 - t) x + t eps, v = eps - x. Latents have any
rank with the batch first; t is (B,), a grid is (n + 1,) from 1 down to 0. Times may stay on the CPU
beside latents on a GPU: what is asked of them, such as which network they are for, does not wait.
Torch only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

# (y, t) -> v, with y like the noise and t (B,).
Field = Callable[[Tensor, Tensor], Tensor]


def at_rank(t: Tensor, x: Tensor) -> Tensor:
    """t (B,) where x is, with trailing axes of one, so that it broadcasts over x (B, ...)."""
    return t.to(x.device, non_blocking=True).reshape(-1, *(1,) * (x.ndim - 1))


def noised(x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) x + t eps (section 3)."""
    t = at_rank(t, x)
    return (1 - t) * x + t * eps


def one_step(y_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """The one-step prediction y_hat = y_t - t v (Algorithm 1, line 15)."""
    return y_t - at_rank(t, y_t) * v


def rollout(
    velocity: Field, eps: Tensor, grid: Tensor, t: Tensor, order: int = 1
) -> tuple[Tensor, Tensor]:
    """Integrate from pure noise to data, stopping by at t (Algorithm 1, lines 5-11).

    t is continuous, so with Euler y_t = y_s - (s - t) v(y_s, s) with s the last grid time at or
    above t: a point on the rollout's own path, at no extra evaluation. Order 2 is Adams-Bashforth:
    v runs on in a line through its last two values, and the path is that line's integral.

    Args:
        velocity: the field; called n times with (y (B, ...), s (B,)).
        eps: noise (B, ...), the state at t = 1.
        grid: (n + 1,), 1 = grid[0] > ... > grid[n] = 0.
        t: (B K,) in (0, 1], for each sample K times in a row.
        order: 1 (Euler) or 2.

    Returns:
        y_t (B K, ...) and y_0 like eps: the noisy pseudo-targets and the clean multi-step edit.
    """
    for states in rollout_steps(velocity, eps, grid, t, order):
        last = states
    return last


def rollout_steps(
    velocity: Field, eps: Tensor, grid: Tensor, t: Tensor, order: int = 1
) -> Iterator[tuple[Tensor, Tensor]]:
    """A rollout evaluation by evaluation: (y_t as far as it is known, y at the next grid time)."""
    times = len(t) // len(eps)
    y, y_t, before = eps, eps.repeat_interleave(times, 0), None
    for s, s_next in zip(grid[:-1], grid[1:], strict=True):
        v = velocity(y, s.expand(len(y)))
        bend = (v - before[0]) / before[1] if before else torch.zeros_like(v)
        here = [a.repeat_interleave(times, 0) for a in (y, v, bend)]
        inside = at_rank((s_next < t) & (t <= s), y)
        y_t = torch.where(inside, _ahead(*here, at_rank(s - t, y)), y_t)
        y = _ahead(y, v, bend, s - s_next)
        before = (v, s - s_next) if order == 2 else None
        yield y_t, y


def _ahead(y: Tensor, v: Tensor, bend: Tensor, h: Tensor) -> Tensor:
    """The path h further towards data, where v grows by h `bend`."""
    return y - h * v - h * h / 2 * bend


def integrate(
    velocity: Field,
    eps: Tensor,
    grid: Tensor,
    each: Callable[[int, int], None] = lambda i, n: None,
) -> Tensor:
    """Euler over the whole grid; `each(done, of)` is called after every evaluation."""
    y, n = eps, len(grid) - 1
    for i in range(n):
        y = y - (grid[i] - grid[i + 1]) * velocity(y, grid[i].expand(len(y)))
        each(i + 1, n)
    return y


def noises(like: Tensor, seed: int) -> Iterator[Tensor]:
    """The noises of a few-step sampling, without end: where it starts, then one per renoise.

    Drawn on the CPU in the order of memory, so that a seed gives the same on every device, and in
    ComfyUI, whose pictures have no axis of frames.
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(like.shape, generator=generator).to(like)


def few_steps(
    predict: Field,
    eps: Tensor,
    grid: Tensor,
    fresh: Iterator[Tensor],
    each: Callable[[int, int], None] = lambda i, n: None,
) -> Tensor:
    """Sample by guessing the end and going back (NP-Edit): x_hat, noised anew, x_hat, ...

    With gradients this is NP-Edit's unroll: nothing between the evaluations is detached.

    Args:
        predict: the one-step prediction: (y_t (B, ...), t (B,)) -> x_hat.
        eps: noise (B, ...), the state at grid[0].
        grid: (n + 1,) falling times of the n evaluations, and where it ends: 0 for data.
        fresh: the noise of every renoise; none is taken at the end, where nothing is noised.
        each: `each(done, of)` is called after every evaluation.
    """
    y, n = eps, len(grid) - 1
    for i in range(n):
        x_hat = predict(y, grid[i].expand(len(y)))
        t_next = grid[i + 1]
        y = noised(x_hat, next(fresh), t_next.expand(len(y))) if t_next > 0 else x_hat
        each(i + 1, n)
    return y


def route_gradient(seen: Tensor, learned: Tensor) -> Tensor:
    """The value of `seen`, the gradient of `learned` (Eq. 4, straight-through)."""
    return seen.detach() + (learned - learned.detach())
