"""Where a Wan's parts are, which experts it has, and its sizes before it is loaded.

A base is a diffusers folder, its hub id, or the single files of ComfyUI: one, or a pair whose names
differ in `high` and `low`. What the transformers' files do not say (boundary, sizes, VAE) is in the
folder, or for single files in `model.components`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ...config import ConfigError, ModelConfig
from ..description import Description
from ..locate import Parts, described, local_folder, locate, single_file
from .known import MULTIPLE, MULTIPLE_5B, is_5b

# Part of a diffusers folder -> whether its weights are needed.
ENCODERS = {"vae": True, "text_encoder": True, "tokenizer": False}
# Expert -> its part, for a base of two networks and of one.
PAIR = {"high": "transformer", "low": "transformer_2"}
ALONE = {"transformer": "transformer"}
PATCH = 2  # latents per token and side
# The word in a file's name that tells a pair apart: wan2.2_t2v_high_noise_14B, A14B-LOW.
NOISE = re.compile(r"(?<![a-z])(high|low)(?=[-_. ]?noise|[-_. ]|$)", re.IGNORECASE)


def resolve_base(config: ModelConfig) -> Path | str:
    """The file or folder of `model.path`, or a hub id that can be fetched; loads nothing.

    ConfigError if a path does not exist, a folder lacks parts, or the hub cannot be reached.
    """
    file = single_file(config)
    if file is None:
        return _located(config, config.path, weights=True)
    expert_files(file)
    components(config)
    return file


def pixel_multiple(config: ModelConfig) -> int:
    """Pixel sizes must be multiples of this; loads nothing and needs no network."""
    folder = described(config)
    if folder is not None and (file := folder / "vae" / "config.json").is_file():
        # Configurations of Wan 2.1's VAE are older than the key.
        return Description(file).get("scale_factor_spatial", 8) * PATCH
    return MULTIPLE_5B if is_5b(config) else MULTIPLE


def boundary(config: ModelConfig) -> float | None:
    """Where two experts meet; None of one network, or a hub id that is not here. Loads nothing."""
    folder = described(config)
    return None if folder is None else boundary_of(folder)


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


def components(config: ModelConfig) -> Path | str:
    """The folder, or hub id, of what single files do not hold."""
    if config.components is None:
        raise ConfigError(
            f"model.path {config.path!r} is a single file, which holds a transformer alone: set "
            f"model.components to a hub id or folder with the VAE, text encoder and tokenizer "
            f"(such as Wan-AI/Wan2.2-T2V-A14B-Diffusers)"
        )
    return _located(config, config.components, weights=False)


def _located(config: ModelConfig, name: str, *, weights: bool) -> Path | str:
    folder = local_folder(config, name)
    experts = PAIR if folder is None else experts_of(folder)
    return locate(config, name, parts_of(experts, weights=weights))


def parts_of(experts: dict[str, str], *, weights: bool) -> Parts:
    """What is wanted of a folder with these experts."""
    return {**ENCODERS, **dict.fromkeys(experts.values(), weights)}


def _index(folder: Path) -> dict[str, Any]:
    file = folder / "model_index.json"
    if not file.is_file():
        raise ConfigError(
            f"{folder} has no model_index.json, which says how many experts there are and where "
            f"they meet; wanted a whole diffusers folder of a Wan text-to-video model"
        )
    return Description(file)


def experts_of(folder: Path) -> dict[str, str]:
    """Expert -> part, as the pipeline's index says."""
    part = _index(folder).get("transformer_2")
    return PAIR if part and part[0] else ALONE


def boundary_of(folder: Path) -> float | None:
    """Where the experts of a folder meet; None of one network."""
    index = _index(folder)
    if experts_of(folder) == ALONE:
        return None
    if index.get("boundary_ratio") is None:
        raise ConfigError(
            f"{folder}/model_index.json names two transformers and no boundary_ratio between them; "
            f"wanted a number such as Wan2.2-T2V-A14B's 0.875"
        )
    return float(index["boundary_ratio"])
