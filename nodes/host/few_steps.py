"""Few-step sampling with renoising as ComfyUI's SAMPLER: the trainer's own loop and noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count, islice
from typing import Any

from comfy.samplers import KSAMPLER
from comfy_extras.nodes_custom_sampler import Noise_RandomNoise
from torch import Tensor

from ...byg_train.core.flow import few_steps, noises
from .guard import NEAR


def start_noise(seed: int) -> Noise_RandomNoise:
    """The NOISE of a seed: what `noises` draws first."""
    return Noise_RandomNoise(seed)


def renoise(grid: Tensor, seed: int) -> KSAMPLER:
    """The SAMPLER that guesses the end, noises it anew with the next noise of a seed, and so on.

    One sampler may serve both networks of a pair: the part that begins at a later time of the grid
    goes on with the noise that belongs there. ComfyUI's own `lcm` begins anew in every part.

    Args:
        grid: (n + 1,) falling times of the whole schedule.
        seed: of the NOISE, which is the first one of its noises.
    """
    return KSAMPLER(partial(_sample, grid=grid, seed=seed))


def _sample(
    model: Callable[..., Tensor],
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
    *,
    grid: Tensor,
    seed: int,
) -> Tensor:
    """A sampler function of ComfyUI: latents x at sigmas[0] -> latents at sigmas[-1]."""
    before = int((grid > float(sigmas[0]) + NEAR).sum())
    calls = count()

    def predict(y: Tensor, t: Tensor) -> Tensor:
        x_hat = model(y, t, **(extra_args or {}))
        if callback is not None:
            i = next(calls)
            at = {"sigma": sigmas[i], "sigma_hat": sigmas[i]}
            callback({"x": y, "i": i, "denoised": x_hat, **at})
        return x_hat

    return few_steps(predict, x, sigmas, islice(noises(x, seed), 1 + before, None))
