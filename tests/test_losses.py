"""Losses against closed forms, invariances and autograd's own check."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from byg_train.core.losses import EPS, directional_loss, prior_loss, velocity_mse

SHAPES = [(2, 3, 4, 4), (2, 3, 2, 4, 4)]


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def triple(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """v, v_src, v_tgt."""
    return gaussian(*shape), gaussian(*shape, seed=1), gaussian(*shape, seed=2)


def orthogonal(a: Tensor, b: Tensor) -> Tensor:
    """a less its share along b, per sample."""
    a_, b_ = a.flatten(1), b.flatten(1)
    share = (a_ * b_).sum(1, keepdim=True) / b_.square().sum(1, keepdim=True)
    return (a_ - share * b_).reshape(a.shape)


# ---------------------------------------------------------------- closed forms


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("times", "loss"), [(0.5, 0), (1, 0), (3, 0), (-1, 2), (-0.1, 2)])
def test_directional_loss_sees_only_the_direction(
    shape: tuple[int, ...], times: float, loss: float
) -> None:
    _, v_src, v_tgt = triple(*shape)
    v = v_src + times * (v_tgt - v_src)
    expected = torch.full((2,), loss, dtype=torch.float64)
    torch.testing.assert_close(directional_loss(v, v_src, v_tgt), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_directional_loss_of_an_orthogonal_edit_is_one(shape: tuple[int, ...]) -> None:
    v, v_src, v_tgt = triple(*shape)
    v = v_src + orthogonal(v, v_tgt - v_src)
    expected = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(directional_loss(v, v_src, v_tgt), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("angle", [0.3, 1.0, 2.5])
def test_directional_loss_is_one_minus_the_cosine(angle: float) -> None:
    v, v_src, v_tgt = triple(2, 3, 4, 4)
    along = v_tgt - v_src
    across = orthogonal(v, along)
    across = across * (along.flatten(1).norm(dim=1) / across.flatten(1).norm(dim=1)).reshape(
        -1, 1, 1, 1
    )
    v = v_src + math.cos(angle) * along + math.sin(angle) * across
    torch.testing.assert_close(
        directional_loss(v, v_src, v_tgt), torch.full((2,), 1 - math.cos(angle), dtype=v.dtype)
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_velocity_mse_of_a_known_distance(shape: tuple[int, ...]) -> None:
    v = gaussian(*shape)
    apart = torch.tensor([0.5, -2.0], dtype=v.dtype).reshape(-1, *(1,) * (len(shape) - 1))
    expected = torch.tensor([0.25, 4.0], dtype=v.dtype)
    torch.testing.assert_close(velocity_mse(v + apart, v), expected)


def test_prior_loss_adds_alpha_times_the_error_to_the_target() -> None:
    v, v_src, v_tgt = triple(2, 3, 4, 4)
    for alpha in (0.0, 0.1, 3.0):
        wanted = directional_loss(v, v_src, v_tgt) + alpha * (v - v_tgt).square().mean((1, 2, 3))
        torch.testing.assert_close(prior_loss(v, v_src, v_tgt, alpha), wanted)


# ---------------------------------------------------------------- invariances


@settings(max_examples=25)
@given(a=st.floats(0.05, 50), b=st.floats(0.05, 50))
def test_directional_loss_knows_neither_length_nor_origin(a: float, b: float) -> None:
    v, v_src, v_tgt = triple(2, 3, 4, 4)
    origin = gaussian(2, 3, 4, 4, seed=3)
    edit, wanted = v - v_src, v_tgt - v_src
    torch.testing.assert_close(
        directional_loss(origin + a * edit, origin, origin + b * wanted),
        directional_loss(v, v_src, v_tgt),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_losses_are_per_sample(shape: tuple[int, ...]) -> None:
    v, v_src, v_tgt = triple(*shape)
    together = prior_loss(v, v_src, v_tgt, 0.3)
    assert together.shape == (2,)
    alone = [prior_loss(v[i : i + 1], v_src[i : i + 1], v_tgt[i : i + 1], 0.3) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_losses_do_not_depend_on_resolution() -> None:
    small = triple(2, 3, 4, 4)
    large = tuple(a.repeat(1, 1, 3, 5) for a in small)
    torch.testing.assert_close(velocity_mse(*large[:2]), velocity_mse(*small[:2]))
    torch.testing.assert_close(directional_loss(*large), directional_loss(*small))


# ---------------------------------------------------------------- precision


def test_losses_are_float32_even_from_bfloat16() -> None:
    low = [a.to(torch.bfloat16) for a in triple(2, 3, 8, 8)]
    high = [a.float() for a in low]
    for loss in (
        lambda v, s, g: velocity_mse(v, s),
        lambda v, s, g: directional_loss(v, s, g),
        lambda v, s, g: prior_loss(v, s, g, 0.1),
    ):
        assert loss(*low).dtype == torch.float32
        assert torch.equal(loss(*low), loss(*high))  # differences are taken in float32 too


def test_float64_stays_float64() -> None:
    v, v_src, v_tgt = triple(2, 3, 4, 4)
    assert velocity_mse(v, v_src).dtype == torch.float64
    assert prior_loss(v, v_src, v_tgt, 0.1).dtype == torch.float64


# ---------------------------------------------------------------- gradients


def gradient(v: Tensor, v_src: Tensor, v_tgt: Tensor) -> Tensor:
    v = v.clone().requires_grad_()
    directional_loss(v, v_src, v_tgt).sum().backward()
    return v.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_edit_costs_one_and_still_learns(dtype: torch.dtype) -> None:
    _, v_src, v_tgt = (a.to(dtype) for a in triple(2, 3, 4, 4))
    assert torch.equal(directional_loss(v_src, v_src, v_tgt), torch.ones(2, dtype=dtype))
    descent = -gradient(v_src, v_src, v_tgt)
    assert descent.isfinite().all()
    towards = torch.nn.functional.cosine_similarity(descent.flatten(1), (v_tgt - v_src).flatten(1))
    torch.testing.assert_close(towards, torch.ones(2, dtype=dtype))


def test_equal_captions_cost_one_and_teach_nothing() -> None:
    v, v_src, _ = triple(2, 3, 4, 4)
    assert torch.equal(directional_loss(v, v_src, v_src), torch.ones(2, dtype=v.dtype))
    assert torch.equal(gradient(v, v_src, v_src), torch.zeros_like(v))


@pytest.mark.parametrize("exponent", range(-12, 3))
def test_gradient_is_bounded_however_small_the_edit(exponent: int) -> None:
    """At most 1 / (EPS sqrt N), reached when the edit is shorter than the clamp."""
    v, v_src, v_tgt = triple(2, 3, 4, 4)
    g = gradient(v_src + 10.0**exponent * v, v_src, v_tgt).flatten(1).norm(dim=1)
    assert (g <= (1 + 1e-9) / (EPS * math.sqrt(48))).all()


def test_gradients_agree_with_finite_differences() -> None:
    inputs = tuple(a.requires_grad_() for a in triple(2, 2, 3))
    assert gradcheck(velocity_mse, inputs[:2])
    assert gradcheck(directional_loss, inputs)
    assert gradcheck(lambda *a: prior_loss(*a, alpha=0.7), inputs)


def test_gradient_inside_the_clamp_agrees_with_finite_differences() -> None:
    v, v_src, v_tgt = triple(2, 2, 3)
    v = (v_src + EPS * 1e-2 * v).requires_grad_()
    assert gradcheck(lambda a: directional_loss(a, v_src, v_tgt), (v,), eps=1e-9, atol=1e-2)
