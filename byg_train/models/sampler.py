"""From noise to an edit: the solver, its times, and classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from torch import Tensor

from ..core.flow import Field, few_steps, integrate, noises, one_step
from ..core.schedule import time_grid
from ..family import family_of

if TYPE_CHECKING:
    from ..core.roles import Velocity
    from .backbone import Text
    from .lora_file import LoraInfo

# The steps of Wan's and diffusers' discrete time.
DISCRETE = 1000
Each = Callable[[int, int], None]


@dataclass(frozen=True)
class Sampling:
    """How an edit is sampled.

    `cfg` is the weight of classifier-free guidance against the text `negative`, 1 = none; with two
    experts it is that of high noise, and `cfg_low` (None: the same) that of low noise.
    """

    steps: int
    shift: float | str  # a number, or the family whose own one follows the size
    sampler: str = "euler"  # or "unipc", or "renoise": that of few-step editors
    cfg: float = 1.0
    cfg_low: float | None = None
    negative: str = ""
    guidance: float | None = None  # the value of the guidance embedding; None: the model has none

    @classmethod
    def of(cls, info: LoraInfo) -> Sampling:
        """Read the sampling settings from a LoRA's metadata."""
        return cls(
            steps=info.sample_steps,
            shift=info.sample_shift,
            sampler=info.sampler or "euler",
            cfg=1.0 if info.cfg is None else info.cfg,
            cfg_low=info.cfg_low,
            negative=info.negative or "",
            guidance=info.guidance_sample,
        )

    @property
    def guided(self) -> bool:
        """Whether the negative text is ever asked."""
        return self.cfg != 1 or self.cfg_low not in (None, 1)

    def solve(
        self,
        velocity: Field,
        eps: Tensor,
        each: Each = lambda done, of: None,
        seed: int = 0,
        fresh: Iterator[Tensor] | None = None,
    ) -> Tensor:
        """y_0 like eps (B, C, F, h, w) at t = 1; `each(done, of)` follows every evaluation.

        `seed` is the one of eps: what is noised anew goes on from it, or is `fresh`.
        """
        if self.sampler == "unipc":
            return unipc(velocity, eps, self.steps, sampling_shift(self.shift, eps), each)
        grid = sampling_grid(self.steps, self.shift, eps)
        if self.sampler == "renoise":
            fresh = fresh or islice(noises(eps, seed), 1, None)
            grid = grid.to(eps.dtype)
            return few_steps(lambda y, t: one_step(y, velocity(y, t), t), eps, grid, fresh, each)
        return integrate(velocity, eps, grid, each)

    def guided_field(
        self,
        velocity: Velocity,
        text: Text,
        source: Tensor | None,
        negative: Text | None = None,
        boundary: float = 0.0,
    ) -> Field:
        """The guided field of an editor.

        Args:
            text: the instruction, and `negative` the text to be kept away from; the source stands
                beside both. `negative` may be None where `guided` is false.
            boundary: below this time `cfg_low` holds.
        """

        def at(y: Tensor, t: Tensor) -> Tensor:
            low = self.cfg_low is not None and bool((t < boundary).all())
            w = self.cfg_low if low else self.cfg
            return guided(partial(velocity, y, t, source=source), text, negative, w)

        return at


def guided(velocity: Callable[[Text], Tensor], text: Text, negative: Text, w: float) -> Tensor:
    """v_neg + w (v - v_neg), classifier-free guidance; v alone, and one evaluation, at w = 1."""
    v = velocity(text)
    if w == 1:
        return v
    v_neg = velocity(negative)
    return v_neg + w * (v - v_neg)


def sampling_shift(shift: float | str, latents: Tensor) -> float:
    """The number behind a shift, for latents (B, C, F, h, w)."""
    if not isinstance(shift, str):
        return float(shift)
    _, _, frames, height, width = latents.shape
    return family_of(shift).size_shift(frames * height * width // 4)


def sampling_grid(steps: int, shift: float | str, latents: Tensor) -> Tensor:
    """Euler's times for latents (B, C, F, h, w)."""
    return time_grid(steps, sampling_shift(shift, latents))


def unipc(
    velocity: Field, eps: Tensor, steps: int, shift: float, each: Each = lambda done, of: None
) -> Tensor:
    """UniPC of second order (Zhao et al. 2023) as Wan2.2 ships it and diffusers has it.

    Its times are diffusers' own, from 1 to shift / (shift + 999); the network is asked at them
    rounded down to a thousandth, as in Wan, whose timesteps are whole numbers.
    """
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler(
        num_train_timesteps=DISCRETE,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=shift,
    )
    scheduler.set_timesteps(steps)  # on the CPU
    scheduler.set_begin_index(0)  # else it looks for the step by its time, which may occur twice
    y = eps
    for i, timestep in enumerate(scheduler.timesteps):
        t = (timestep / DISCRETE).to(eps.dtype).expand(len(y))
        y = scheduler.step(velocity(y, t), timestep, y, return_dict=False)[0]
        each(i + 1, steps)
    return y
