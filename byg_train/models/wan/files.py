"""Where a Wan's parts are, which experts it has, and how its transformers are loaded.

A base is a diffusers folder, its hub id, or the single files of ComfyUI: one, or a pair whose names
differ in `high` and `low`. What the transformers' files do not say (boundary, sizes, VAE) is in the
folder, or for single files in `model.components`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...config import ConfigError, ModelConfig
from ..locate import WORLD, Parts, download, local_folder, locate

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

# Part of a diffusers folder -> whether its weights are needed.
ENCODERS = {"vae": True, "text_encoder": True, "tokenizer": False}
# Expert -> its part, for a base of two networks and of one.
PAIR = {"high": "transformer", "low": "transformer_2"}
ALONE = {"transformer": "transformer"}
PATCH = 2  # latents per token and side
# The word in a file's name that tells a pair apart: wan2.2_t2v_high_noise_14B, A14B-LOW.
NOISE = re.compile(r"(?<![a-z])(high|low)(?=[-_. ]?noise|[-_. ]|$)", re.IGNORECASE)
# What ComfyUI stores beside a weight in 8 bits; only the first two are needed to undo it.
SCALES = (".scale_weight", ".weight_scale", ".scale_input", ".input_scale")
MARKS = ("scaled_fp8", ".comfy_quant")
FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)


class Base(NamedTuple):
    """A loaded base: the folder of its other parts, its networks, and where they meet in time."""

    folder: Path
    networks: dict[str, WanTransformer3DModel]  # {"high", "low"} or {"transformer"}
    boundary: float | None  # `high` runs at t >= boundary; None: there is one network


# ---------------------------------------------------------------- before loading


def resolve_base(config: ModelConfig) -> Path | str:
    """The file or folder of `model.path`, or a hub id that can be fetched; loads nothing.

    ConfigError if a path does not exist, a folder lacks parts, or the hub cannot be reached.
    """
    path = Path(config.path).expanduser()
    if not path.is_file():
        return _located(config.path, config.revision, weights=True)
    if path.suffix != ".safetensors":
        raise ConfigError(f"model.path {config.path!r}: wanted a .safetensors file")
    expert_files(path)
    _components(config)
    return path


def pixel_multiple(config: ModelConfig) -> int:
    """Pixel sizes must be multiples of this; loads nothing and needs no network."""
    folder = _described(config)
    if folder is not None and (file := folder / "vae" / "config.json").is_file():
        # Configurations of Wan 2.1's VAE are older than the key.
        return json.loads(file.read_text()).get("scale_factor_spatial", 8) * PATCH
    return (16 if "5B" in Path(_describing(config) or "").name.upper() else 8) * PATCH


def boundary(config: ModelConfig) -> float | None:
    """Where two experts meet; None of one network, or a hub id that is not here. Loads nothing."""
    folder = _described(config)
    return None if folder is None else _boundary(folder)


def token_counts(config: ModelConfig, width: int, height: int, frames: int) -> tuple[int, int]:
    """Text tokens, and tokens of a clip of 4k + 1 frames (its source has as many); loads nothing.

    Text is seen by cross-attention: it does not lengthen the sequence.
    """
    multiple = pixel_multiple(config)
    return config.text_len, ((frames - 1) // 4 + 1) * (width // multiple) * (height // multiple)


def expert_names(name: str) -> dict[str, str]:
    """Expert -> file name, by the name of either file of a pair."""
    word = NOISE.search(Path(name).stem)
    if word is None:
        return {"transformer": name}
    spell = next(f for f in (str.lower, str.upper, str.title) if f(word[0]) == word[0])
    before, after = name[: word.start()], name[word.end() :]
    return {expert: before + spell(expert) + after for expert in PAIR}


def expert_files(path: Path) -> dict[str, Path]:
    """Expert -> single file; the other file of a pair lies beside the one that was named."""
    names = expert_names(path.name)
    files = {expert: path.with_name(name) for expert, name in names.items()}
    for file in files.values() if names.keys() == PAIR.keys() else ():
        if not file.is_file():
            raise ConfigError(
                f"model.path {path} is one expert of a pair, and {file.name} is not "
                f"beside it: put both files into one folder, with names that differ in "
                f"`high` and `low` alone"
            )
    return files


def _describing(config: ModelConfig) -> str | None:
    """The name of what says everything but the weights."""
    return config.components if Path(config.path).expanduser().is_file() else config.path


def _described(config: ModelConfig) -> Path | None:
    """The folder of that name, if it is here."""
    name = _describing(config)
    return local_folder(_named(name), config.revision) if name else None


def _components(config: ModelConfig) -> Path | str:
    if config.components is None:
        raise ConfigError(
            f"model.path {config.path!r} is a single file, which holds a transformer alone: set "
            f"model.components to a hub id or folder with the VAE, text encoder and tokenizer "
            f"(such as Wan-AI/Wan2.2-T2V-A14B-Diffusers)"
        )
    return _located(config.components, config.revision, weights=False)


def _named(name: str) -> str:
    """`world` is the embedded base of this family."""
    return str(WORLD.with_name("base_wan")) if name == "world" else name


def _located(name: str, revision: str | None, *, weights: bool) -> Path | str:
    name = _named(name)
    folder = local_folder(name, revision)
    experts = PAIR if folder is None else _experts(folder)
    return locate(name, revision, _parts(experts, weights=weights))


def _parts(experts: dict[str, str], *, weights: bool) -> Parts:
    return {**ENCODERS, **dict.fromkeys(experts.values(), weights)}


def _index(folder: Path) -> dict[str, Any]:
    file = folder / "model_index.json"
    if not file.is_file():
        raise ConfigError(
            f"{folder} has no model_index.json, which says how many experts there are and where "
            f"they meet; wanted a whole diffusers folder of a Wan text-to-video model"
        )
    return json.loads(file.read_text(encoding="utf-8"))


def _experts(folder: Path) -> dict[str, str]:
    """Expert -> part, as the pipeline's index says."""
    part = _index(folder).get("transformer_2")
    return PAIR if part and part[0] else ALONE


