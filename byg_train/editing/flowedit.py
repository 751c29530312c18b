"""FlowEdit, the zero-shot baseline: along the difference of two velocities.

Kulikov et al. 2025, arXiv 2412.08629, Algorithm 1. Latents are (B, ...), t is 1 at noise; both
texts are captions, not instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from ..core.flow import noised
from ..family import family_of
from ..models.backbone import Text
from ..models.sampler import Each, guided, sampling_grid
from .editor import Editor

T = TypeVar("T")


class FlowEditSettings(NamedTuple):
    """FlowEdit's numbers; the defaults are those published for FLUX.1-dev."""

    steps: int = 28
    n_max: int = 24
    guidance_src: float = 1.5  # of the guidance embedding, or classifier-free
    guidance_tgt: float = 5.5

    @classmethod
    def of_family(cls, name: str, steps: int | None = None) -> FlowEditSettings:
        """Return a family's own settings; with other `steps` the same share of them counts."""
        own = cls(*family_of(name).flowedit or ())
        if steps is None:
            return own
        return own._replace(steps=steps, n_max=round(steps * own.n_max / own.steps))


PUBLISHED = FlowEditSettings()


def edit_by_flowedit(
    editor: Editor,
    x: Tensor,
    src: Sequence[str],
    tgt: Sequence[str],
    *,
    seed: int = 0,
    settings: FlowEditSettings = PUBLISHED,
    each: Each = lambda done, of: None,
) -> Tensor:
    """FlowEdit on an editor's base, from captions to captions; latents like x (B, C, F, h, w).

    Each side is guided: by the base's embedding, or where there is none against the negative text.
    `each(done, of)` follows every step.
    """
    has_embedding = editor.sampling.guidance is not None
    negative = [] if has_embedding else [editor.sampling.negative] * len(x)
    editor.learn((*src, *tgt, *negative))
    nothing = editor.embedded(negative, x) if negative else {}

    def velocity(y: Tensor, t: Tensor, side: tuple[Text, float]) -> Tensor:
        text, w = side
        if has_embedding:
            return editor.backbone.velocity(y, t, text, guidance=w)
        return guided(partial(editor.backbone.velocity, y, t), text, nothing, w)

    with editor.using("base"):
        return flowedit(
            velocity,
            x,
            sampling_grid(settings.steps, editor.sampling.shift, x).to(x.dtype),
            (editor.embedded(src, x), settings.guidance_src),
            (editor.embedded(tgt, x), settings.guidance_tgt),
            torch.Generator().manual_seed(seed),
            n_max=settings.n_max,
            each=each,
        )


@torch.no_grad()
def flowedit(
    velocity: Callable[[Tensor, Tensor, T], Tensor],
    x: Tensor,
    grid: Tensor,
    src: T,
    tgt: T,
    generator: torch.Generator,
    *,
    n_max: int,
    each: Callable[[int, int], None] = lambda done, of: None,
) -> Tensor:
    """Edit x from what `src` says to what `tgt` says; returns the result, like x.

    Published settings: FLUX.1-dev 28 steps, n_max 24, guidance 1.5 and 5.5; SD3 50 steps, n_max 33,
    guidance 3.5 and 13.5; either with one noise a step (n_avg) and no plain sampling at the end
    (n_min 0). n_max 0, or texts that are the same, give x itself, to the bit.

    Args:
        velocity: the text-to-image field, (x_t, t (B,), text) -> v.
        x: the clean source (B, ...).
        grid: (n + 1,) times from 1 down to 0, as `schedule.time_grid` makes them.
        src: what `velocity` takes as text, with the guidance of this side if there is one.
        tgt: likewise for the result.
        generator: draws the noise, on its own device.
        n_max: of n steps, how many count: the first n - n_max are left out.
        each: called with (done, of) after every step.
    """
    n = len(grid) - 1
    if not 0 <= n_max <= n:
        raise ValueError(f"{n_max=}; wanted 0 to {n}")

    def field(y: Tensor, t: Tensor, text: T) -> Tensor:
        return velocity(y.to(x), t, text).float()

    move = torch.zeros_like(x, dtype=torch.float32)  # the paper's Z_FE - X
    for i in range(n - n_max, n):
        t = grid[i].expand(len(x))
        eps = torch.randn(x.shape, generator=generator, device=generator.device)
        z_src = noised(x.float(), eps.to(x.device), t)
        # In this order, for Z_tar = Z_src exactly as long as nothing has moved.
        v_tgt, v_src = field(z_src + move, t, tgt), field(z_src, t, src)
        move += (grid[i + 1] - grid[i]) * (v_tgt - v_src)
        each(i + 1 - (n - n_max), n_max)
    return (x + move).to(x)
