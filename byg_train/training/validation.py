"""What held-out items show: pictures or films side by side, and the measures behind the alarms."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..config import TrainConfig
from ..core.flow import noised, one_step, rollout
from ..core.losses import velocity_mse
from ..core.roles import EditBatch, Velocity
from ..core.schedule import middles_of_t, time_grid
from ..family import family_of
from ..media.clip_grid import frame_strip, side_by_side
from ..media.grid import labelled_grid
from ..media.pixels import to_frames, to_picture
from ..media.writer import write_clip, write_picture
from ..models.backbone import Backbone, Text
from ..models.sampler import Sampling
from ..objectives.objective import Advice

# The one-step column is predicted from here: late enough to be guided, early enough to be a guess.
ONE_STEP_T = 0.75

# Shares of the source's variance. Below the first an edit is no edit; above the second the way back
# does not find the source again. In good runs of the demo edits end at 0.55 to 0.67 (copies: 0.004)
# and the way back at 0.20 to 0.23; in the bad run that `BLIND` speaks of, at 0.54 to 0.56.
COLLAPSE, DRIFT = 0.02, 0.5
# Above this `blindness` the source is being lost. Measured on the tiny world's held-out items: 0.01
# after the warm-up, 0.18 to 0.27 over good runs of the demo (three seeds, 100 to 400 steps); 0.60
# to 0.66 over 100 steps without warm-up, cycle and identity, whose edits keep the ground and lose
# the subject; 1 for an editor that sees no source. The identity loss itself tells them apart badly
# (0.35 to 0.43 in good runs, 0.58 to 0.67 in the bad one): who edits well overdoes an edit already
# made.
BLIND = 0.4
# The side of a clip beside others, in pixels: of full size a look's clips would fill gigabytes.
CELL = 256


class Film(NamedTuple):
    """Held-out clips side by side: a row for each item, frames of at most CELL pixels."""

    clips: list[list[np.ndarray]]  # of each item: for each column (F, h, w, 3), uint8
    columns: list[str]
    captions: list[str]
    fps: Fraction

    def frames(self) -> Iterator[np.ndarray]:
        """Labelled, (H, W, 3)."""
        moments = (
            [[Image.fromarray(clip[i]) for clip in row] for row in self.clips]
            for i in range(len(self.clips[0][0]))
        )
        return side_by_side(moments, self.columns, self.captions, CELL)

    def strip(self) -> Image.Image:
        """The same few moments of every clip, one clip below the other."""
        clips = [clip for row in self.clips for clip in row]
        names = [f"edit: {caption}" for caption in self.captions]
        labels = [name if c == "edit" else c for name in names for c in self.columns]
        return frame_strip(clips, labels, float(self.fps))


class Look(NamedTuple):
    """One look at the held-out items. Distances are shares of the sources' variance."""

    grid: Image.Image  # of clips: their strip
    edit_distance: float  # between source and edit
    reconstruction: float  # between source and edited back
    identity: float  # the worst expert's velocity error of the identity task, at fixed draws
    blindness: float  # that, as a share of the error with a wrong source; 1: the source is ignored
    film: Film | None = None  # of clips

    def save(self, folder: Path, step: int) -> None:
        """Write step-000500.png, and of clips step-000500.mp4."""
        write_picture(folder / f"step-{step:06d}.png", self.grid)
        if self.film is not None:
            write_clip(folder / f"step-{step:06d}.mp4", self.film.frames(), self.film.fps)

    def warnings(self, advice: Advice) -> list[str]:
        """Sentences about identity collapse, drift and a forgotten source, with what to do."""
        found = []
        if self.edit_distance < COLLAPSE:
            found.append(
                f"identity collapse: edits differ from their sources by {self.edit_distance:.3f} "
                f"of the variance (below {COLLAPSE}); {advice.collapse}"
            )
        if self.reconstruction > DRIFT:
            found.append(
                f"drift: editing back misses the source by {self.reconstruction:.2f} of its "
                f"variance (above {DRIFT}); {advice.drift}"
            )
        if self.blindness > BLIND:
            found.append(
                f"the source is being lost: the identity loss on held-out items is "
                f"{self.identity:.2f}, {self.blindness:.2f} of that with the source upside down "
                f"(above {BLIND}); {advice.blindness}"
            )
        return found


