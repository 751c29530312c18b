"""Where the tokens of a source and its target stand, as stock ComfyUI's ReferenceLatent has it.

Z-Image pads texts and images to whole blocks of tokens. In "omni" mode diffusers gives every image
a caption; ComfyUI gives the source 32 pad tokens in place of one, and counts padded lengths:

    pads of the source at 1..32, source at 33, caption at 35..34 + Lp, target at 35 + Lp

with Lp the caption's padded length. All tokens of the source, its pads too, are modulated as clean.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..picture_files import PATCH

BLOCK = 32  # texts and images are padded to multiples of it, and padding attends
SOURCE_FIRST = BLOCK + 1  # of the first axis of positions, which counts tokens of text from 1
CAPTION_FIRST = SOURCE_FIRST + 2


def padded(tokens: float) -> float:
    """The next multiple of a block."""
    return -(-tokens // BLOCK) * BLOCK


def token_count(x: Tensor) -> int:
    """Tokens of latents (..., h, w)."""
    return (x.shape[-2] // PATCH) * (x.shape[-1] // PATCH)


def pads_like(caption: Tensor) -> Tensor:
    """What stands in for the source's caption (L, D): its values become pad tokens."""
    return torch.zeros_like(caption[:1]).expand(BLOCK, -1)


def place_as_comfyui(transformer: nn.Module) -> None:
    """Change the omni mode of diffusers' ZImageTransformer2DModel to that; its basic mode stays."""
    as_diffusers = transformer.patchify_and_embed_omni

    def placed(images: list[list[Tensor]], captions: list[list[Tensor]], *rest: Any) -> tuple:
        parts = as_diffusers(images, captions, *rest)
        positions, caption_is_pad = parts[4], parts[8]
        for i, ((source, target), (_, caption)) in enumerate(zip(images, captions, strict=True)):
            caption_is_pad[i][:BLOCK] = True
            first = padded(token_count(source))
            of_target = slice(first, first + token_count(target))
            positions[i][of_target, 0] = CAPTION_FIRST + padded(len(caption))
        return parts

    transformer.patchify_and_embed_omni = placed
