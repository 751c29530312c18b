"""Wan behind one velocity: T2V-A14B with its two experts, TI2V-5B, Wan2.1-T2V-1.3B, and tiny ones.

Pixels are (B, 3, 4k + 1, H, W), latents (B, C, k + 1, h, w). A source joins the target on the frame
axis, whose patches are the transformer's tokens, at the target's own positions and timestep
(App. B.2); its output is dropped. Text is {"prompt_embeds": (B, L, D)} from UMT5, zero behind the
words.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...config import ModelConfig
from ..frozen import FrozenParts, at_least_single, autoencoder, precision, taken
from .files import PATCH
from .loading import Base, load_base
from .swapper import ExpertSwapper

if TYPE_CHECKING:
    from ..backbone import Text
    from ..frozen import TextEncoder


class WanBackbone(FrozenParts):
    """The `Backbone` of Wan."""

    def __init__(self, config: ModelConfig, base: Base, device: str) -> None:
        from diffusers import AutoencoderKLWan

        super().__init__(config, base.folder, base.networks, device)
        self.boundary = base.boundary
        self._swapper: ExpertSwapper | None = None  # until the networks are loaded
        # Expert -> the times that it is for, from the first to the last of a sampling.
        self.spans = {"transformer": (0.0, 1.0)}
        if base.boundary is not None:
            self.spans = {"high": (base.boundary, 1.0), "low": (0.0, base.boundary)}
        self.vae = autoencoder(AutoencoderKLWan, base.folder, self.device)
        self.vae.enable_slicing()  # clip by clip: they are large
        self.multiple = self.vae.config.scale_factor_spatial * PATCH

    @classmethod
    def load(cls, config: ModelConfig, device: str) -> WanBackbone:
        """Load from a diffusers folder, a single file (or pair of files), or a hub id."""
        return cls(config, load_base(config, device), device)

    def _loaded(self, networks: nn.ModuleDict) -> None:
        self._swapper = ExpertSwapper(networks, self.device)

    def _prepared(self, network: nn.Module) -> nn.Module:
        if self.dtype != torch.float32:
            # Wan embeds times in float32; autocast would round them.
            embedder = network.condition_embedder.time_embedder
            embedder.forward = torch.autocast(self.device.type, enabled=False)(embedder.forward)
        return super()._prepared(network)

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, 4k + 1, H, W) in [-1, 1] -> normalised latents (B, C, k + 1, h, w)."""
        _, _, frames, height, width = pixels.shape
        if frames % 4 != 1 or height % self.multiple or width % self.multiple:
            raise ValueError(
                f"got {frames} frames of {width} x {height}; this Wan takes 4k + 1 frames (such as "
                f"{max(1, (frames - 1) // 4 * 4 + 1)}) and multiples of {self.multiple} pixels"
            )
        mean, std = self._statistics()
        return (self._mean_latents(pixels) - mean) / std

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Latents (B, C, k + 1, h, w) -> pixels (B, 3, 4k + 1, H, W) in [-1, 1], float32.

        Differentiable: critics look at what is decoded.
        """
        mean, std = self._statistics()
        return self.vae.decode(latents.to(self.device, self.vae.dtype) * std + mean).sample

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of every latent channel, (1, C, 1, 1, 1)."""
        c = self.vae.config
        mean, std = (torch.tensor(v, device=self.device) for v in (c.latents_mean, c.latents_std))
        return mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)

    def _load_encoders(self) -> TextEncoder:
        from transformers import UMT5EncoderModel

        return self._text_encoder(UMT5EncoderModel)

    def _encode(self, encoders: TextEncoder, texts: list[str]) -> Text:
        """UMT5 of `text_len` tokens, zero where there are no words: padding attends as zeros do."""
        tokens = encoders.tokenizer(
            texts,
            max_length=self.config.text_len,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        embeds = encoders.model(tokens.input_ids, tokens.attention_mask).last_hidden_state
        return {"prompt_embeds": embeds * tokens.attention_mask[..., None].to(embeds)}

    def _place(self, expert: str | None = None) -> nn.Module:
        """An expert on the device; if none is named the one that is there, or the first."""
        first = next(iter(self.experts))
        return self._swapper.take(expert or self._swapper.on_device or first)

    def stay(self) -> None:
        """Let both experts change places no more: they are where they belong."""
        self._swapper.moves = False

    @property
    def on_device(self) -> str | None:
        """The expert on the device; None before the first is needed."""
        return self._swapper.on_device if self._swapper else None

    @property
    def swaps(self) -> int:
        """How often one expert made way for the other on the device, so far."""
        return self._swapper.swaps if self._swapper else 0

    def expert(self, t: Tensor) -> str:
        """The name of the expert for times t (B,); a batch belongs to one of them."""
        if self.boundary is None:
            return "transformer"
        high = (t >= self.boundary).tolist()
        if any(high) != all(high):
            raise ValueError(
                f"times {t.tolist()} lie on both sides of {self.boundary}, where the experts meet; "
                f"a batch belongs to one expert"
            )
        return "high" if high[0] else "low"

    def velocity(
        self,
        x_t: Tensor,
        t: Tensor,
        text: Text,
        source: Tensor | None = None,
        *,
        guidance: float | None = None,
    ) -> Tensor:
        """v like x_t (B, C, F, h, w), in float32 or better; t (B,) in [0, 1], 1 = noise.

        One timestep per sample, also for TI2V-5B: its timestep per token is for a clean first
        frame, and equals this where all tokens are at one time. Wan has no guidance embedding.
        """
        frames, height, width = x_t.shape[2:]
        if height % PATCH or width % PATCH:
            raise ValueError(f"latents of {width} x {height}: Wan needs even sizes")
        expert, positions = self.expert(t), nullcontext()
        network = self._place(expert)
        if source is not None and expert not in self.without_lora:
            if source.shape != x_t.shape:
                raise ValueError(
                    f"a source of {tuple(source.shape)} beside a target of {tuple(x_t.shape)}: "
                    f"positions are shared, so the shapes must be equal"
                )
            x_t = torch.cat([x_t, source.to(x_t)], dim=2)
            positions = _shared_positions(network)
        with precision(self.config, self.device), positions:
            v = network(
                hidden_states=taken(x_t, self.config),
                timestep=1000 * t.to(x_t, non_blocking=True),
                encoder_hidden_states=taken(text["prompt_embeds"].to(x_t), self.config),
                return_dict=False,
            )[0][:, :, :frames]
        return at_least_single(v, x_t)


@contextmanager
def _shared_positions(network: nn.Module) -> Iterator[None]:
    """Give the second half of a network's tokens the positions of the first."""

    def share(_: nn.Module, __: tuple, tables: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        """Cosines and sines, (1, N, 1, d)."""
        return tuple(torch.cat([f[:, : f.shape[1] // 2]] * 2, dim=1) for f in tables)

    hook = network.rope.register_forward_hook(share)
    try:
        yield
    finally:
        hook.remove()
