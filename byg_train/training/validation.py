"""Validation: held-out items edited and edited back, side by side, and the measures of alarms."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean as mean
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..config import TrainConfig
from ..core.flow import noised, noises, one_step, rollout
from ..core.losses import velocity_mse
from ..core.roles import EditBatch, Text, rows
from ..core.schedule import middles_of_t, time_grid
from ..editing.editor import Editor
from ..family import family_of
from ..media.clip_grid import CELL, ClipComparison
from ..media.grid import labelled_grid
from ..media.pixels import to_frames, to_picture
from ..media.writer import write_clip, write_picture
from ..objectives.objective import Advice
from .processes import processes
from .source_watch import LOST, SourceWatch, alarm, kept

# The one-step column is predicted from here: late enough to be guided, early enough to be a guess.
ONE_STEP_T = 0.75
COLUMNS = ("source", "edit", "edited back", "one-step")

# Shares of the source's variance. Below the first an edit is no edit; above the second the way back
# does not find the source again. In good runs of the tiny world edits end at 0.51 to 0.67 (copies:
# 0.004) and the way back at 0.11 to 0.23; without warm-up, cycle and identity, at 0.54 to 0.56.
COLLAPSE, DRIFT = 0.02, 0.5


class ValidationReport(NamedTuple):
    """What held-out items show at one step. Distances are shares of the sources' variance."""

    grid: Image.Image  # of clips: their strip
    edit_distance: float  # between source and edit
    reconstruction: float  # between source and edited back
    identity: float  # the worst expert's velocity error of the identity task, at fixed draws
    source_lost: float  # by the worst expert: `SourceWatch.lost`
    clips: ClipComparison | None = None

    def save(self, folder: Path, step: int) -> None:
        """Write step-000500.png, and step-000500.mp4 where clips are trained on."""
        write_picture(folder / f"step-{step:06d}.png", self.grid)
        if self.clips is not None:
            write_clip(folder / f"step-{step:06d}.mp4", self.clips.frames(), self.clips.fps)

    def warnings(self, advice: Advice, tell_lost: bool = True) -> list[str]:
        """Sentences with what to do: on collapse, drift and, with `tell_lost`, a lost source."""
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
        if self.source_lost > LOST and tell_lost:
            found.append(alarm(self.source_lost, advice.lost))
        return found


class Seen(NamedTuple):
    """A held-out item, as far as a report needs it."""

    columns: list[Image.Image] | list[np.ndarray]  # pictures, or frames of clips (F, h, w, 3)
    edit: float  # mean squares: between source and edit
    back: float  # between source and edited back
    identity: dict[str, float]  # its loss, by expert


