"""FlowEdit's exact invariants, and fields whose edit is known in closed form."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import tiny_flux
import torch
from torch import Tensor

from byg_train.core.schedule import time_grid
from byg_train.editing.flowedit import flowedit

STEPS = 12
GRID = time_grid(STEPS, 3.0)
SHAPES = [(2, 4, 1, 6, 5), (3, 8), (1, 2, 3, 4, 4)]


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(shape: tuple[int, ...], seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=noise(seed)) * 3


def curved(x: Tensor, t: Tensor, text: float) -> Tensor:
    """A field without symmetries, that depends on everything."""
    t = t.reshape(-1, *(1,) * (x.ndim - 1))
    return torch.sin(3 * x + text) * (1 + t) + text * x.roll(1, -1)


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_captions_give_back_the_source_exactly(shape: tuple[int, ...]) -> None:
    x = picture(shape)
    for n_max in range(STEPS + 1):
        out = flowedit(curved, x, GRID, 0.7, 0.7, noise(), n_max=n_max)
        assert torch.equal(out, x)


@pytest.mark.parametrize("shape", SHAPES)
def test_without_steps_nothing_happens(shape: tuple[int, ...]) -> None:
    x = picture(shape)
    assert torch.equal(flowedit(curved, x, GRID, 0.1, 0.9, noise(), n_max=0), x)


@pytest.mark.parametrize("n_max", [1, 5, STEPS])
def test_a_constant_difference_moves_by_the_time_that_is_left(n_max: int) -> None:
    x = picture((2, 4, 1, 6, 5))
    c = picture((1, 4, 1, 1, 1), seed=7)

    def velocity(x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        return torch.cos(t).reshape(-1, 1, 1, 1, 1) + text * torch.ones_like(x)

    out = flowedit(velocity, x, GRID, 0 * c, c, noise(), n_max=n_max)
    t_start = GRID[STEPS - n_max]
    assert torch.allclose(out, x - c * t_start, atol=1e-5)


def test_a_linear_field_in_closed_form() -> None:
    """v = a x + b: the noise cancels, d' = d + (t' - t)(a d + b_tgt - b_src)."""
    a, b_src, b_tgt, n_max = 0.8, -0.3, 1.1, 9
    x = picture((2, 8)).double()

    def velocity(x: Tensor, t: Tensor, b: float) -> Tensor:
        return a * x + b

    out = flowedit(velocity, x, GRID.double(), b_src, b_tgt, noise(), n_max=n_max)
    steps = GRID.double()[STEPS - n_max :].diff()
    wanted = (b_tgt - b_src) / a * (torch.prod(1 + a * steps) - 1)
    assert torch.allclose(out - x, wanted.expand_as(x), atol=1e-5)


def test_left_out_steps_are_not_evaluated() -> None:
    seen: list[tuple[float, str]] = []

    def velocity(x: Tensor, t: Tensor, text: str) -> Tensor:
        seen.append((round(t[0].item(), 6), text))
        assert t.shape == (len(x),)
        return torch.zeros_like(x)

    flowedit(velocity, picture((2, 3)), GRID, "src", "tgt", noise(), n_max=5)
    times = [round(t, 6) for t in GRID.tolist()]
    assert seen == [(times[i], text) for i in range(7, 12) for text in ("tgt", "src")]


def test_noise_is_drawn_anew_for_every_step() -> None:
    seen: list[Tensor] = []

    def velocity(x: Tensor, t: Tensor, text: str) -> Tensor:
        if text == "src":
            seen.append((x - (1 - t[0]) * source) / t[0])
        return torch.zeros_like(x)

    source = picture((1, 64))
    flowedit(velocity, source, GRID, "src", "tgt", noise(), n_max=3)
    assert len(seen) == 3
    alike = torch.corrcoef(torch.cat(seen)).fill_diagonal_(0)
    assert alike.abs().max() < 0.5


@pytest.mark.parametrize("n_max", [STEPS + 1, -1])
def test_impossible_settings_are_refused(n_max: int) -> None:
    with pytest.raises(ValueError, match="wanted 0 to 12"):
        flowedit(curved, picture((1, 2)), GRID, 0, 1, noise(), n_max=n_max)


def test_half_precision_goes_in_and_comes_out() -> None:
    x = picture((2, 8)).bfloat16()
    kinds = set()

    def velocity(x: Tensor, t: Tensor, text: float) -> Tensor:
        kinds.add(x.dtype)
        return x + text

    out = flowedit(velocity, x, GRID, 0.0, 1.0, noise(), n_max=6)
    assert kinds == {torch.bfloat16}
    assert out.dtype == torch.bfloat16
    assert torch.equal(flowedit(velocity, x, GRID, 1.0, 1.0, noise(), n_max=6), x)


def test_a_real_flux_edits_and_keeps(tiny_base: Path) -> None:
    """Through a backbone; guidance of its own for either side rides with the text."""
    flux, x = tiny_flux.load(tiny_base), tiny_flux.latents(1)

    def velocity(x: Tensor, t: Tensor, said: tuple[dict[str, Tensor], float]) -> Tensor:
        return flux.velocity(x, t, said[0], guidance=said[1])

    src, tgt = (tiny_flux.text(2), 1.5), (tiny_flux.text(3), 5.5)
    edit = partial(flowedit, velocity, x, time_grid(4), n_max=3)
    assert torch.equal(edit(src=src, tgt=src, generator=noise()), x)
    assert not torch.allclose(edit(src=src, tgt=tgt, generator=noise()), x, atol=1e-3)
