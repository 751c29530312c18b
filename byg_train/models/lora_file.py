"""LoRA files: safetensors keys and metadata that ComfyUI, diffusers and our nodes read.

A module's update is B A with its scale baked into B, so no reader needs an alpha: ComfyUI ignores
diffusers' metadata and would use scale 1. Torch and safetensors only; the nodes share this file.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..family import family_of, file_endings, registry
from ..files import atomic
from .lora_tensors import A, B, as_ours, check_tensors, our_name, partner, ranks_of

# A block, the module in it (or outside of any), which of its tensors.
NAME = re.compile(r"(blocks\.\d+\.|)(.+)(\.lora_[AB]\.weight)")
VERSION = 1
# What a file calls a sampler -> ComfyUI's name.
COMFY_SAMPLERS = {None: "euler", "euler": "euler", "unipc": "uni_pc", "renoise": "lcm"}
# The `steps` of the node ByG Few Steps that stand for those of the file.
AS_TRAINED = 0


class LoraFile(NamedTuple):
    """What a file holds: "<module>.lora_A.weight" (r, in) and "<module>.lora_B.weight" (out, r)."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    prefix: str

    def by_diffusers_names(self) -> dict[str, Tensor]:
        """The tensors as diffusers names the modules, for a network that it has loaded."""
        names = _names_of(self.prefix, self.metadata.get("byg.family"))
        return _renamed(self.tensors, {ours: theirs for theirs, ours in names.items()})

    @property
    def ranks(self) -> str:
        """The rank of its modules, or the least and the largest of them: `64`, or `4 to 64`."""
        ranks = ranks_of(self.tensors)
        return str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"


def expert_path(path: Path, expert: str) -> Path:
    """NAME_high_noise.safetensors of Wan's "high"; NAME.safetensors where there is one network."""
    return path.with_stem(f"{path.stem}{file_endings().get(expert, '')}")


def expert_paths(path: Path, experts: Collection[str]) -> dict[str, Path]:
    """Expert -> its file, whichever of the files, or their common name, `path` is."""
    stem, endings = path.stem, file_endings()
    for ending in endings.values():
        stem = stem.removesuffix(ending)
    pair = all(endings.get(expert) for expert in experts)
    return {e: expert_path(path.with_stem(stem) if pair else path, e) for e in experts}


