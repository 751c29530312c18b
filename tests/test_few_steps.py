"""Few-step sampling and distribution matching, against closed forms and toys with known ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import tiny_flux
import torch
from PIL import ImageChops
from torch import Tensor, nn

from byg_train.config import build_config
from byg_train.core.flow import few_steps, noised, noises, one_step
from byg_train.core.losses import distribution_matching_loss, velocity_mse
from byg_train.core.schedule import time_grid
from byg_train.editing.editor import Editor
from byg_train.models.configured_info import configured_info
from byg_train.models.lora_file import LoraInfo
from byg_train.models.sampler import Sampling, sampling_grid
from byg_train.training.validation import Validator


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---------------------------------------------------------------- sampling


def test_noise_is_guessed_and_noised_in_turn() -> None:
    """By hand: x_hat at every time, then the next time's mixture with noise of its own."""
    eps, field = gaussian(2, 3, 4), lambda y, t: y * t.view(-1, 1, 1) + 1
    grid = time_grid(3, 5.0).double()
    done: list[tuple[int, int]] = []
    found = few_steps(
        lambda y, t: one_step(y, field(y, t), t),
        eps,
        grid,
        islice(noises(eps, 4), 1, None),
        lambda *at: done.append(at),
    )
    g = torch.Generator().manual_seed(4)
    torch.randn(2, 3, 4, generator=g)
    y = eps
    for i in range(3):
        x_hat = y - grid[i] * field(y, grid[i].expand(2))
        if i < 2:
            y = (1 - grid[i + 1]) * x_hat + grid[i + 1] * torch.randn(2, 3, 4, generator=g).double()
    torch.testing.assert_close(found, x_hat)
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_it_may_end_before_data_as_a_first_sampler_does() -> None:
    eps, grid = gaussian(1, 5), torch.tensor([1.0, 0.6], dtype=torch.float64)
    end = few_steps(lambda y, t: y * 0 + 2, eps, grid, iter([torch.full_like(eps, 10)]))
    torch.testing.assert_close(end, torch.full_like(eps, 0.4 * 2 + 0.6 * 10))


def test_the_noise_of_a_seed_is_the_same_with_and_without_an_axis_of_frames() -> None:
    clip, picture = torch.zeros(2, 4, 1, 6, 6), torch.zeros(2, 4, 6, 6)
    for a, b in islice(zip(noises(clip, 7), noises(picture, 7), strict=True), 3):
        assert torch.equal(a[:, :, 0], b)
    first, second = islice(noises(clip, 7), 2)
    assert not torch.allclose(first, second)


def test_gradients_pass_through_every_evaluation() -> None:
    """d x_0 / d w of two evaluations with one weight, by the chain rule."""
    w, eps, fresh = torch.tensor(0.3, requires_grad=True), torch.tensor([[2.0]]), torch.ones(1, 1)
    grid = torch.tensor([1.0, 0.5, 0.0])
    x_0 = few_steps(lambda y, t: w * y, eps, grid, iter([fresh]))
    (found,) = torch.autograd.grad(x_0.sum(), w)
    # x_0 = w (w eps / 2 + fresh / 2)
    torch.testing.assert_close(found, w.detach() * eps.item() + 0.5)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_straight_flow_to_a_point_is_exact(steps: int) -> None:
    """Where every evaluation knows the end, what is noised anew leads there as well."""
    eps, x = gaussian(2, 3, 1, 4, 4), gaussian(2, 3, 1, 4, 4, seed=1)
    field = lambda y, t: (y - x) / t.view(-1, 1, 1, 1, 1)  # noqa: E731
    done = Sampling(steps, 3.0, "renoise").solve(field, eps, seed=3)
    torch.testing.assert_close(done, x)


def test_few_steps_of_an_exact_denoiser_find_the_mean() -> None:
    """N(m, s^2): x_hat is E[x | y], so the end is the conditional mean along the chain."""
    eps, m = gaussian(4096, 1, 1, 1, 1), 1.5
    end = Sampling(4, 1.0, "renoise").solve(
        lambda y, t: (y - m) / t.view(-1, 1, 1, 1, 1), eps, seed=1
    )
    assert (end - m).abs().max() < 1e-6


