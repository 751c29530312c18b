"""The transformers of a Wan, from a folder or from the single files of ComfyUI."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ...config import ConfigError, ModelConfig
from ..locate import Description, download
from ..storage import store
from .files import (
    PAIR,
    boundary_of,
    expert_files,
    experts_of,
    located_components,
    parts_of,
    resolve,
)

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

    from ..frozen import Networks

# What ComfyUI stores beside a weight in 8 bits; only the first two are needed to undo it.
SCALES = (".scale_weight", ".weight_scale", ".scale_input", ".input_scale")
MARKS = ("scaled_fp8", ".comfy_quant")
FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)


class Base(NamedTuple):
    """A base: the folder of its other parts, its networks, and where they meet in time."""

    folder: Path
    networks: Callable[[], Networks]  # loads {"high", "low"} or {"transformer"}
    boundary: float | None  # `high` runs at t >= boundary; None: there is one network


def load_base(config: ModelConfig, device: str) -> Base:
    """The base of `model.path`; `device` may do arithmetic for its storage."""
    base, dtype = resolve(config), getattr(torch, config.dtype)
    if Path(base).is_file():
        folder = download(
            located_components(config), config.revision, parts_of(PAIR, weights=False)
        )
        files, wanted = expert_files(Path(base)), experts_of(folder)
        if files.keys() != wanted.keys():
            raise ConfigError(
                f"model.path {config.path!r} means {len(files)} network(s) by its name, and "
                f"model.components {config.components!r} describes {len(wanted)}: take the "
                f"components of the same model, and name a pair ...high_noise..., ...low_noise..."
            )
        load = {e: partial(_from_file, file, folder / wanted[e]) for e, file in files.items()}
    else:
        folder = download(base, config.revision, parts_of(PAIR, weights=True))
        load = {e: partial(_from_folder, folder, part) for e, part in experts_of(folder).items()}

    def networks() -> Networks:
        """Load the networks on the CPU, in `model.dtype`; embeddings of time in float32.

        Each is stored as `model.storage` says before the next is loaded.
        """
        return {expert: store(one(dtype), config, device) for expert, one in load.items()}

    for part in experts_of(folder).values():
        _check_channels(config, Description(folder / part / "config.json"))
    return Base(folder, networks, boundary_of(folder))


def _check_channels(config: ModelConfig, shape: Description) -> None:
    """ConfigError for a network that takes more than the latents, by its configuration."""
    if shape["in_channels"] != shape["out_channels"]:
        raise ConfigError(
            f"model.path {config.path!r} takes {shape['in_channels']} channels and gives "
            f"{shape['out_channels']}: an image-to-video or control model; wanted text-to-video"
        )


def _from_folder(folder: Path, part: str, dtype: torch.dtype) -> WanTransformer3DModel:
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel.from_pretrained(
        folder, subfolder=part, torch_dtype=dtype, use_safetensors=True
    )


def _from_file(path: Path, wanted: Path, dtype: torch.dtype) -> WanTransformer3DModel:
    """A single-file transformer in Wan's or diffusers' layout; `wanted` has its configuration.

    Weights that are in `dtype` stay in the file until something reads them: nothing is copied.
    """
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    network = _empty(wanted)
    names = network.state_dict().keys()
    try:
        weights = _without_scales(load_file(path), dtype)
        if not names <= weights.keys():
            weights = convert_wan_transformer_to_diffusers(weights)
        if names == weights.keys():
            for name in weights:
                whole = any(part in name for part in network._keep_in_fp32_modules)
                weights[name] = weights[name].to(torch.float32 if whole else dtype)
            network.load_state_dict(weights, assign=True)
    except (SafetensorError, KeyError, IndexError, ValueError, RuntimeError) as error:
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(
            f"{path} is not the Wan transformer that {wanted} describes ({why}); wanted Wan's or "
            f"diffusers' layout"
        ) from None
    if names != weights.keys():
        raise ConfigError(
            f"{path} has {'more' if names < weights.keys() else 'not all'} weights of the Wan "
            f"transformer that {wanted} describes: set model.components to the same model's, or "
            f"copy the file again"
        )
    return network


def _empty(folder: Path) -> WanTransformer3DModel:
    """The network of a configuration, without values but for the tables that no file has."""
    from diffusers import WanTransformer3DModel

    with torch.device("meta"):
        network = WanTransformer3DModel.from_config(WanTransformer3DModel.load_config(folder))
    shape = network.config
    network.rope = type(network.rope)(
        shape.attention_head_dim, tuple(shape.patch_size), shape.rope_max_seq_len
    )
    return network


def _without_scales(weights: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """ComfyUI's `fp8_scaled` files as plain weights; all others as they are."""
    plain = {}
    for name, weight in weights.items():
        if name.endswith((*SCALES, *MARKS)):
            continue
        if weight.dtype in FLOAT8:
            scales = (weights.get(name.removesuffix(".weight") + end) for end in SCALES[:2])
            scale = next((s for s in scales if s is not None), None)
            weight = weight.float() if scale is None else weight.float() * scale.float().view(-1, 1)
            weight = weight.to(dtype)
        elif not weight.is_floating_point():
            raise ValueError(f"{name} is {weight.dtype}, wanted floating point")
        plain[name] = weight
    return plain
