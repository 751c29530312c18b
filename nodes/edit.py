"""Steps that ByG Image Edit and ByG Video Edit share."""

from __future__ import annotations

from typing import Any, NamedTuple

from comfy_api.v0_0_2 import ui
from torch import Tensor

from ..byg_train.family import family_of
from ..byg_train.media.fit import Fit, Size
from ..byg_train.models.lora_file import LoraInfo
from .host import sampling as host
from .host.canvas import show_text
from .host.source import Conditioning, text_tokens, with_source, zeroed
from .pixels import Box, box_around, planned

# Size modes that both nodes have.
TRAINED, EXACT, AROUND = "as trained", "exact size", "around the mask"


def multiple_of(vae: Any, info: LoraInfo | None) -> int:
    """Pixels per side of a token; ValueError if VAE and LoRA disagree."""
    multiple = host.pixel_multiple(vae)
    if info is not None and info.multiple != multiple:
        raise ValueError(
            f"vae: its tokens are {multiple} pixels wide, those of {info.base}, on which the LoRA "
            f"was trained, {info.multiple}; load the VAE of that model"
        )
    return multiple


class Working(NamedTuple):
    """What is edited, and at which size."""

    box: Box | None  # the part; None: all
    fit: Fit
    note: str

    def part(self, images: Tensor) -> Tensor:
        """The part of IMAGE or MASK."""
        return images if self.box is None else self.box.of(images)


def working(
    images: Tensor,
    mask: Tensor | None,
    vae: Any,
    info: LoraInfo | None,
    mode: str,
    *,
    resolution: float,
    size: Size,
    context: float,
) -> Working:
    """Plan the part and the size to work at; `resolution` squared pixels, or the training's."""
    multiple = multiple_of(vae, info)
    if mode == TRAINED and info is None:
        raise ValueError(
            "size_mode: 'as trained' needs `info` of ByG Loader, and none arrives (a bypassed or "
            "muted Loader sends none); connect it, or choose another size_mode"
        )
    if mode == AROUND and mask is None:
        raise ValueError("size_mode: 'around the mask' needs a mask; connect one, painted white")
    if mode in (TRAINED, AROUND) and info is not None:
        resolution = info.resolution
    box = box_around(mask, context, resolution) if mode == AROUND else None
    part = images if box is None else box.of(images)
    fit = planned(part, multiple, resolution=resolution, exact=size if mode == EXACT else None)
    return Working(box, fit, _size_note(fit, box, mode))


def _size_note(fit: Fit, box: Box | None, mode: str) -> str:
    note = f"works at {fit.outer.width} x {fit.outer.height} pixels, {mode}"
    if box is not None:
        note += f": the part of {box.width} x {box.height} from ({box.left}, {box.top}) on"
    if mode == TRAINED:
        note += "; the size widgets are not used"
    return note


def both_with_source(
    positive: Conditioning,
    negative: Conditioning | None,
    source: Tensor,
    info: LoraInfo | None,
) -> tuple[Conditioning, Conditioning]:
    guidance = None if info is None else info.guidance_sample
    mode = None if info is None else info.reference_mode
    negative = zeroed(positive) if negative is None else negative
    return (
        with_source(positive, source, guidance, mode),
        with_source(negative, source, guidance, mode),
    )


def text_note(positive: Conditioning, info: LoraInfo | None) -> list[str]:
    """Warn of a text of another length than those of the training."""
    if info is None:
        return []
    tokens, trained = text_tokens(positive), info.text_len
    if family_of(info.family).pads_texts and tokens < trained:
        return [
            f"the text has {tokens} tokens, the LoRA was trained with {trained}: use the text "
            f"encoders of {info.base}, and no node that sets a token length"
        ]
    if not family_of(info.family).pads_texts and tokens > trained:
        return [
            f"the text has {tokens} tokens, and the LoRA was trained with {trained} at most, "
            f"longer ones cut; say it in fewer words"
        ]
    return []


def shown(node: str, notes: list[str], at: Size) -> dict[str, Any]:
    """Show notes on the node, and for web/sizes.js at which size it works."""
    text = "\n".join(f"{node}: {note}" for note in notes)
    show_text(text)
    return {**ui.PreviewText(text).as_dict(), "works_at": list(at)}