# ---------------------------------------------------------------- the Editor and the file


SETTINGS = {"sample": {"steps": 4, "shift": 3.0, "sampler": "renoise"}, "lora": {"rank": 4}}


def editor(base: Path, **changes: object) -> Editor:
    backbone = tiny_flux.load(base)
    bank = tiny_flux.make_bank(backbone)
    tiny_flux.randomise(bank)
    tables = {"model": backbone.config.model_dump(exclude_none=True), **SETTINGS}
    return Editor(backbone, bank, replace(configured_info(build_config(tables), 8), **changes))


def test_the_file_says_how_it_is_sampled_and_the_editor_obeys(tiny_base: Path) -> None:
    ours, x = editor(tiny_base), tiny_flux.latents(7)
    said = LoraInfo.from_metadata(ours.info.to_metadata())
    assert (said.sampler, said.sample_steps, said.sample_shift) == ("renoise", 4, 3.0)
    assert Sampling.of(said) == ours.sampling
    found = ours.sample(x, ["paint it blue"] * 2, x, seed=5)

    text = ours.backbone.encode_text(["paint it blue"] * 2)
    noise, grid = noises(x, 5), sampling_grid(4, 3.0, x)
    y = next(noise)
    with torch.no_grad():
        for t, t_next in zip(grid[:-1], grid[1:], strict=True):
            v = ours.backbone.velocity(y, t.expand(2), text, x, guidance=2.5)
            x_hat = y - t * v
            y = noised(x_hat, next(noise), t_next.expand(2)) if t_next else x_hat
    torch.testing.assert_close(found, x_hat)
    assert torch.equal(found, ours.sample(x, ["paint it blue"] * 2, x, seed=5))
    euler = editor(tiny_base, sampler="euler").sample(x, ["paint it blue"] * 2, x, seed=5)
    assert not torch.allclose(found, euler, atol=1e-3)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_show_of_held_out_items_what_one_shows(processes: int, tiny_base: Path) -> None:
    """An item is noised anew by noise of its own, whoever samples it; a third has no item."""
    batch, config = tiny_flux.edit_batch(), build_config(SETTINGS)
    held = Validator(editor(tiny_base), batch, ["paint it"] * 2, config)
    alone, parts = held._look(lambda: None), []
    for rank in range(processes):
        held.mine = slice(rank, None, processes)
        parts += held._look(lambda: None)
    assert len(alone) == len(parts) == 2
    for one, other in zip(alone, parts, strict=True):
        assert (other.edit, other.back) == pytest.approx((one.edit, one.back), rel=1e-5)
        for column, seen in zip(one.columns, other.columns, strict=True):
            assert ImageChops.difference(column, seen).getextrema() <= ((0, 1),) * 3


# ---------------------------------------------------------------- distribution matching


def test_a_step_on_x_leads_to_the_real_estimate_and_away_from_the_fake() -> None:
    x, real, fake = (gaussian(3, 2, 4, seed=i) for i in range(3))
    x.requires_grad_()
    distribution_matching_loss(x, real, fake).sum().backward()
    moved = -x.grad.flatten(1)
    assert ((moved * (real - fake).flatten(1)).sum(1) > 0).all()

    def nearer(to: Tensor, rate: float = 1e-3) -> Tensor:
        before, after = (x.detach() - to), (x.detach() - rate * x.grad - to)
        return before.flatten(1).norm(dim=1) - after.flatten(1).norm(dim=1)

    # From where both estimates lie on one line with x, nearer means nearer.
    for where, to_real in ((0.0, True), (1.0, False)):
        x = (real + where * (fake - real) + 0.5 * (fake - real)).detach().requires_grad_()
        distribution_matching_loss(x, real, fake).sum().backward()
        assert (nearer(real) > 0).all()
        assert (nearer(fake) < 0).all() or not to_real


