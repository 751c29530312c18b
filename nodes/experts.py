"""ByG Expert Split: assign sampling steps to the two experts of Wan 2.2 14B."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from .host import sampling as host
from .sockets import found_by, named

NAME = "ByG Expert Split"


class ExpertSplit(io.ComfyNode):
    """Splits a schedule where the low-noise expert takes over."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = io.Schema(
            node_id="ByG_ExpertSplit",
            display_name=NAME,
            category="ByG/video",
            description="Wan 2.2 14B has a network for high noise and one for low. Cuts a schedule "
            "where the second takes over: at a noise level, not at half of the steps.",
            inputs=[
                io.Model.Input(
                    "model", tooltip="The high-noise model, as it goes into the sampler."
                ),
                io.Int.Input("steps", default=20, min=2, max=200, tooltip="Of both together."),
                io.Float.Input(
                    "shift",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.01,
                    tooltip="Push of the steps towards noise (Wan 2.2: 12, many graphs: 5 or 8). "
                    "0 = the model's own, from ByG Loader or a ModelSampling node; KSampler "
                    "Advanced always takes that one.",
                ),
                io.Float.Input(
                    "boundary",
                    default=0.875,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    tooltip="Noise level at which the low-noise model takes over (Wan 2.2 T2V: "
                    "0.875).",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=host.SCHEDULERS,
                    default="simple",
                    tooltip="How the steps are spread; the same as in the samplers.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Below 1 the edit starts from the source instead of pure noise.",
                ),
            ],
            outputs=[
                io.Sigmas.Output(
                    "high_sigmas", display_name="high_sigmas", tooltip="For the first sampler."
                ),
                io.Sigmas.Output(
                    "low_sigmas", display_name="low_sigmas", tooltip="For the second sampler."
                ),
                io.Int.Output(
                    "split_step",
                    display_name="split_step",
                    tooltip="end_at_step of the first KSampler Advanced, start_at_step of the "
                    "second.",
                ),
            ],
        )
        return found_by(schema, "split sigmas", "high noise low noise", "wan boundary", "moe")

    @classmethod
    def execute(
        cls, model: Any, steps: int, shift: float, boundary: float, scheduler: str, denoise: float
    ) -> io.NodeOutput:
        with named(NAME):
            sigmas = host.sigmas(model, scheduler, steps, shift, denoise)
        split = int((sigmas[:-1] >= boundary).sum())
        return io.NodeOutput(sigmas[: split + 1], sigmas[split:], split)


NODES = [ExpertSplit]
