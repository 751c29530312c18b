"""Z-Image in ComfyUI: a ReferenceLatent's place is the one of `reference_mode = "index"`."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from comfy.ldm.lumina.model import NextDiT
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP

from . import tiny
from .families import KEY, HostFamily, Parts

TIMES = f"{KEY}_times"


def _place(model: ModelPatcher, mode: str) -> None:
    if mode != "index":
        raise ValueError(
            f"source positions {mode!r}: ComfyUI has no such place for a Z-Image's source; set "
            f"source_positions to auto"
        )
    model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, TIMES, _checked)


def _checked(executor: WrapperExecutor, model: ModelPatcher, *args: Any, **kw: Any) -> Any:
    """A schedule for other models, under which this one would see times up to 1000."""
    if getattr(model.get_model_object("model_sampling"), "multiplier", 1) != 1:
        raise ValueError(
            "ByG Loader: behind it stands a ModelSampling node for other models, which gives "
            "Z-Image times a thousand times too large; take ModelSamplingAuraFlow in its place"
        )
    return executor(model, *args, **kw)


def _too_old() -> str | None:
    if "ref_latents" in inspect.signature(NextDiT._forward).parameters:
        return None
    return (
        "this ComfyUI would not show Z-Image the picture to edit, and say nothing; update it to "
        "0.11.0 or later"
    )


def _refusal(model: ModelPatcher) -> str | None:
    if model.model.model_config.unet_config.get("siglip_feat_dim"):
        return (
            "this is Z-Image Omni or Edit, where the picture to edit stands elsewhere; load "
            "z_image_bf16.safetensors"
        )
    return None


def _open(folder: Path) -> Parts:
    from . import tiny_z_image  # of ComfyUI's classes that 0.3.64 does not have

    model, clip = tiny_z_image.load_model(folder), tiny_z_image.load_clip(folder)
    return Parts(model, clip, tiny.load_vae(folder))


# Lumina 2 and NewBie are of the same class.
HOST = HostFamily(
    ("Lumina2",),
    _place,
    _open,
    sizes={"z_image_modulation": True},
    refusal=_refusal,
    too_old=_too_old,
)
