"""Choose the LoRA file for each MODEL, and check that it was trained on such a model."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..byg_train.family import family_of, is_embedded, registry
from ..byg_train.models.lora_file import LoraFile, LoraInfo, read_lora
from .host import lora as host
from .host.families import family, host_of

# Choices for the second model of a pair, beside the names of files.
PAIR, SAME, ALONE = "auto pair", "same file", "single expert"


class Loaded(NamedTuple):
    """A LoRA file with its metadata."""

    name: str
    file: LoraFile
    info: LoraInfo


def chosen(name: str, choice: str, model: Any, model_low: Any) -> tuple[Loaded | None, ...]:
    """Choose the LoRAs of `model` and `model_low`; None for a model without one."""
    lora = _load(name)
    _check_base(lora, model)
    if model_low is None:
        return lora, None
    if choice == ALONE:
        _check_base(lora, model_low)
        _check_pair(model, model_low)
        if lora.info.expert is None:
            raise ValueError(
                f"lora_low_name: {name} was not trained for one expert of a pair; choose {SAME!r} "
                f"for both models, or disconnect model_low"
            )
        first = next(iter(family_of(lora.info.family).experts))
        return (lora, None) if lora.info.expert == first else (None, lora)
    low = _load(_low_name(name, choice))
    _check_base(low, model_low)
    _check_pair(model, model_low)
    _check_experts(lora, low)
    return lora, low


def partner(name: str) -> str:
    """The other file of a pair; a name without an expert suffix is returned unchanged."""
    for kind in registry().values():
        for expert, ending in kind.experts.items():
            if ending in name and (other := kind.partner_of(expert)):
                return kind.experts[other].join(name.rsplit(ending, 1))
    return name


def _low_name(name: str, choice: str) -> str:
    if choice != PAIR:
        return name if choice == SAME else choice
    other = partner(name)
    if other not in host.lora_names():
        raise ValueError(
            f"lora_low_name: {name} has no partner {other} beside it; copy that file too, or, if "
            f"only this one was trained, choose {ALONE!r}"
        )
    return other


def _load(name: str) -> Loaded:
    """Read a LoRA and its metadata."""
    file = read_lora(host.lora_path(name))
    return Loaded(name, file, LoraInfo.from_metadata(file.metadata))


def _check_base(lora: Loaded, model: Any) -> None:
    """Check from its metadata that the LoRA was trained on such a model."""
    info, kind, base = lora.info, family(model), base_name(lora.info)
    name = host.model_name(model)
    if kind != info.family:
        raise ValueError(
            f"{lora.name} edits with {base}, the model is {name}; load that base model, or choose "
            f"a LoRA of this one"
        )
    runs = host_of(model)
    if refusal := runs.too_old() or runs.refusal(model):
        raise ValueError(f"{lora.name} edits with {base}; {refusal}")
    if host.takes_more(model):
        raise ValueError(
            f"{lora.name} edits with {base}; this {name} wants a picture or mask beside the noise, "
            f"as models for image-to-video, fill and control do. Load {base}"
        )
    guided = host.has_guidance(model)
    if family_of(kind).has_guidance and guided != (info.guidance_sample is not None):
        has = "has" if guided else "lacks"
        raise ValueError(
            f"{lora.name} was trained on {base}; this {name} model {has} the guidance input of "
            f"distilled models, so it is another one. Load {base}"
        )


def base_name(info: LoraInfo) -> str:
    """A readable name of the model that a LoRA was trained on."""
    if not is_embedded(info.base):
        return info.base
    media = family_of(info.family).embedded.media
    return f"the tiny world's {media} model (ByG Tiny World with media = {media})"


def _check_pair(model: Any, model_low: Any) -> None:
    """Check that both networks sample the same latents."""
    one, other = (host.latent_channels(m) for m in (model, model_low))
    if one != other:
        raise ValueError(
            f"model_low: its latents have {other} channels, those of `model` {one}, so they are no "
            f"pair; load the low-noise model that belongs to `model`"
        )


def _check_experts(high: Loaded, low: Loaded) -> None:
    """Check that each network of a pair gets the LoRA of its expert."""
    experts = list(family_of(high.info.family).experts)
    for lora, slot, own in ((high, "lora_name", experts[0]), (low, "lora_low_name", experts[-1])):
        if lora.info.expert not in (None, own):
            raise ValueError(
                f"{slot}: {lora.name} was trained for the {lora.info.expert}-noise model; swap the "
                f"two files, or the two models"
            )
