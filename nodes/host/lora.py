"""LoRA files in ComfyUI: find them, check that they fit a MODEL, and apply them."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import comfy.lora
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher

from ...byg_train.family import WORLD
from ...byg_train.models.lora_file import LoraFile, LoraInfo, read_info
from ...byg_train.world import fetch

SUFFIXES = (".safetensors", ".sft")
# What ships for the examples stands behind the artist's own files.
SHIPPED_NAME = "ByG tiny world: {}"


def lora_names() -> list[str]:
    """The LoRA files that ComfyUI knows of, then those of the tiny world."""
    own = [n for n in folder_paths.get_filename_list("loras") if n.endswith(SUFFIXES)]
    return own + [SHIPPED_NAME.format(path.stem) for path in sorted(WORLD.glob(fetch.EDITORS))]


def lora_path(name: str) -> Path:
    """The path of one of `lora_names`."""
    for path in WORLD.glob(fetch.EDITORS):
        if name == SHIPPED_NAME.format(path.stem):
            return path
    own = folder_paths.get_full_path("loras", name)
    if own is None:
        raise ValueError(f"LoRA {name!r} is not in models/loras; choose another or refresh (R)")
    return Path(own)


def taught() -> list[LoraInfo]:
    """What the files of `lora_names` that are ours say of their training."""
    found = []
    for name in lora_names():
        with suppress(ValueError, OSError):  # a link that leads nowhere, a file gone meanwhile
            path = lora_path(name)
            found.append(_info(path, path.stat().st_mtime_ns))
    return [info for info in found if info is not None]


@lru_cache(maxsize=4096)
def _info(path: Path, changed: int) -> LoraInfo | None:
    """A file's metadata; None for a LoRA of another trainer. `changed`: when the file was."""
    try:
        return read_info(path)
    except ValueError:
        return None


def model_name(model: ModelPatcher) -> str:
    """A readable name of a MODEL."""
    return type(model.model).__name__


def has_guidance(model: ModelPatcher) -> bool:
    """Whether a model takes guidance as an input, as FLUX.1-dev does and -schnell does not."""
    return bool(model.model.model_config.unet_config.get("guidance_embed"))


def latent_channels(model: ModelPatcher) -> int:
    """How many numbers of a latent stand at one place."""
    return model.model.latent_format.latent_channels


def takes_more(model: ModelPatcher) -> bool:
    """Whether a model needs more input than the noisy latent: image-to-video, fill, control."""
    shape = model.model.model_config.unet_config
    kinds = (("in_channels", "out_channels"), ("in_dim", "out_dim"))
    return any(shape[a] != shape[b] for a, b in kinds if a in shape and b in shape)


class Applied(NamedTuple):
    """A MODEL with a LoRA applied, and the keys of the LoRA that matched nothing."""

    model: ModelPatcher
    total: int  # modules in the file
    unknown: list[str]  # modules that the model does not have
    misfits: dict[str, str]  # modules of another size -> both sizes


def apply_lora(model: ModelPatcher, file: LoraFile, strength: float) -> Applied:
    """Clone `model` with the LoRA applied as the stock loader does, without what does not fit.

    The stock loader only logs unknown names, and a wrong size only when it is sampled.
    """
    places = comfy.lora.model_lora_keys_unet(model.model, {})
    weights = model.model.state_dict()
    modules = sorted({_module(name) for name in file.tensors})
    unknown = [module for module in modules if file.prefix + module not in places]
    misfits = {}
    for module in set(modules) - set(unknown):
        if wrong := _misfit(file, module, places[file.prefix + module], weights):
            misfits[module] = wrong
    tensors = {
        file.prefix + name: tensor
        for name, tensor in file.tensors.items()
        if _module(name) not in {*unknown, *misfits}
    }
    patched = model.clone()
    patched.add_patches(comfy.lora.load_lora(tensors, places, log_missing=False), strength)
    return Applied(patched, len(modules), unknown, misfits)


def _module(name: str) -> str:
    return name.rsplit(".lora_", 1)[0]


def _misfit(
    file: LoraFile, module: str, place: str | tuple, weights: dict[str, torch.Tensor]
) -> str | None:
    """Describe both sizes if a module's update does not have its weight's size; None if it fits."""
    key, part = (place, None) if isinstance(place, str) else (place[0], place[1])
    weight = weights[key]
    if weight.ndim != 2 or not weight.is_floating_point():
        return None  # quantised: its shape is not the matrix's
    rows = part[2] if part else weight.shape[0]
    a, b = (file.tensors[f"{module}.lora_{x}.weight"] for x in "AB")
    size, wanted = (b.shape[0], a.shape[1]), (rows, weight.shape[1])
    if size == wanted:
        return None
    return f"{size[0]} x {size[1]}, the model has {wanted[0]} x {wanted[1]}"
