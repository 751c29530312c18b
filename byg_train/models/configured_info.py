"""What a configuration alone says of a LoRA trained with it, and of its base without one."""

from __future__ import annotations

from pathlib import Path

from ..config import TrainConfig
from ..family import family_of, is_embedded
from .lora_file import LoraInfo


def configured_info(config: TrainConfig, multiple: int) -> LoraInfo:
    """The metadata before any data or training: no instructions, no data set, no steps.

    Pixel sizes are multiples of `multiple` (`backbone.pixel_multiple`).
    """
    is_video = family_of(config.model.family).is_video
    return LoraInfo(
        base=_from_anywhere(config.model.path),
        family=config.model.family,
        reference_mode=config.model.reference_mode,
        text_len=config.model.text_len,
        instructions=[],
        reverse_instructions=[],
        resolution=config.data.resolution,
        guidance_train=config.guidance.train,
        guidance_prior=config.guidance.prior,
        guidance_sample=config.guidance.sample,
        sample_steps=config.sample.steps,
        sample_shift=config.sample.shift,
        rank=config.lora.rank,
        steps=0,
        weights="edit",
        dataset="",
        multiple=multiple,
        components=config.model.components and _from_anywhere(config.model.components),
        revision=config.model.revision,
        frames=config.data.frames if is_video else None,
        fps=config.data.fps if is_video else None,
        sampler=config.sample.sampler,
        cfg=config.sample.cfg,
        cfg_low=config.sample.cfg_low,
        negative=config.sample.negative,
        dtype=None if config.model.dtype == "auto" else config.model.dtype,
    )


def _from_anywhere(name: str) -> str:
    """A local base by its absolute path: a LoRA is used in other folders than it was trained in."""
    path = Path(name).expanduser()
    return str(path.resolve()) if not is_embedded(name) and path.exists() else name
