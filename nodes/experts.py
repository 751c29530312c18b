"""ByG Expert Split: assign sampling steps to the two experts of Wan 2.2 14B."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import io

from .host import sampling as host
from .sockets import named, schema

NAME = "ByG Expert Split"


class ExpertSplit(io.ComfyNode):
    """Splits a schedule where the low-noise expert takes over."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "ByG_ExpertSplit",
            "ByG/video",
            inputs=[
                io.Model.Input("model"),
                io.Int.Input("steps", default=20, min=2, max=200),
                io.Float.Input("shift", default=0.0, min=0.0, max=100.0, step=0.01),
                io.Float.Input("boundary", default=0.875, min=0.0, max=1.0, step=0.001),
                io.Combo.Input("scheduler", options=host.SCHEDULERS, default="simple"),
                io.Float.Input("denoise", default=1.0, min=0.01, max=1.0, step=0.01),
                io.Combo.Input("sampler_name", options=host.SAMPLERS, default="euler"),
            ],
            outputs=[
                io.Sigmas.Output("high_sigmas"),
                io.Sigmas.Output("low_sigmas"),
                io.Int.Output("split_step"),
            ],
            found_by=["split sigmas", "high noise low noise", "wan boundary", "moe"],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        steps: int,
        shift: float,
        boundary: float,
        scheduler: str,
        denoise: float,
        sampler_name: str = "euler",
    ) -> io.NodeOutput:
        with named(NAME):
            sigmas = host.sigmas(model, sampler_name, scheduler, steps, shift, denoise)
        split = int((sigmas[:-1] >= boundary).sum())
        return io.NodeOutput(sigmas[: split + 1], sigmas[split:], split)


NODE = ExpertSplit
