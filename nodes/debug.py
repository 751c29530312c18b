"""ByG Debug: one-step predictions during sampling, beside the final result."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.v0_0_2 import io, ui
from torch import Tensor

from .debug_report import LAYOUTS, DebugReport, Row, View
from .host import sampling as host
from .pixels import checked_images
from .sockets import advanced, found_by, named

NAME = "ByG Debug"


class Debug(io.ComfyNode):
    """Samples exactly as SamplerCustomAdvanced does, and records what the model predicts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="ByG_Debug",
            display_name=NAME,
            category="ByG/debug",
            description="In place of SamplerCustomAdvanced: the same result, and a picture of how "
            "it came about. At some noise levels: the noisy state, what the model makes of it in "
            "one step, and what many steps make of it (Figure 7 of the paper).",
            inputs=[
                io.Noise.Input("noise", tooltip="From Random Noise."),
                io.Guider.Input(
                    "guider", tooltip="From Basic Guider or CFG Guider; of a Wan pair the high one."
                ),
                io.Sampler.Input("sampler", tooltip="From KSampler Select; for both experts."),
                io.Sigmas.Input(
                    "sigmas", tooltip="From a scheduler; of a pair high_sigmas of ByG Expert Split."
                ),
                io.Latent.Input("latent_image", tooltip="From ByG Image Edit or ByG Video Edit."),
                io.Vae.Input("vae", tooltip="Decodes the pictures of the grid."),
                io.Guider.Input(
                    "guider_low",
                    optional=True,
                    tooltip="Guider of Wan's low-noise model; goes on where the first stops.",
                ),
                io.Sigmas.Input(
                    "low_sigmas", optional=True, tooltip="low_sigmas of ByG Expert Split."
                ),
                io.Image.Input(
                    "source",
                    optional=True,
                    tooltip="Source to show and compare with; empty: the one of the guider.",
                ),
                io.Model.Input(
                    "base_model",
                    optional=True,
                    tooltip="The model without LoRA: how much the LoRA changes, and with captions "
                    "the edit direction. One to three more evaluations for each level.",
                ),
                io.Model.Input(
                    "base_model_low", optional=True, tooltip="The same for the low-noise model."
                ),
                io.Conditioning.Input(
                    "src_caption",
                    optional=True,
                    tooltip="The source in words ('a photo of a cat'), encoded.",
                ),
                io.Conditioning.Input(
                    "tgt_caption",
                    optional=True,
                    tooltip="The wanted result in words ('a comic of a cat'), encoded.",
                ),
                io.String.Input(
                    "at",
                    default="0.95, 0.8, 0.6, 0.4, 0.2",
                    tooltip="Noise levels to show, 1 = pure noise. Each shows the evaluation "
                    "nearest to it.",
                ),
                io.Combo.Input(
                    "layout",
                    options=list(LAYOUTS),
                    default="all",
                    tooltip="The columns of the grid. Heat maps: black is equal.",
                ),
                io.Int.Input(
                    "frame",
                    default=-1,
                    min=-1,
                    max=8192,
                    tooltip="Which frame of a clip (-1: the middle), or picture of a batch (-1: "
                    "the first).",
                ),
                advanced(
                    io.Int.Input(
                        "cell_size",
                        default=384,
                        min=64,
                        max=1024,
                        step=32,
                        tooltip="Pixels of a cell of the grid.",
                    )
                ),
            ],
            outputs=[
                io.Latent.Output("output", display_name="output"),
                io.Latent.Output("denoised_output", display_name="denoised_output"),
                io.Image.Output("grid", display_name="grid", tooltip="For Save or Preview Image."),
                io.Image.Output(
                    "one_step",
                    display_name="one_step",
                    tooltip="The one-step predictions, a picture for each level.",
                ),
                io.String.Output("report", display_name="report"),
            ],
        )
        return found_by(
            schema, "one step", "multi step", "xy plot", "inspect lora", "sampler custom advanced"
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
        with named(NAME):
            levels = _levels(at)
            _check_pairs(guider_low, low_sigmas, base_model, src_caption, tgt_caption)
            view = _view(latent_image["samples"], frame)
            host.checked_vae(vae, frames=latent_image["samples"].ndim == 5)
            if source is not None:
                checked_images(source, "source")
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
        host.show_text(report)
        outputs = (output, denoised, grid, one_step, report)
        return io.NodeOutput(*outputs, ui=ui.PreviewText(report))


# ---------------------------------------------------------------- inputs


def _levels(text: str) -> list[float]:
    """Parse noise levels, in falling order."""
    try:
        levels = sorted({float(word) for word in text.replace(",", " ").split()}, reverse=True)
    except ValueError:
        levels = []
    if not levels or not all(0 < level <= 1 for level in levels):
        raise ValueError(f"at: {text!r}; wanted noise levels above 0 and up to 1, as 0.95, 0.6")
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


def _rows(recorder: host.Recorder) -> list[Row]:
    """Make one row of all levels that share an evaluation."""
    rows: dict[int, Row] = {}
    for level, state in recorder.nearest.items():
        if state is not None:
            before = rows[state.call].requested if state.call in rows else ()
            rows[state.call] = Row(state, (*before, level))
    return list(rows.values())


NODES = [Debug]
