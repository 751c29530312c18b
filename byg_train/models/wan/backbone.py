"""Wan behind one velocity: T2V-A14B with its two experts, TI2V-5B, Wan2.1-T2V-1.3B, and tiny ones.

Pixels are (B, 3, 4k + 1, H, W), latents (B, C, k + 1, h, w). A source joins the target on the frame
axis, whose patches are the transformer's tokens, at the target's own positions and timestep
(App. B.2); its output is dropped. Text is {"prompt_embeds": (B, L, D)} from UMT5, zero behind the
words.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from ...config import ModelConfig
from ..frozen import at_least_single, autoencoder, precision, prepare, text_encoder
from ..locate import fingerprint
from .files import ENCODERS, PATCH
from .loading import Base, load_base
from .swapper import ExpertSwapper

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

    from ..backbone import Text


class TextEncoder(NamedTuple):
    """UMT5."""

    tokenizer: PreTrainedTokenizerBase
    umt5: UMT5EncoderModel


class WanBackbone:
    """The `Backbone` of Wan."""

    def __init__(self, config: ModelConfig, base: Base, device: str) -> None:
        from diffusers import AutoencoderKLWan

        self.config, self.device, self._folder = config, torch.device(device), base.folder
        self.dtype: torch.dtype = getattr(torch, config.dtype)
        self.boundary = base.boundary
        # Expert -> the times that it is for, from the first to the last of a sampling.
        self.spans = {"transformer": (0.0, 1.0)}
        if base.boundary is not None:
            self.spans = {"high": (base.boundary, 1.0), "low": (0.0, base.boundary)}
        # Experts without a LoRA: they are the base, which has never seen a source.
        self.without_lora: Collection[str] = ()
        for network in base.networks.values():
            self._prepare(network)
        self.experts = nn.ModuleDict(base.networks)
        self._swapper = ExpertSwapper(self.experts, self.device)
        self.vae = autoencoder(AutoencoderKLWan, base.folder, self.device)
        self.vae.enable_slicing()  # clip by clip: they are large
        self.multiple = self.vae.config.scale_factor_spatial * PATCH
        self.fingerprint = fingerprint(base.folder, ENCODERS, config.text_len, config.dtype)
        self._text_encoder: TextEncoder | None = None

    @classmethod
    def load(cls, config: ModelConfig, device: str) -> WanBackbone:
        """From a diffusers folder, a single file (or pair of files), or a hub id."""
        return cls(config, load_base(config, device), device)

    def _prepare(self, network: nn.Module) -> None:
        if self.dtype != torch.float32:
            # Wan embeds times in float32; autocast would round them.
            embedder = network.condition_embedder.time_embedder
            embedder.forward = torch.autocast(self.device.type, enabled=False)(embedder.forward)
        prepare(network, self.config)

    # ------------------------------------------------------------ clips and words

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, 4k + 1, H, W) in [-1, 1] -> normalised latents (B, C, k + 1, h, w).

        The posterior's mean, not a draw: a clip has one latent, in the cache, in `edit` and in
        ComfyUI, which takes the mean too.
        """
        _, _, frames, height, width = pixels.shape
        if frames % 4 != 1 or height % self.multiple or width % self.multiple:
            raise ValueError(
                f"got {frames} frames of {width} x {height}; this Wan takes 4k + 1 frames (such as "
                f"{max(1, (frames - 1) // 4 * 4 + 1)}) and multiples of {self.multiple} pixels"
            )
        vae = self.vae.to(self.device)  # after `drop_encoders` a part of it may be elsewhere
        z = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mean
        mean, std = self._statistics()
        return (z - mean) / std

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Latents (B, C, k + 1, h, w) -> pixels (B, 3, 4k + 1, H, W) in [-1, 1], float32."""
        mean, std = self._statistics()
        return self.vae.decode(latents.to(self.device, self.vae.dtype) * std + mean).sample

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of every latent channel, (1, C, 1, 1, 1)."""
        c = self.vae.config
        mean, std = (torch.tensor(v, device=self.device) for v in (c.latents_mean, c.latents_std))
        return mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Text:
        """UMT5 of `text_len` tokens, zero where there are no words: padding attends as zeros do."""
        e = self._encoder()
        tokens = e.tokenizer(
            texts,
            max_length=self.config.text_len,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        embeds = e.umt5(tokens.input_ids, tokens.attention_mask).last_hidden_state
        return {"prompt_embeds": embeds * tokens.attention_mask[..., None].to(embeds)}

    def _encoder(self) -> TextEncoder:
        """Loaded on first use: UMT5 is 11 GB, and a run whose cache is full never needs it."""
        from transformers import AutoTokenizer, UMT5EncoderModel

        if self._text_encoder is None:
            folder, to = self._folder, (self.dtype, self.device)
            self._text_encoder = TextEncoder(
                AutoTokenizer.from_pretrained(folder / "tokenizer"),
                text_encoder(UMT5EncoderModel, folder / "text_encoder", *to),
            )
        return self._text_encoder

    def drop_encoders(self) -> None:
        """Free the device of text encoder and VAE encoder; they come back when used again.

        Only then do LoRAs and the first expert go there: beside UMT5 they would need 30 GB more.
        """
        self._text_encoder = None
        self.vae.encoder.to("cpu")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._swapper.take(self._swapper.on_device or next(iter(self.experts)))

    # ------------------------------------------------------------ velocity

    @property
    def on_device(self) -> str | None:
        """The expert on the device; None before the first is needed."""
        return self._swapper.on_device

    @property
    def swaps(self) -> int:
        """How often one expert made way for the other on the device, so far."""
        return self._swapper.swaps

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
        network = self._swapper.take(expert)
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
                hidden_states=x_t,
                timestep=1000 * t.to(x_t),
                encoder_hidden_states=text["prompt_embeds"].to(x_t),
                return_dict=False,
            )[0][:, :, :frames]
        return at_least_single(v, x_t)


@contextmanager
def _shared_positions(network: nn.Module) -> Iterator[None]:
    """Inside, the second half of a network's tokens has the positions of the first."""

    def share(_: nn.Module, __: tuple, tables: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        """Cosines and sines, (1, N, 1, d)."""
        return tuple(torch.cat([f[:, : f.shape[1] // 2]] * 2, dim=1) for f in tables)

    hook = network.rope.register_forward_hook(share)
    try:
        yield
    finally:
        hook.remove()
