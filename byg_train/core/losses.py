"""The losses of Eq. 2, 3 and 5, and NP-Edit's: one function each, (B,), float32 or better."""

from __future__ import annotations

import torch
from torch import Tensor

# Below this root mean square a direction counts as no direction: its gradient stays bounded.
EPS = 1e-4


def _rows(v: Tensor) -> Tensor:
    return v.flatten(1).to(torch.promote_types(v.dtype, torch.float32))


def velocity_mse(v: Tensor, u: Tensor) -> Tensor:
    """Mean squared error over all but the batch axis, (B,): L_cycle (Eq. 3), L_id, L_MSE."""
    return (_rows(v) - _rows(u)).square().mean(1)


def directional_loss(v: Tensor, v_src: Tensor, v_tgt: Tensor) -> Tensor:
    """L_dir = 1 - cos(v - v_src, v_tgt - v_src), (B,) in [0, 2] (Eq. 2).

    One cosine per sample over all its elements. Norms are clamped at `EPS` times the square root of
    the size, so that equal predictions give 1 and a finite gradient instead of NaN.
    """
    edit, wanted = _rows(v) - _rows(v_src), _rows(v_tgt) - _rows(v_src)
    least = EPS * edit.shape[1] ** 0.5
    unit = [a / _norm(a).clamp_min(least) for a in (edit, wanted)]
    return 1 - (unit[0] * unit[1]).sum(1)


def _norm(a: Tensor) -> Tensor:
    # The square root's gradient is infinite at zero; the floor lies far below the clamp.
    return a.square().sum(1, keepdim=True).clamp_min(1e-30).sqrt()


def prior_loss(
    v: Tensor, v_src: Tensor, v_tgt: Tensor, alpha: float, directional: float = 1.0
) -> Tensor:
    """L_prior = L_dir + alpha L_MSE, (B,) (section 4.2); `directional` weighs L_dir (section 6)."""
    return directional * directional_loss(v, v_src, v_tgt) + alpha * velocity_mse(v, v_tgt)


def distribution_matching_loss(x: Tensor, x_real: Tensor, x_fake: Tensor) -> Tensor:
    """DMD in x0 form, (B,): its gradient on x leads away from the fake estimate to the real one.

    g = ((x - x_real) - (x - x_fake)) / mean |x - x_real|, with both estimates made of x noised to
    the same state: one by the teacher, one by the auxiliary, which knows the student's own
    distribution. The value is |g|^2 / 2, its gradient g, each a mean over the elements. A gradient
    that is no number counts as none. (In v it would be t (v_real - v_fake): v = eps - x.)
    """
    x, real, fake = map(_rows, (x, x_real, x_fake))
    with torch.no_grad():
        size = (x - real).abs().mean(1, keepdim=True).clamp_min(1e-8)
        wanted = x - torch.nan_to_num((fake - real) / size, posinf=0, neginf=0)
    return (x - wanted).square().mean(1) / 2