def write_lora(
    path: Path,
    tensors: dict[str, Tensor],
    *,
    scale: float,
    family: str,
    metadata: dict[str, str],
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write A and B tensors atomically; `scale` = alpha / rank goes into B.

    Modules are named as diffusers names them; the file names them as ComfyUI does.
    """
    form, baked = family_of(family).lora, {}
    tensors = _renamed(tensors, form.names)
    for name, tensor in tensors.items():
        tensor = tensor.detach().to("cpu", torch.float32)
        tensor = tensor * scale if name.endswith(B) else tensor
        baked[form.prefix + name] = tensor.to(dtype).contiguous()
    with atomic(Path(path)) as temporary:
        # Not save_file: it hides a full disk behind an error of its own, and makes private files.
        temporary.write_bytes(save(baked, {"format": "pt", **metadata}))


def read_info(path: Path) -> LoraInfo:
    """What a file of ours says of its training, without its tensors; ValueError for any other."""
    try:
        with safe_open(path, "pt") as file:
            return LoraInfo.from_metadata(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no readable safetensors file ({error})") from None


def read_lora(path: Path) -> LoraFile:
    """The tensors as stored (scale baked in), without their prefix; ValueError if it is no LoRA."""
    if not Path(path).is_file():
        raise ValueError(f"LoRA file {path} does not exist")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} is no readable safetensors file ({error}); "
            f"choose a .safetensors LoRA, or copy it again if the copy was cut short"
        ) from None
    theirs = {our_name(name): name for name in tensors}
    tensors = as_ours(tensors, path)
    prefixes = [family.lora.prefix for family in registry().values()]
    prefix = next((p for p in prefixes if all(name.startswith(p) for name in tensors)), None)
    strange = [n for n in tensors if not n.endswith((A, B)) or partner(n) not in tensors]
    if strange or prefix is None or not tensors:
        first = strange[0] if strange else next(iter(tensors), "no tensors at all")
        found = theirs.get(first, first)
        raise ValueError(
            f"{path} is no LoRA in the form that byg_train writes: found {found!r}, "
            f"wanted pairs such as '{prefixes[0]}<module>{A}' and '...{B}'. A LoRA of another "
            f"trainer belongs into ComfyUI's own Load LoRA node"
        )
    check_tensors(tensors, path)
    return LoraFile({k.removeprefix(prefix): v for k, v in tensors.items()}, metadata, prefix)


def _names_of(prefix: str, family: str | None) -> Mapping[str, str]:
    """How a file names modules: as the family that it says it is of, else the first of its prefix.

    Names of diffusers -> names in the file.
    """
    formats = {f.name: f.lora for f in registry().values() if f.lora.prefix == prefix}
    return formats.get(family, next(iter(formats.values()))).names


def _renamed(tensors: dict[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Other names for modules; those without one stay."""

    def renamed(name: str) -> str:
        block, module, end = NAME.fullmatch(name).groups()
        return block + names.get(module, module) + end

    return {renamed(name): tensor for name, tensor in tensors.items()}


@dataclass(frozen=True)
class LoraInfo:
    """What `edit` and the nodes need to run a LoRA as it was trained; `byg.*` in the file."""

    base: str  # hub id or path of the model it was trained on; "world" is the embedded one
    family: str  # its name, as in `model.family`
    reference_mode: str  # "index" or "shared": positions of the source tokens
    text_len: int  # tokens of a text
    instructions: list[str]  # examples of what it was taught, and of the way back
    reverse_instructions: list[str]
    resolution: int  # buckets have about resolution^2 pixels
    guidance_train: float | None  # values of the guidance embedding; None: the model has none
    guidance_prior: float | None
    guidance_sample: float | None
    sample_steps: int
    sample_shift: float | str  # a number, or the family whose own one follows the size
    rank: int
    steps: int  # optimiser steps taken
    weights: str  # "edit" (live) or "ema"
    dataset: str  # hash of the training data
    multiple: int = 16  # pixel sizes are multiples of this
    version: int = VERSION  # of this table
    date: str = field(  # ISO 8601
        default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds")
    )
    # Younger than the first files, in which they are absent.
    components: str | None = None  # of a single-file base: where its VAE and text encoders are
    revision: str | None = None  # of a base on the hub
    expert: str | None = None  # which of a pair of networks it is for; None: there is one
    boundary: float | None = None  # of the pair: `high` runs at t >= boundary
    frames: int | None = None  # of a training clip
    fps: float | None = None  # that the model works at
    sampler: str | None = None  # "euler", as None means too, "unipc" or "renoise"
    cfg: float | None = None  # classifier-free guidance against `negative`; None: 1, which is none
    cfg_low: float | None = None  # of the low-noise expert; None: as `cfg`
    negative: str | None = None
    dtype: str | None = None  # that the base was computed in while it was trained

    @property
    def instruction(self) -> str:
        """The one that stands for the LoRA; empty where none is recorded."""
        return self.instructions[0] if self.instructions else ""

    @property
    def cfg_pair(self) -> tuple[float, float]:
        """Classifier-free guidance at high noise and at low."""
        high = 1.0 if self.cfg is None else self.cfg
        return high, high if self.cfg_low is None else self.cfg_low

    @property
    def shift(self) -> float:
        """The sampling shift; one that follows the size is that of a square picture."""
        if not isinstance(self.sample_shift, str):
            return float(self.sample_shift)
        return family_of(self.sample_shift).size_shift((self.resolution // self.multiple) ** 2)

    def to_metadata(self) -> dict[str, str]:
        """Strings for the safetensors header: byg.*, and what LoRA managers look for."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        ours = {
            f"byg.{k}": v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)
            for k, v in values.items()
        }
        return {**ours, **_modelspec(self), **_kohya(self)}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str]) -> LoraInfo:
        """The inverse of `to_metadata`; ValueError if the file is not one of ours."""
        if "byg.version" not in metadata:
            raise ValueError(
                "not a ByG LoRA: the file's metadata has no byg.version. Choose a LoRA that "
                "byg_train wrote; any other LoRA belongs into ComfyUI's own Load LoRA node."
            )
        values = {}
        for f in dataclasses.fields(cls):
            key = f"byg.{f.name}"
            if f.default is None and key not in metadata:
                continue
            try:
                values[f.name] = _READ[str(f.type)](metadata[key])
            except (KeyError, ValueError):
                found = metadata.get(key, "nothing")
                raise ValueError(
                    f"not a ByG LoRA of version {VERSION}: {key} is {found!r}, wanted {f.type}. "
                    f"Update ByG, or take the file as byg_train wrote it."
                ) from None
        info = cls(**values)
        info._check()
        if info.version > VERSION or info.reference_mode not in ("index", "shared"):
            raise ValueError(
                f"this ByG LoRA was written by a newer byg_train (version {info.version}, "
                f"reference mode {info.reference_mode!r}); update ByG to use it"
            )
        return info

    def _check(self) -> None:
        """ValueError for numbers that nobody can sample with; the file may have been edited."""
        at_least_one = ("resolution", "text_len", "multiple", "sample_steps", "frames", "rank")
        above_zero = () if isinstance(self.sample_shift, str) else ("sample_shift",)
        above_zero += ("fps",)
        finite = ("guidance_train", "guidance_prior", "guidance_sample", "cfg", "cfg_low")
        bounds = {name: ("1 or more", lambda v: v >= 1) for name in at_least_one}
        bounds |= {name: ("above 0", lambda v: 0 < v < math.inf) for name in above_zero}
        bounds |= {name: ("a finite number", math.isfinite) for name in finite}
        bounds["sampler"] = (", ".join(filter(None, COMFY_SAMPLERS)), COMFY_SAMPLERS.__contains__)
        for name, (wanted, holds) in bounds.items():
            value = getattr(self, name)
            if value is not None and not holds(value):
                raise ValueError(
                    f"the LoRA's metadata has byg.{name} {value!r}, wanted {wanted}: update ByG, "
                    "or take the file as byg_train wrote it"
                )
        if self.family not in registry():
            raise ValueError(
                f"this LoRA is for the model family {self.family!r}, which this byg_train does not "
                f"know (known: {', '.join(registry())}): update ByG to use it"
            )


def _strings(text: str) -> list[str]:
    values = json.loads(text)
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise ValueError(text)
    return values


# How the text of a field is read, by the field's annotation.
_READ: dict[str, Callable[[str], Any]] = {
    "str": str,
    "str | None": lambda text: None if text == "null" else text,
    "int": int,
    "int | None": lambda text: None if text == "null" else int(text),
    "list[str]": _strings,
    "float | None": lambda text: None if text == "null" else float(text),
    "float | str": lambda text: (
        text if getattr(registry().get(text), "size_shift", None) else float(text)
    ),
}


def _generation(info: LoraInfo) -> str | None:
    """What a base of an older generation of its family is called."""
    older = family_of(info.family).lora.older
    return next((name for names, name in older.items() if names.search(info.base)), None)


def _modelspec(info: LoraInfo) -> dict[str, str]:
    """Stability's modelspec 1.0, which LoRA managers show."""
    family = family_of(info.family)
    kind, source = ("video", "clip") if family.is_video else ("image", "picture")
    title = info.instruction or f"{kind} edit"
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{_generation(info) or family.lora.architecture}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": f"ByG: {title}",
        "modelspec.description": f"Edits a source {source}; trained without before/after pairs.",
        "modelspec.trigger_phrase": title,
        "modelspec.resolution": f"{info.resolution}x{info.resolution}",
        "modelspec.date": info.date,
    }


def _kohya(info: LoraInfo) -> dict[str, str]:
    """The ss_* keys of sd-scripts; alpha = rank, since the scale is baked into B."""
    return {
        "ss_base_model_version": _generation(info) or family_of(info.family).lora.base_version,
        "ss_network_module": f"networks.lora_{info.family}",
        "ss_network_dim": str(info.rank),
        "ss_network_alpha": str(info.rank),
        "ss_sd_model_name": info.base,
        "ss_steps": str(info.steps),
        "ss_resolution": f"({info.resolution}, {info.resolution})",
    }
