"""Inputs on which Z-Image must be one function here and in ComfyUI; torch alone is imported."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

GOLDEN = Path(__file__).with_name("golden") / "z_image.safetensors"
CHANNELS, WORDS = 4, 64  # of the latents, and the width of the text
TIMES = (0.9, 0.35)


class Case(NamedTuple):
    """What a velocity is asked for; sizes are of latents, two to a token."""

    tokens: int  # of the text
    size: tuple[int, int]
    source: tuple[int, int] | None = None
    batch: int = 1

    def inputs(self, seed: int) -> dict[str, Tensor]:
        """x_t and source (B, C, 1, h, w), words (B, L, D), t (B,)."""
        g = torch.Generator().manual_seed(seed)

        def latent(size: tuple[int, int]) -> Tensor:
            return torch.randn(self.batch, CHANNELS, 1, *size, generator=g)

        found = {
            "x_t": latent(self.size),
            "words": torch.randn(self.batch, self.tokens, WORDS, generator=g),
            "t": torch.tensor(TIMES[: self.batch]),
        }
        return found if self.source is None else {**found, "source": latent(self.source)}


# 15 tokens to an image of 6 x 10, padded to 32; 64 to one of 16 x 16, which is two whole blocks.
CASES = {
    "few words": Case(8, (6, 10)),
    "many words": Case(40, (6, 10), batch=2),
    "source, few words": Case(8, (6, 10), (6, 10)),
    "source, many words": Case(40, (6, 10), (6, 10)),
    "source, a block of words": Case(32, (16, 16), (16, 16)),
    "source, one word": Case(1, (6, 10), (6, 10)),
    "source, 150 words": Case(150, (6, 10), (6, 10)),
    "source of another size": Case(40, (6, 10), (8, 4)),
    "source, two": Case(8, (16, 16), (16, 16), batch=2),
    "source of another size, two": Case(40, (6, 10), (18, 14), batch=2),
}