class HeldOut:
    """Held-out items with noise and times fixed, so that looks compare over a run."""

    def __init__(
        self,
        batch: EditBatch,
        captions: list[str],
        backbone: Backbone,
        config: TrainConfig,
        negative: Text | None = None,
    ) -> None:
        """`negative` is the embedding of `sample.negative`, where guidance asks for it."""
        self.batch, self.captions, self.backbone, self.config = batch, captions, backbone, config
        self.negative = negative
        self.is_video = family_of(config.model.family).is_video
        c = config.sample
        self.sampling = Sampling(c.steps, c.shift, c.sampler, c.cfg, c.cfg_low, c.negative)
        generator = torch.Generator().manual_seed(config.seed + 7)
        x = batch.x
        self.eps = torch.randn(x.shape, generator=generator).to(x)
        # Over all of a span; logit-normal draws leave out much of it, and nothing is trained there.
        times = config.time
        shift = times.shift if times.distribution == "logit_normal" else 1.0
        self.t = {
            expert: middles_of_t(span, len(x), times.distribution, shift).to(x)
            for expert, span in backbone.spans.items()
            if config.train.trains(expert)
        }

    def identity(self, edit: Velocity, expert: str, source: Tensor | None = None) -> float:
        """The identity loss at the fixed draws of an expert; `source`: instead of the right one."""
        x, eps, t = self.batch.x, self.eps, self.t[expert]
        with torch.no_grad():
            seen = x if source is None else source
            v = self._in_turn(edit)(noised(x, eps, t), t, self.batch.c_inv, seen)
        return velocity_mse(v, eps - x).mean().item()

    def blindness(self, edit: Velocity, expert: str, identity: float) -> float:
        """An expert's identity loss as a share of that with a wrong source: from 0 to about 1.

        The wrong one is the right one upside down: its colours, with nothing in its place.
        """
        wrong = self.identity(edit, expert, self.batch.x.flip(-2, -1))
        return identity / max(wrong, 1e-12)

    def edit(self, edit: Velocity, source: Tensor, text: Text) -> Tensor:
        """Sample an edit of `source` from the fixed noise, with the run's sampler."""
        _, boundary = self.backbone.spans.get("low", (0.0, 0.0))
        field = self.sampling.field(edit, text, source, self.negative, boundary)
        with torch.no_grad():
            return self.sampling.solve(field, self.eps)

    def look(self, edit: Velocity, sample: Velocity) -> Look:
        """Sample, edit back, measure. `edit` is as trained, `sample` with the sampling guidance."""
        x, c, c_inv = self.batch[:3]
        edit, sample = self._in_turn(edit), self._in_turn(sample)
        y_0 = self.edit(sample, x, c)
        x_back = self.edit(sample, y_0, c_inv)
        t = torch.full((len(x),), ONE_STEP_T).to(x)
        grid = time_grid(self.config.rollout.steps, self.config.rollout.shift)
        with torch.no_grad():
            y_t, _ = rollout(lambda y, s: edit(y, s, c, x), self.eps, grid, t)
            y_hat = one_step(y_t, edit(y_t, t, c, x), t)
        columns = {"source": x, "edit": y_0, "edited back": x_back, "one-step": y_hat}
        film = self._film(columns) if self.is_video else None
        variance = x.var().item()
        identity = {expert: self.identity(edit, expert) for expert in self.t}
        return Look(
            self._grid(columns) if film is None else film.strip(),
            (y_0 - x).square().mean().item() / variance,
            (x_back - x).square().mean().item() / variance,
            max(identity.values()),
            max(self.blindness(edit, expert, loss) for expert, loss in identity.items()),
            film,
        )

    def _in_turn(self, velocity: Velocity) -> Velocity:
        return one_by_one(velocity) if self.is_video else velocity

    def _grid(self, columns: dict[str, Tensor]) -> Image.Image:
        # One by one: decoding takes more memory than all the rest of a look.
        rows = [
            [to_picture(self.backbone.decode_latents(z[i : i + 1])[0]) for z in columns.values()]
            for i in range(len(self.eps))
        ]
        return labelled_grid(rows, list(columns), self.captions)

    def _film(self, columns: dict[str, Tensor]) -> Film:
        """Likewise one by one; of each clip only small frames are kept."""
        clips = [
            [_small(self.backbone.decode_latents(z[i : i + 1])[0]) for z in columns.values()]
            for i in range(len(self.eps))
        ]
        fps = Fraction(self.config.data.fps).limit_denominator(1001)
        return Film(clips, list(columns), self.captions, fps)


def one_by_one(velocity: Velocity) -> Velocity:
    """The same, asked for one clip at a time: a batch of them would need a batch's memory."""

    def alone(x_t: Tensor, t: Tensor, text: Text, source: Tensor | None = None) -> Tensor:
        parts = [slice(i, i + 1) for i in range(len(x_t))]
        v = [
            velocity(
                x_t[one],
                t[one],
                {name: part[one] for name, part in text.items()},
                None if source is None else source[one],
            )
            for one in parts
        ]
        return torch.cat(v)

    return alone


def _small(pixels: Tensor) -> np.ndarray:
    """Pixels (3, F, H, W) in [-1, 1] -> (F, h, w, 3), uint8, of at most CELL pixels a side."""
    frames = [Image.fromarray(frame) for frame in to_frames(pixels)]
    for frame in frames:
        frame.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return np.stack([np.asarray(frame) for frame in frames])