def _boundary(folder: Path) -> float | None:
    index = _index(folder)
    if _experts(folder) == ALONE:
        return None
    if index.get("boundary_ratio") is None:
        raise ConfigError(
            f"{folder}/model_index.json names two transformers and no boundary_ratio between them; "
            f"wanted a number such as Wan2.2-T2V-A14B's 0.875"
        )
    return float(index["boundary_ratio"])


# ---------------------------------------------------------------- loading


def load_base(config: ModelConfig) -> Base:
    """The networks of `model.path`, on the CPU, in `model.dtype`; embeddings of time in float32."""
    base, dtype = resolve_base(config), getattr(torch, config.dtype)
    if Path(base).is_file():
        folder = download(_components(config), config.revision, _parts(PAIR, weights=False))
        files, wanted = expert_files(Path(base)), _experts(folder)
        if files.keys() != wanted.keys():
            raise ConfigError(
                f"model.path {config.path!r} means {len(files)} network(s) by its name, and "
                f"model.components {config.components!r} describes {len(wanted)}: take the "
                f"components of the same model, and name a pair ...high_noise..., ...low_noise..."
            )
        networks = {e: _from_file(file, folder / wanted[e], dtype) for e, file in files.items()}
    else:
        folder = download(base, config.revision, _parts(PAIR, weights=True))
        networks = {e: _from_folder(folder, part, dtype) for e, part in _experts(folder).items()}
    for network in networks.values():
        shape = network.config
        if shape.in_channels != shape.out_channels:
            raise ConfigError(
                f"model.path {config.path!r} takes {shape.in_channels} channels and gives "
                f"{shape.out_channels}: an image-to-video or control model; wanted text-to-video"
            )
    return Base(folder, networks, _boundary(folder))


def _from_folder(folder: Path, part: str, dtype: torch.dtype) -> WanTransformer3DModel:
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel.from_pretrained(
        folder, subfolder=part, torch_dtype=dtype, use_safetensors=True
    )


def _from_file(path: Path, wanted: Path, dtype: torch.dtype) -> WanTransformer3DModel:
    """A single-file transformer in Wan's or diffusers' layout; `wanted` has its configuration."""
    from diffusers import WanTransformer3DModel
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = _without_scales(load_file(path), dtype)
        given = len(weights)
        # Without a type: with one diffusers would round the rotary embedding's tables as well.
        network = WanTransformer3DModel.from_single_file(weights, config=str(wanted))
        filled = not any(p.is_meta for p in network.parameters())
    except NotImplementedError:  # of moving a weight that got no values
        filled = False
    except (SafetensorError, KeyError, IndexError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{path} is not the Wan transformer that {wanted} describes "
            f"({type(error).__name__}: {error}); wanted Wan's or diffusers' layout"
        ) from None
    if not filled or given != len(network.state_dict()):
        raise ConfigError(
            f"{path} has {'more' if filled else 'not all'} weights of the Wan transformer that "
            f"{wanted} describes: set model.components to the same model's, or copy the file again"
        )
    for name, weight in network.named_parameters():
        whole = any(part in name for part in network._keep_in_fp32_modules)
        weight.data = weight.data.to(torch.float32 if whole else dtype)
    return network


def _without_scales(weights: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """ComfyUI's `fp8_scaled` files as plain weights; all others as they are."""
    plain = {}
    for name, weight in weights.items():
        if name.endswith((*SCALES, *MARKS)):
            continue
        if weight.dtype in FLOAT8:
            found = (weights.get(name.removesuffix(".weight") + end) for end in SCALES[:2])
            scale = next((s for s in found if s is not None), None)
            weight = weight.float() if scale is None else weight.float() * scale.float().view(-1, 1)
            weight = weight.to(dtype)
        elif not weight.is_floating_point():
            raise ValueError(f"{name} is {weight.dtype}, wanted floating point")
        plain[name] = weight
    return plain
