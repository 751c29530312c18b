"""Wan in ComfyUI, which would continue the time axis over the source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from torch import Tensor

from . import tiny_wan
from .families import KEY, HostFamily, Parts


def _place(model: ModelPatcher, mode: str) -> None:
    forward = _shared if mode == "shared" else _checked
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, forward)


def _leave_out(model: ModelPatcher) -> None:
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, _blind)


# Wrappers hand on whatever arguments this or a later ComfyUI passes, so their signatures are open.


def _checked(
    executor: WrapperExecutor, x: Tensor, timestep: Tensor, *args: Any, **kw: Any
) -> Tensor:
    """Wan 2.2 5B under a noise mask spreads its timesteps over target and source tokens."""
    if timestep.ndim > 1 and timestep.shape[1] > 1:
        raise ValueError(
            "ByG Loader: Wan 2.2 5B cannot sample inside a noise mask beside a source; take the "
            "mask off the latent and connect it to ByG Finish"
        )
    return executor(x, timestep, *args, **kw)


def _blind(
    executor: WrapperExecutor,
    x: Tensor,
    timestep: Tensor,
    context: Tensor,
    clip_fea: Tensor | None = None,
    time_dim_concat: Tensor | None = None,
    *args: Any,
    **kw: Any,
) -> Tensor:
    return executor(x, timestep, context, clip_fea, None, *args, **kw)


def _shared(
    executor: WrapperExecutor,
    x: Tensor,
    timestep: Tensor,
    context: Tensor,
    clip_fea: Tensor | None = None,
    time_dim_concat: Tensor | None = None,
    transformer_options: dict[str, Any] | None = None,
    **kw: Any,
) -> Tensor:
    """Source tokens at the target's positions (App. B.2), where stock Wan continues the time axis.

    Does nothing for a conditioning without a source.
    """
    options, source = transformer_options or {}, time_dim_concat
    window = options.get("context_window")
    if source is not None and window is not None and source.shape[2] != x.shape[2]:
        # Context windows cut the target alone; later ones put a frame in front of it.
        source = window.get_tensor(source, source.device, dim=2)

    def run() -> Tensor:
        rest = (context, clip_fea, source, options)
        return _checked(executor, x, timestep, *rest, **kw)

    if source is None:
        return run()
    network, frames, more = executor.class_obj, x.shape[2], source.shape[2]
    rope_encode = network.rope_encode

    def shared(_frames: int, height: int, width: int, **kw: Any) -> Tensor:
        longest = max(frames, more)
        rope = rope_encode(longest, height, width, **kw)
        per_frame = rope.shape[1] // longest
        return torch.cat([rope[:, : frames * per_frame], rope[:, : more * per_frame]], dim=1)

    own = "rope_encode" in vars(network)
    network.rope_encode = shared
    try:
        return run()
    finally:
        if own:
            network.rope_encode = rope_encode
        else:
            del network.rope_encode


def _open(folder: Path) -> Parts:
    high, low = tiny_wan.load_models(folder)
    return Parts(high, tiny_wan.load_clip(folder), tiny_wan.load_vae(folder), low)


HOST = HostFamily(("WAN21", "WAN22"), _place, _open, _leave_out)
