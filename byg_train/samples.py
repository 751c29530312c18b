"""What held-out items show: the picture grid, and the measures behind the alarms."""

from __future__ import annotations

from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from .backbones import Backbone, Text
from .config import TrainConfig
from .flow import integrate, noised, one_step, rollout
from .grid import labelled_grid
from .losses import velocity_mse
from .schedule import flux_shift, time_grid
from .step import EditBatch, Velocity

# The one-step column is predicted from here: late enough to be guided, early enough to be a guess.
ONE_STEP_T = 0.75

# Share of the source's variance. Below the first an edit is no edit; above the second the way back
# does not find the source again; above the third identity is forgotten.
COLLAPSE, DRIFT, FORGOTTEN = 0.02, 0.5, 0.15


class Look(NamedTuple):
    """One look at the held-out items. Distances are shares of the sources' variance."""

    grid: Image.Image
    edit_distance: float  # between source and edit
    reconstruction: float  # between source and edited back
    identity: float  # velocity error of the identity task at fixed noise and times

    def warnings(self) -> list[str]:
        """Sentences about identity collapse, drift and a forgotten source."""
        found = []
        if self.edit_distance < COLLAPSE:
            found.append(
                f"identity collapse: edits differ from their sources by {self.edit_distance:.3f} "
                f"of the variance (below {COLLAPSE}); raise method.lambda_prior or train longer"
            )
        if self.reconstruction > DRIFT:
            found.append(
                f"drift: editing back misses the source by {self.reconstruction:.2f} of its "
                f"variance (above {DRIFT}); lower method.lambda_prior or optimizer.lr"
            )
        if self.identity > FORGOTTEN:
            found.append(
                f"the source is being lost: identity loss {self.identity:.3f} on held-out items "
                f"(above {FORGOTTEN}); lengthen the warm-up or raise method.lambda_id"
            )
        return found


def sampling_grid(steps: int, shift: float | str, latents: Tensor) -> Tensor:
    """The sampler's times for latents (B, C, F, h, w)."""
    if shift == "flux":
        _, _, frames, height, width = latents.shape
        shift = flux_shift(frames * height * width // 4)
    return time_grid(steps, float(shift))


class HeldOut:
    """Held-out items with noise and times fixed, so that looks compare over a run."""

    def __init__(
        self, batch: EditBatch, captions: list[str], backbone: Backbone, config: TrainConfig
    ) -> None:
        self.batch, self.captions, self.backbone, self.config = batch, captions, backbone, config
        generator = torch.Generator().manual_seed(config.seed + 7)
        x = batch.x
        self.eps = torch.randn(x.shape, generator=generator).to(x)
        self.t = (torch.arange(len(x)) + 0.5).to(x) / len(x)

    def identity(self, edit: Velocity) -> float:
        """The identity loss at the fixed draws."""
        x, eps = self.batch.x, self.eps
        with torch.no_grad():
            v = edit(noised(x, eps, self.t), self.t, self.batch.c_inv, x)
        return velocity_mse(v, eps - x).mean().item()

    def edit(self, edit: Velocity, source: Tensor, text: Text) -> Tensor:
        """Sample an edit of `source` from the fixed noise, with the run's sampler."""
        grid = sampling_grid(self.config.sample.steps, self.config.sample.shift, source)
        with torch.no_grad():
            return integrate(lambda y, s: edit(y, s, text, source), self.eps, grid)

    def look(self, edit: Velocity, sample: Velocity) -> Look:
        """Sample, edit back, measure. `edit` is as trained, `sample` with the sampling guidance."""
        x, c, c_inv = self.batch[:3]
        y_0 = self.edit(sample, x, c)
        x_back = self.edit(sample, y_0, c_inv)
        t = torch.full_like(self.t, ONE_STEP_T)
        grid = time_grid(self.config.rollout.steps, self.config.rollout.shift)
        with torch.no_grad():
            y_t, _ = rollout(lambda y, s: edit(y, s, c, x), self.eps, grid, t)
            y_hat = one_step(y_t, edit(y_t, t, c, x), t)
        columns = {"source": x, "edit": y_0, "edited back": x_back, "one-step": y_hat}
        # One by one: decoding takes more memory than all the rest of a look.
        rows = [
            [to_pictures(self.backbone.decode_latents(z[i : i + 1]))[0] for z in columns.values()]
            for i in range(len(x))
        ]
        variance = x.var().item()
        return Look(
            labelled_grid(rows, list(columns), self.captions),
            (y_0 - x).square().mean().item() / variance,
            (x_back - x).square().mean().item() / variance,
            self.identity(edit),
        )


def to_pictures(pixels: Tensor) -> list[Image.Image]:
    """Pixels (B, 3, 1, H, W) in [-1, 1] -> B pictures."""
    frames = ((pixels[:, :, 0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
    return [Image.fromarray(f.permute(1, 2, 0).numpy()) for f in frames]
