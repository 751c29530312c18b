"""A third model family, which nothing but this file knows: an MLP that edits 4 x 4 patches.

Its latents are patches of pixels; a source is the clean patch beside the noisy one, and its text
the mean of random words. So `decode_latents` is exact, and a LoRA on three layers is all of it.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from byg_train.config import ConfigError, ModelConfig
from byg_train.family import Bases, Family, Graph, LoraFormat, Publishing, Usual
from byg_train.models.lora_file import LoraInfo

PATCH, WORDS, WIDTH = 4, 16, 32
CHANNELS = 3 * PATCH**2


class ToyTransformer(nn.Module):
    """(noisy patch, clean patch of the source or zeros, mean word, t) -> v."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(2 * CHANNELS + WORDS + 1, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        h = silu(self.embed(x))
        return self.out(h + silu(self.mix(h)))


class ToyBackbone:
    """The `Backbone` of the toy."""

    def __init__(self, config: ModelConfig, device: str) -> None:
        transformer = ToyTransformer()
        transformer.load_state_dict(load_file(resolve(config) / "toy.safetensors"))
        self.experts = nn.ModuleDict({"transformer": transformer.to(device)})
        self.spans, self.on_device = {"transformer": (0.0, 1.0)}, "transformer"
        self.multiple, self.fingerprint, self.config = PATCH, "toy", config

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        return pixel_unshuffle(pixels[:, :, 0], PATCH)[:, :, None]

    def decode_latents(self, latents: Tensor) -> Tensor:
        return pixel_shuffle(latents[:, :, 0], PATCH)[:, :, None]

    def encode_text(self, texts: list[str]) -> dict[str, Tensor]:
        def word(w: str) -> Tensor:
            g = torch.Generator().manual_seed(zlib.crc32(w.encode()))
            return torch.randn(WORDS, generator=g)

        split = [text.split()[: self.config.text_len] or [""] for text in texts]
        return {"words": torch.stack([torch.stack([*map(word, s)]).mean(0) for s in split])}

    def velocity(
        self,
        x_t: Tensor,
        t: Tensor,
        text: dict[str, Tensor],
        source: Tensor | None = None,
        *,
        guidance: float | None = None,
    ) -> Tensor:
        b, _, _, h, w = x_t.shape
        known = torch.cat([text["words"], t[:, None]], dim=1).to(x_t)
        known = known[:, :, None, None, None].expand(b, -1, 1, h, w)
        clean = torch.zeros_like(x_t) if source is None else source
        x = torch.cat([x_t, clean.to(x_t), known], dim=1)
        return self.experts["transformer"](x.movedim(1, -1)).movedim(-1, 1)

    def outline(self) -> nn.Module:
        """It is small."""
        return self.experts["transformer"]

    def drop_encoders(self) -> None:
        """There are none."""


class ToyNetwork:
    """The sizes of `ToyTransformer`."""

    width, blocks, text_width, packed, encoder, networks = WIDTH, 1, WORDS, CHANNELS, 0, 1
    text_attends = False
    parameters = sum(p.numel() for p in ToyTransformer().parameters() if p.ndim == 2)

    def lora_parameters(self, rank: int) -> int:
        return 2 * WIDTH * rank

    def sequence(self, text: float, image: float, *, source: bool) -> float:
        return image

    def forward_flops(self, tokens: float) -> float:
        return 2 * self.parameters * tokens

    def decoded(self, frames: int) -> float:
        return 4 * 3 * frames


def write_base(folder: Path) -> Path:
    """A base with random weights."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    save_file(ToyTransformer().state_dict(), folder / "toy.safetensors")
    return folder


def resolve(config: ModelConfig) -> Path:
    folder = Path(config.path)
    if not (folder / "toy.safetensors").is_file():
        raise ConfigError(f"model.path {config.path!r} holds no toy.safetensors")
    return folder


def token_counts(config: ModelConfig, width: int, height: int, frames: int) -> tuple[int, int]:
    return config.text_len, (width // PATCH) * (height // PATCH)


def graph(info: LoraInfo, name: str, files: list[str]) -> Graph | None:
    """ComfyUI has no such model."""
    return None


TOY = Family(
    name="toy",
    title="Toy",
    is_video=False,
    reference_modes={"shared": "the target's"},
    text_encoder="words",
    tokenizer="tokenizer",
    usual=Usual(preset="none", style_preset="none", text_len=8, multiple=PATCH),
    bases=Bases(
        load=ToyBackbone,
        resolve=resolve,
        pixel_multiple=lambda config: PATCH,
        token_counts=token_counts,
        network=lambda config: ToyNetwork(),
    ),
    lora=LoraFormat(
        transformer="ToyTransformer",
        targets=re.compile("mix"),
        width_of="mix",
        prefix="toy.",
        architecture="toy",
        base_version="toy1",
        names={"mix": "blend"},
    ),
    publishing=Publishing(
        pipeline="ToyPipeline",
        licence=lambda base: ({"license": "cc0-1.0"}, "None to speak of."),
        graph=graph,
        usage=lambda info, name, there: ". ComfyUI does not know the toy.",
    ),
)
