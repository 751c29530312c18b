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
from ..locate import Description, Parts, components, described, local_folder, locate, single_file
from .record import FAMILY

# Wan2.2-T2V-A14B and TI2V-5B, and Wan2.1-T2V-1.3B, in the names of hub repositories and folders.
A14B = re.compile(r"wan[._-]?2[._-]?2[._-]t2v[._-]a?14b", re.IGNORECASE)
TI2V_5B = re.compile(r"wan[._-]?2[._-]?2[._-]ti2v[._-]5b", re.IGNORECASE)
T2V_1_3B = re.compile(r"wan[._-]?2[._-]?1[._-]t2v[._-]1[._]3b", re.IGNORECASE)
FILE_1_3B = "wan2.1_t2v_1.3B_fp16.safetensors"
# All of them under one licence.
FREE = re.compile(r"wan[._-]?2[._-]?[12]", re.IGNORECASE)
# Pixels of a token: the 5B's VAE has 16 to a latent, Wan 2.1's, which the others share, has 8.
MULTIPLE, MULTIPLE_5B = 16, 32
# Expert -> its part, for a base of two networks and of one.
PAIR = {"high": "transformer", "low": "transformer_2"}
ALONE = {"transformer": "transformer"}
PATCH = 2  # latents per token and side
# The word in a file's name that tells a pair apart: wan2.2_t2v_high_noise_14B, A14B-LOW.
NOISE = re.compile(r"(?<![a-z])(high|low)(?=[-_. ]?noise|[-_. ]|$)", re.IGNORECASE)


def resolve(config: ModelConfig) -> Path | str:
    """The file or folder of `model.path`, or a hub id: `backbone.resolve_base`."""
    file = single_file(config)
    if file is None:
        return _located(config, config.path, weights=True)
    expert_files(file)
    located_components(config)
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


def located_components(config: ModelConfig) -> Path | str:
    """The folder, or hub id, of what single files do not hold."""
    return _located(config, components(config), weights=False)


def _located(config: ModelConfig, name: str, *, weights: bool) -> Path | str:
    folder = local_folder(config, name)
    experts = PAIR if folder is None else experts_of(folder)
    return locate(config, name, parts_of(experts, weights=weights))


def parts_of(experts: dict[str, str], *, weights: bool) -> Parts:
    """What is wanted of a folder with these experts."""
    return {**FAMILY.bases.parts, **dict.fromkeys(experts.values(), weights)}


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


def is_5b(config: ModelConfig) -> bool:
    """Whether a base that is not here, or is a single file, is the 5B: as its names say."""
    return _named(config, "5B")


def is_1_3b(config: ModelConfig) -> bool:
    """Whether such a base is Wan 2.1's 1.3B."""
    return _named(config, "1.3B") or _named(config, "1_3B")


def _named(config: ModelConfig, word: str) -> bool:
    names = [Path(name).name for name in (config.path, config.components) if name]
    return any(word in name.upper() for name in names)
