"""Steps that ByG Image Edit and ByG Video Edit share."""

from __future__ import annotations

from typing import Any

from comfy_api.v0_0_2 import ui
from torch import Tensor

from ..byg_train.family import family_of
from ..byg_train.media.fit import Fit, Size
from ..byg_train.models.lora_file import LoraInfo
from .host import sampling as host
from .host.source import Conditioning, text_tokens, with_source, zeroed
from .pixels import planned

# Size modes.
TRAINED, EXACT = "as trained", "exact size"


def multiple_of(vae: Any, info: LoraInfo | None) -> int:
    """Pixels per side of a token; ValueError if VAE and LoRA disagree."""
    multiple = host.pixel_multiple(vae)
    if info is not None and info.multiple != multiple:
        raise ValueError(
            f"vae: its tokens are {multiple} pixels wide, those of {info.base}, on which the LoRA "
            f"was trained, {info.multiple}; load the VAE of that model"
        )
    return multiple


def working_fit(
    images: Tensor, vae: Any, info: LoraInfo | None, mode: str, *, resolution: float, size: Size
) -> Fit:
    """Plan the size to work at: as trained, about `resolution` squared pixels, or exactly `size`.

    `resolution` also stands in for the trained one when there is no info.
    """
    if mode == TRAINED and info is not None:
        resolution = info.resolution
    exact = size if mode == EXACT else None
    return planned(images, multiple_of(vae, info), resolution=resolution, exact=exact)


def both_with_source(
    positive: Conditioning,
    negative: Conditioning | None,
    source: Tensor,
    info: LoraInfo | None,
) -> tuple[Conditioning, Conditioning]:
    guidance = None if info is None else info.guidance_sample
    negative = zeroed(positive) if negative is None else negative
    return (
        with_source(positive, source, guidance),
        with_source(negative, source, guidance),
    )


def text_note(positive: Conditioning, info: LoraInfo | None) -> list[str]:
    tokens = text_tokens(positive)
    if info is None:
        return []
    if not family_of(info.family).pads_texts:
        return _too_long(tokens, info.text_len)
    if tokens >= info.text_len:
        return []
    return [
        f"the text has {tokens} tokens, the LoRA was trained with {info.text_len}: use the text "
        f"encoders of {info.base}, and no node that sets a token length"
    ]


def _too_long(tokens: int, most: int) -> list[str]:
    if tokens <= most:
        return []
    return [
        f"the text has {tokens} tokens, and the LoRA was trained with {most} at most, longer ones "
        f"cut; say it in fewer words"
    ]


def shown(node: str, notes: list[str]) -> ui.PreviewText | None:
    if not notes:
        return None
    text = "\n".join(f"{node}: {note}" for note in notes)
    host.show_text(text)
    return ui.PreviewText(text)
