"""ByG Few Steps: noise, sampler and schedule of a LoRA that edits in few steps."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io, ui
from torch import Tensor

from ..byg_train.models.lora_file import AS_TRAINED, LoraInfo
from ..byg_train.models.sampler import sampling_grid
from .host.canvas import show_text
from .host.few_steps import renoise, start_noise
from .sockets import INFO, reporting, schema

NAME = "ByG Few Steps"


class FewSteps(io.ComfyNode):
    """What SamplerCustomAdvanced needs to sample as `byg_train edit` does."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ByG_FewSteps",
            "ByG/sampling",
            inputs=[
                INFO.Input("info"),
                io.Latent.Input("latent_image"),
                io.Int.Input(
                    "noise_seed", default=0, min=0, max=2**64 - 1, control_after_generate=True
                ),
                io.Int.Input("steps", default=AS_TRAINED, min=AS_TRAINED, max=100),
            ],
            outputs=[
                io.Noise.Output("noise"),
                io.Sampler.Output("sampler"),
                io.Sigmas.Output("sigmas"),
                io.Sigmas.Output("low_sigmas"),
            ],
            found_by=["few steps", "4 steps", "renoise", "lcm", "turbo", "npedit", "dmd"],
        )

    @classmethod
    def execute(
        cls, info: LoraInfo, latent_image: dict[str, Any], noise_seed: int, steps: int = AS_TRAINED
    ) -> io.NodeOutput:
        with reporting(NAME):
            steps = _trained(info) if steps == AS_TRAINED else steps
            grid = sampling_grid(steps, info.sample_shift, _as_clip(latent_image["samples"]))
            split = int((grid[:-1] >= (info.boundary or 0.0)).sum())
        said = "\n".join(_said(info, grid, split))
        show_text(said)
        outputs = (start_noise(noise_seed), renoise(grid, noise_seed))
        return io.NodeOutput(*outputs, grid[: split + 1], grid[split:], ui=ui.PreviewText(said))


def _trained(info: LoraInfo) -> int:
    """The steps of a LoRA that was trained for few."""
    if info.sampler != "renoise":
        raise ValueError(
            f"steps: this LoRA was not trained for few steps (its own are {_own(info)}), so that 0 "
            f"names none; set a number, such as 4, or sample it as ByG Loader says"
        )
    return info.sample_steps


def _own(info: LoraInfo) -> str:
    return f"{info.sample_steps} of {info.sampler or 'euler'}"


def _as_clip(latents: Tensor) -> Tensor:
    """(B, C, F, h, w), also of pictures."""
    return latents if latents.ndim == 5 else latents.unsqueeze(2)


def _said(info: LoraInfo, grid: Tensor, split: int) -> list[str]:
    """The steps, and whether the LoRA was trained for them."""
    steps = len(grid) - 1
    levels = ", ".join(f"{t:.3g}" for t in grid[:-1].tolist())
    lines = [f"{steps} steps, t = {levels}"]
    if info.boundary is not None:
        lines.append(f"{split} at high noise, {steps - split} at low noise")
    if info.sampler != "renoise":
        own = _own(info)
        lines.append(f"this LoRA was not trained for few steps: compare with its own {own}")
    elif steps != info.sample_steps:
        lines.append(f"this LoRA was trained for {info.sample_steps} steps")
    return lines


NODE = FewSteps
