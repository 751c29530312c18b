"""FLUX in ComfyUI, which gives a reference its own index, 1: as `reference_mode = "index"`."""

from __future__ import annotations

from pathlib import Path

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from . import tiny
from .families import HostFamily, Parts


def _place(model: ModelPatcher, mode: str) -> None:
    if mode == "shared":
        model.set_model_post_input_patch(_shared)


def _shared(args: dict[str, Tensor]) -> dict[str, Tensor]:
    """Clear the first axis of the positions, which tells the source from the target."""
    ids = args["img_ids"].clone()
    ids[..., 0] = 0
    return {**args, "img_ids": ids}


def _open(folder: Path) -> Parts:
    return Parts(tiny.load_model(folder), tiny.load_clip(folder), tiny.load_vae(folder))


HOST = HostFamily(("Flux",), _place, _open)
