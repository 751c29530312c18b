"""ByG Debug: one-step predictions during sampling, beside the final result."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.v0_0_2 import io, ui
from torch import Tensor

from .debug_report import LAYOUTS, DebugReport, LevelRow, View
from .host import sampling as host
from .host.canvas import show_text
from .pixels import checked_images
from .sockets import advanced, reporting, schema

NAME = "ByG Debug"
ALL = "all"


class Debug(io.ComfyNode):
    """Samples exactly as SamplerCustomAdvanced does, and records what the model predicts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ByG_Debug",
            "ByG/debug",
            inputs=[
                io.Noise.Input("noise"),
                io.Guider.Input("guider"),
                io.Sampler.Input("sampler"),
                io.Sigmas.Input("sigmas"),
                io.Latent.Input("latent_image"),
                io.Vae.Input("vae"),
                io.Guider.Input("guider_low", optional=True),
                io.Sigmas.Input("low_sigmas", optional=True),
                io.Image.Input("source", optional=True),
                io.Model.Input("base_model", optional=True),
                io.Model.Input("base_model_low", optional=True),
                io.Conditioning.Input("src_caption", optional=True),
                io.Conditioning.Input("tgt_caption", optional=True),
                io.String.Input("at", default="0.95, 0.8, 0.6, 0.4, 0.2"),
                io.Combo.Input("layout", options=list(LAYOUTS), default="all"),
                io.Int.Input("frame", default=-1, min=-1, max=8192),
                advanced(io.Int.Input("cell_size", default=384, min=64, max=1024, step=32)),
            ],
            outputs=[
                io.Latent.Output("output"),
                io.Latent.Output("denoised_output"),
                io.Image.Output("grid"),
                io.Image.Output("one_step"),
                io.String.Output("report"),
            ],
            found_by=[
                "one step",
                "multi step",
                "xy plot",
                "inspect lora",
                "sampler custom advanced",
            ],
        )

    @classmethod
    def execute(
        cls,
        noise: Any,
        guider: Any,
        sampler: Any,
        sigmas: Tensor,
        latent_image: dict[str, Any],
        vae: Any,
        guider_low: Any = None,
        low_sigmas: Tensor | None = None,
        source: Tensor | None = None,
        base_model: Any = None,
        base_model_low: Any = None,
        src_caption: Any = None,
        tgt_caption: Any = None,
        at: str = "0.95, 0.8, 0.6, 0.4, 0.2",
        layout: str = "all",
        frame: int = -1,
        cell_size: int = 384,
    ) -> io.NodeOutput:
        with reporting(NAME):
            levels = _levels(at)
            _check_pairs(guider_low, low_sigmas, base_model, src_caption, tgt_caption)
            view = _view(latent_image["samples"], frame)
            host.checked_vae(vae, frames=latent_image["samples"].ndim == 5)
            if source is not None:
                source = checked_images(source, "source")
            elif host.source_latent(guider) is None:
                raise ValueError("source: the guider has none either; connect the source picture")
        recorder = host.Recorder(levels)
        run = partial(host.sample_recorded, recorder=recorder, sampler=sampler)
        output, denoised = run(noise, guider, sigmas=sigmas, latent=latent_image)
        if guider_low is not None:
            recorder.stage = 1
            output, denoised = run(host.NoNoise(), guider_low, sigmas=low_sigmas, latent=output)
        rows, guiders = _rows(recorder), (guider, guider_low)
        recorded = DebugReport(guiders, vae, rows, output["samples"], view, source)
        captions = (src_caption, tgt_caption)
        report = recorded.report((base_model, base_model_low), captions, recorder.calls)
        grid, one_step = recorded.grid(LAYOUTS[layout], cell_size)
        show_text(_conclusions(report))
        outputs = (output, denoised, grid, one_step, report)
        return io.NodeOutput(*outputs, ui=ui.PreviewText(report))


def _conclusions(report: str) -> str:
    """What fits on the node: the report without what it says of each level."""
    lines = [line.strip() for line in report.splitlines() if not line.startswith("t = ")]
    return "\n".join([*lines, "each level: see the report output"])


# ---------------------------------------------------------------- inputs


def _levels(text: str) -> list[float] | None:
    """Parse noise levels, in falling order; None: of all evaluations."""
    if text.strip().lower() == ALL:
        return None
    try:
        levels = sorted({float(word) for word in text.replace(",", " ").split()}, reverse=True)
    except ValueError:
        levels = []
    if not levels or not all(0 < level <= 1 for level in levels):
        raise ValueError(
            f"at: {text!r}; wanted noise levels above 0 and up to 1, as 0.95, 0.6, or {ALL}"
        )
    return levels


def _check_pairs(guider_low: Any, low_sigmas: Any, base: Any, src: Any, tgt: Any) -> None:
    if (guider_low is None) != (low_sigmas is None):
        raise ValueError(
            "guider_low and low_sigmas belong together; connect both (ByG Expert Split gives the "
            "sigmas), or neither"
        )
    if (src is None) != (tgt is None):
        raise ValueError("src_caption and tgt_caption belong together; connect both, or neither")
    if src is not None and base is None:
        raise ValueError("src_caption, tgt_caption: they need base_model, the model without LoRA")


def _view(latents: Tensor, frame: int) -> View:
    frames = host.frame_count(latents)
    if latents.ndim == 5:
        view = View(0, (frames - 1) // 2 if frame < 0 else frame, frames)
        if view.frame >= frames:
            raise ValueError(f"frame: {frame}, the clip has {frames} frames (0 to {frames - 1})")
        return view
    if frame >= len(latents):
        raise ValueError(f"frame: {frame}, the batch has {len(latents)} pictures, counted from 0")
    return View(max(0, frame), 0, 1)


def _rows(recorder: host.Recorder) -> list[LevelRow]:
    """Make one row of all levels that share an evaluation."""
    rows: dict[int, LevelRow] = {}
    for level, state in recorder.nearest.items():
        if state is not None:
            before = rows[state.call].requested if state.call in rows else ()
            rows[state.call] = LevelRow(state, (*before, level))
    return list(rows.values())


NODE = Debug
