"""The settings of the base model that a data set is meant for."""

from __future__ import annotations

from pathlib import Path

from ..config import ConfigError, TrainConfig, merge_settings
from ..family import EMBEDDED, family_of, is_embedded, usual_family
from ..media.formats import CLIPS, Formats
from ..models.backbone import pixel_multiple
from ..models.locate import described, told_family
from .check import Limits, estimated, tokenized
from .media_kind import expect_kind, found_kind


def base_settings(
    preset: str | None, model: str | None, assignments: list[str], kind: Formats
) -> TrainConfig:
    """Settings of a base model as in training.

    Without a preset, they are those of the usual preset of the model's family, if it is here and
    tells, else for this kind of media; of the demo if the model is the embedded one.
    """
    family = (told_family(model) if model else None) or usual_family(is_video=kind is CLIPS)
    usual = family.embedded.preset if is_embedded(model) else family.usual.style_preset
    return merge_settings(preset or usual, model=model, assignments=assignments)


def limits(root: Path, preset: str | None, model: str | None) -> Limits:
    """Limits of the chosen base model, else of the usual family for this kind of media."""
    if not preset and not model:
        family = usual_family(is_video=found_kind(root) is CLIPS)
        usual, longest = family.usual, family.usual.text_len - family.chat_tokens
        return Limits(estimated(longest), usual.multiple, merge_settings(usual.style_preset).data)
    config = base_settings(preset, model, [], found_kind(root))
    expect_kind(root, config.data)
    base = config.model
    folder = described(base)
    if folder is None and model and not model.count("/") == 1:
        raise ConfigError(f"model {model!r}: wanted a diffusers folder, a hub id, or {EMBEDDED}")
    family = family_of(base.family)
    longest = base.text_len - family.chat_tokens
    tokenizer = folder and folder / family.tokenizer
    there = tokenizer is not None and tokenizer.is_dir()
    tokens = tokenized(tokenizer, longest) if there else estimated(longest)
    return Limits(tokens, pixel_multiple(base), config.data)