class Validator:
    """Held-out items with noise and times fixed, so that the reports of a run compare."""

    def __init__(
        self, editor: Editor, batch: EditBatch, captions: list[str], config: TrainConfig
    ) -> None:
        """`editor` samples with the weights that train; `captions` stand beside the items."""
        self.editor, self.batch, self.captions, self.config = editor, batch, captions, config
        self.processes = processes()
        # Where the base is cut among the processes, all must ask it for the same.
        rank, world = self.processes.rank, self.processes.world
        self.is_whole = world == 1 or config.model.placement == "sharded"
        self.mine = None if self.is_whole else slice(rank, None, world)
        self.is_video = family_of(config.model.family).is_video
        # As it is trained: with the guidance of training, where `editor` samples with its own.
        self.velocity = editor.in_turn(
            partial(editor.backbone.velocity, guidance=config.guidance.train)
        )
        self.watch = SourceWatch(editor, batch, config)
        self.seed, x = config.seed + 7, batch.x
        self.eps = next(noises(x, self.seed))
        # Over all of a span; logit-normal draws leave out much of it, and nothing is trained there.
        times = config.time
        shift = times.shift if times.distribution == "logit_normal" else 1.0
        self.t = {
            expert: middles_of_t(span, len(x), times.distribution, shift).to(x.dtype)
            for expert, span in editor.backbone.spans.items()
            if config.train.trains(expert)
        }

    def identity(self, expert: str) -> float:
        """The identity loss at the fixed draws of an expert."""
        mine = self._identity(expert).tolist()
        return mean(mine if self.is_whole else self.processes.gathered(mine))

    @torch.no_grad()
    def _identity(self, expert: str) -> Tensor:
        """Return the identity loss of every row of this process, (B,)."""
        x, eps, t = (rows(of, self.mine) for of in (self.batch.x, self.eps, self.t[expert]))
        if not len(x):
            return x.new_zeros(0)
        v = self.velocity(noised(x, eps, t), t, rows(self.batch.c_inv, self.mine), x)
        return velocity_mse(v, eps - x)

    @property
    def evaluations(self) -> int:
        """How often `validate` tells that it has come on."""
        steps = 2 * self.config.sample.steps + self.config.rollout.steps
        return steps + self.watch.evaluations

    def validate(self, each: Callable[[], None] = lambda: None) -> ValidationReport:
        """Sample, edit back, measure; `each` goes with every evaluation of it.

        Every process looks at its own items, and all get the report.
        """
        self.processes.meet()  # the main one may still write
        with self.processes.together():
            mine = self._look(each)
            lost = max(self.watch.lost(each).values())
        seen = mine if self.is_whole else self.processes.gathered(mine)
        variance = self.batch.x.var().item()
        columns = [f"source, {kept(lost)} kept", *COLUMNS[1:]]
        shown, clips = [one.columns for one in seen], None
        if self.is_video:
            fps = Fraction(self.config.data.fps).limit_denominator(1001)
            clips = ClipComparison(shown, columns, self.captions, fps)
        return ValidationReport(
            clips.strip() if clips else labelled_grid(shown, columns, self.captions),
            mean(s.edit for s in seen) / variance,
            mean(s.back for s in seen) / variance,
            max(mean(s.identity[expert] for s in seen) for expert in self.t),
            lost,
            clips,
        )

    def _look(self, each: Callable[[], None]) -> list[Seen]:
        """This process's items, edited and edited back."""
        x, eps, c, c_inv = (
            rows(of, self.mine) for of in (self.batch.x, self.eps, self.batch.c, self.batch.c_inv)
        )
        if not len(x):
            return []

        def solve(text: Text, source: Tensor) -> Tensor:
            """Noised anew as the whole batch in one process would be."""
            fresh = (rows(noise, self.mine) for noise in noises(self.batch.x, self.seed))
            after = islice(fresh, 1, None)
            return self.editor.solve(eps, text, source, each=lambda done, of: each(), fresh=after)

        y_0 = solve(c, x)
        back = solve(c_inv, y_0)
        columns = [x, y_0, back, self._one_step(x, eps, c, each)]
        identity = {expert: self._identity(expert) for expert in self.t}
        # One by one: decoding takes more memory than all the rest of a validation.
        return [
            Seen(
                [self._shown(column[i : i + 1]) for column in columns],
                (y_0[i] - x[i]).square().mean().item(),
                (back[i] - x[i]).square().mean().item(),
                {expert: losses[i].item() for expert, losses in identity.items()},
            )
            for i in range(len(x))
        ]

    @torch.no_grad()
    def _one_step(self, x: Tensor, eps: Tensor, c: Text, each: Callable[[], None]) -> Tensor:
        """y_hat from a point of the rollout, as training sees it."""

        def velocity(y: Tensor, s: Tensor) -> Tensor:
            v = self.velocity(y, s, c, x)
            each()
            return v

        t = torch.full((len(x),), ONE_STEP_T, dtype=x.dtype)
        grid = time_grid(self.config.rollout.steps, self.config.rollout.shift)
        y_t, _ = rollout(velocity, eps, grid, t)
        return one_step(y_t, self.velocity(y_t, t, c, x), t)

    def _shown(self, latents: Tensor) -> Image.Image | np.ndarray:
        """A picture, or of a clip small frames."""
        pixels = self.editor.decoded(latents)[0]
        return _small(pixels) if self.is_video else to_picture(pixels)


def _small(pixels: Tensor) -> np.ndarray:
    """Pixels (3, F, H, W) in [-1, 1] -> (F, h, w, 3), uint8, of at most CELL pixels a side."""
    frames = [Image.fromarray(frame) for frame in to_frames(pixels)]
    for frame in frames:
        frame.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return np.stack([np.asarray(frame) for frame in frames])
