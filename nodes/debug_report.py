"""Present what ByG Debug recorded: a grid of pictures, and a report in text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..byg_train.media.grid import PAPER, labelled_grid
from . import readings
from .host import sampling as host
from .host.canvas import interruptible
from .pixels import to_image, to_picture
from .sockets import to_text

SOURCE, NOISY, ONE, MULTI = "source", "noisy state", "one-step", "multi-step"
GUESS, EDITED = "one-step - multi-step", "multi-step - source"
LAYOUTS = {
    "one-step vs multi-step": (SOURCE, ONE, MULTI),
    "+ noisy state": (SOURCE, NOISY, ONE, MULTI),
    "+ heat maps": (SOURCE, ONE, MULTI, GUESS, EDITED),
    "all": (SOURCE, NOISY, ONE, MULTI, GUESS, EDITED),
}
STRIP = 5  # frames of a film strip


@dataclass(frozen=True)
class LevelRow:
    """One evaluation of the model, and the requested noise levels that are nearest to it."""

    state: host.NoisyState
    requested: tuple[float, ...]


@dataclass(frozen=True)
class View:
    """The picture of a batch, or the frame of a clip, that is shown."""

    picture: int
    frame: int
    frames: int


class DebugReport:
    """The recorded rows, the result and the source; latents are normalised."""

    def __init__(
        self,
        guiders: tuple[Any, Any],
        vae: Any,
        rows: list[LevelRow],
        result: Tensor,
        view: View,
        source: Tensor | None,
    ) -> None:
        self.guiders, self.vae, self.rows, self.view = guiders, vae, rows, view
        self.y_0 = host.into_model(guiders[0].model_patcher, result.cpu())
        self.x = host.source_latent(guiders[0])
        self.multi = self.decoded(self.y_0)
        self.ones = [self.decoded(row.state.denoised) for row in interruptible(rows)]
        self.source = self._source_picture(source)

    def decoded(self, latents: Tensor, frame: int | None = None) -> Tensor:
        """Decode the shown picture (H, W, 3), or another frame; one latent serves all pictures."""
        picture = self.view.picture % len(latents)
        frame = self.view.frame if frame is None else frame
        latents = host.out_of_model(self.guiders[0].model_patcher, latents)
        return host.decode_one(self.vae, latents, picture, frame).cpu()

    def _source_picture(self, source: Tensor | None) -> Tensor:
        """The source picture at the result's size."""
        if source is None:
            picture = self.decoded(self.x)
        else:
            picture = source[min(self.view.picture + self.view.frame, len(source) - 1)].cpu()
        pixels, size = picture.movedim(-1, 0)[None], self.multi.shape[:2]
        if picture.shape[:2] != size:
            pixels = F.interpolate(pixels, size, mode="bilinear", antialias=True)
        return pixels[0].movedim(0, -1)

    # ------------------------------------------------------------ pictures

    def grid(self, columns: tuple[str, ...], cell: int) -> tuple[Tensor, Tensor]:
        """Return the labelled grid, and the one-step pictures alone."""
        edited, pictures = readings.heat(self.multi, self.source), []
        for row, one in zip(interruptible(self.rows), self.ones, strict=True):
            cells = {SOURCE: self.source, ONE: one, MULTI: self.multi, EDITED: edited}
            cells[GUESS] = readings.heat(one, self.multi)
            if NOISY in columns:
                cells[NOISY] = self.decoded(row.state.x)
            pictures.append([to_picture(cells[name]) for name in columns])
        labels = [self._label(row) for row in self.rows]
        sheet = labelled_grid(pictures, columns, labels, cell)
        if self.view.frames > 1:
            sheet = _stacked(sheet, self._film_strip(cell))
        return to_image(sheet), torch.stack(self.ones)

    def _label(self, row: LevelRow) -> str:
        levels = ", ".join(f"{level:g}" for level in row.requested)
        return f"t = {row.state.t:.3f} (asked {levels}), evaluation {row.state.call + 1}"

    def _film_strip(self, cell: int) -> Image.Image:
        """Frames of source and result, evenly spread from first to last."""
        last = self.view.frames - 1
        at = sorted({round(i * last / (STRIP - 1)) for i in range(STRIP)})
        rows = {MULTI: self.y_0} if self.x is None else {SOURCE: self.x, MULTI: self.y_0}
        pictures = [
            [to_picture(self.decoded(z, frame)) for frame in interruptible(at)]
            for z in rows.values()
        ]
        return labelled_grid(pictures, [f"frame {i}" for i in at], list(rows), cell // 2)

    # ------------------------------------------------------------ words

    def report(self, bases: tuple[Any, Any], captions: tuple[Any, Any], calls: int) -> str:
        """Report sharpness and distance at each level, then the conclusions."""
        lines, flags = [f"{calls} evaluations of the model"], []
        sharp, i = readings.sharpness(self.multi), self.view.picture
        for row, picture in zip(self.rows, self.ones, strict=True):
            one = readings.sharpness(picture) / max(sharp, 1e-8)
            away = readings.distance(row.state.denoised[i], self.y_0[i])
            lines.append(
                f"t = {row.state.t:.3f}: one-step is {one:.0%} as sharp as multi-step, and "
                f"{away:.3f} of its variance away from it"
            )
        lines += self._against_source(flags)
        lines += self._against_base(bases, captions, flags)
        if not any(host.has_patches(g.model_patcher) for g in self.guiders if g is not None):
            flags.append("LORA HAS NO EFFECT: the sampled model carries no LoRA; use ByG Loader")
        return to_text([*lines, *(flags or ["no alarm"])])

    def _against_source(self, flags: list[str]) -> list[str]:
        """Report the strength of the edit, and how much of the source is kept."""
        left, strength = readings.kept(self.multi, self.source), None
        if self.x is not None and self.x.shape[1:] == self.y_0.shape[1:]:
            i = self.view.picture
            strength = readings.distance(self.y_0[i], self.x[i % len(self.x)])
        if strength is not None and strength < readings.COLLAPSE:
            flags.append(
                f"IDENTITY COLLAPSE: the result is the source (below {readings.COLLAPSE} of its "
                f"variance); raise strength, say the instruction as in training, or train longer"
            )
        if left < readings.DRIFT:
            flags.append(
                f"DRIFT: little of the source is left (below {readings.DRIFT}); lower strength or "
                f"guidance, or train with more weight on cycle and identity"
            )
        how = "" if strength is None else f"edit strength {strength:.3f} (share of its variance), "
        return [f"{how}source kept {left:.2f} (correlation of outlines)"]

    def _against_base(
        self, bases: tuple[Any, Any], captions: tuple[Any, Any], flags: list[str]
    ) -> list[str]:
        """Report how much the LoRA changes at each level, and whether as the captions say."""
        lines, effects = [], []
        for stage, (base, guider) in enumerate(zip(bases, self.guiders, strict=True)):
            states = [row.state for row in self.rows if row.state.stage == stage]
            if base is None or guider is None or not states:
                continue
            without = host.probe_like(base, guider, states)
            texts = [host.with_guidance_of(guider, c) for c in captions if c is not None]
            by_caption = [host.probe(base, states, text) for text in texts]
            for n, state in enumerate(states):
                v, v_base = _velocity(state, state.denoised), _velocity(state, without[n])
                effects.append(readings.change(v, v_base))
                line = f"t = {state.t:.3f}: LoRA changes the prediction by {effects[-1]:.1%}"
                if by_caption:
                    pair = (_velocity(state, prediction[n]) for prediction in by_caption)
                    cosine, strength = readings.direction(v, *pair)
                    line += f"; edit direction: cosine {cosine:.2f}, captions apart {strength:.1%}"
                lines.append(line)
        if effects and max(effects) < readings.NO_EFFECT:
            flags.append(
                "LORA HAS NO EFFECT: the model predicts what the base model does; check strength "
                "and which model goes where"
            )
        return lines


def _velocity(state: host.NoisyState, denoised: Tensor) -> Tensor:
    """v = (y_t - y_hat) / t."""
    return (state.x - denoised) / state.t


def _stacked(above: Image.Image, below: Image.Image) -> Image.Image:
    width, height = max(above.width, below.width), above.height + below.height
    sheet = Image.new("RGB", (width, height), PAPER)
    sheet.paste(above, (0, 0))
    sheet.paste(below, (0, above.height))
    return sheet