def test_its_size_is_measured_against_the_distance_to_the_real() -> None:
    """g = (fake - real) / mean |x - real|, and the loss is half the mean of its square."""
    x = torch.zeros(1, 4, requires_grad=True)
    real, fake = torch.full((1, 4), 2.0), torch.tensor([[1.0, 2.0, 3.0, 2.0]])
    loss = distribution_matching_loss(x, real, fake)
    loss.sum().backward()
    g = torch.tensor([[-0.5, 0.0, 0.5, 0.0]])
    torch.testing.assert_close(x.grad, g / 4)
    torch.testing.assert_close(loss.detach(), torch.tensor([0.5 * 0.125]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_an_estimate_that_is_no_number_asks_for_nothing(bad: float) -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    fake = torch.ones(2, 3)
    fake[0, 1] = bad
    distribution_matching_loss(x, torch.ones(2, 3) / 2, fake).sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad[0, 1] == 0
    assert x.grad[1].abs().min() > 0 and x.grad[0, 0] > 0


def test_equal_estimates_leave_x_alone() -> None:
    x, real = gaussian(2, 5).requires_grad_(), gaussian(2, 5, seed=1)
    loss = distribution_matching_loss(x, real, real.clone())
    loss.sum().backward()
    assert not x.grad.any() and not loss.any()


class Linear(nn.Module):
    """v = a(t) y + b(t) of a Gaussian N(m, s^2), with m and s to be learned."""

    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean, dtype=torch.float64))
        self.log = nn.Parameter(torch.tensor(deviation, dtype=torch.float64).log())

    def forward(self, y: Tensor, t: Tensor) -> Tensor:
        """E[eps - x | y_t], in closed form."""
        t, variance = t.view(-1, 1), (2 * self.log).exp()
        both = (1 - t) ** 2 * variance + t**2
        off = (y - (1 - t) * self.mean) / both
        return t * off - (self.mean + (1 - t) * variance * off)


def student(eps: Tensor, weights: Tensor) -> Tensor:
    """One evaluation at t = 1: x = m + s eps."""
    return weights[0] + weights[1] * eps


def draws(number: int, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """eps of the student, t and eps of the score; so many of each."""
    g = torch.Generator().manual_seed(seed)
    while True:
        a, b = (torch.randn(number, 8, generator=g, dtype=torch.float64) for _ in range(2))
        yield a, torch.rand(number, generator=g, dtype=torch.float64) * 0.96 + 0.02, b


def fit(fake: Linear, optimizer: torch.optim.Adam, weights: Tensor, work: Iterator) -> None:
    """The auxiliary's loss: flow matching on what the student draws."""
    for eps, t, noise in work:
        x = student(eps, weights).detach()
        loss = velocity_mse(fake(noised(x, noise, t), t), noise - x).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_the_auxiliary_fits_what_the_student_draws() -> None:
    fake, weights = Linear(0.0, 1.0), torch.tensor([-1.2, 0.4], dtype=torch.float64)
    fit(fake, torch.optim.Adam(fake.parameters(), lr=0.03), weights, islice(draws(64, 0), 400))
    assert fake.mean.item() == pytest.approx(-1.2, abs=0.03)
    assert fake.log.exp().item() == pytest.approx(0.4, abs=0.03)


def test_the_student_converges_to_the_teacher() -> None:
    """Two Gaussians: five steps of the auxiliary, one of the student, and both end at (2, 0.5)."""
    real, fake = Linear(2.0, 0.5).requires_grad_(False), Linear(0.0, 1.0)
    weights = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    mine = torch.optim.Adam([weights], betas=(0.0, 0.9))
    theirs = torch.optim.Adam(fake.parameters(), lr=0.02, betas=(0.0, 0.9))
    source, steps = draws(64, 1), 150
    for step in range(steps):
        mine.param_groups[0]["lr"] = 0.04 * (1 - step / steps)
        fit(fake, theirs, weights, islice(source, 5))
        eps, t, noise = next(source)
        x = student(eps, weights)
        with torch.no_grad():
            x_t = noised(x, noise, t)
            x_real, x_fake = (one_step(x_t, net(x_t, t), t) for net in (real, fake))
        mine.zero_grad()
        distribution_matching_loss(x, x_real, x_fake).mean().backward()
        mine.step()
    mean, deviation = weights.tolist()
    assert mean == pytest.approx(2.0, abs=0.05)
    assert abs(deviation) == pytest.approx(0.5, abs=0.05)
