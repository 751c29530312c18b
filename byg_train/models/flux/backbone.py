"""FLUX.1 behind one velocity: diffusers' parts, the same code for FLUX.1-dev and the tiny pipeline.

Latents are (B, C, 1, h, w); the transformer sees tokens (B, N, 4C), each a 2 x 2 patch. A source's
tokens follow the target's; their output is dropped. Text is {"prompt_embeds": (B, L, D) from T5,
"pooled": (B, P) from CLIP}.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...config import ConfigError, ModelConfig
from ..fast_gelu import use_fast_gelu
from ..locate import download, fingerprint
from ..quiet import without_bars
from ..storage import store
from .files import COMPONENTS, ENCODERS, PATCH, WHOLE, components, resolve_base, vae_factor
from .tokens import one_frame, pack, position_ids, unpack

if TYPE_CHECKING:
    from diffusers import FluxTransformer2DModel
    from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

    from ..backbone import Text


class TextEncoders(NamedTuple):
    """CLIP for the pooled embedding, T5 for the tokens."""

    clip_tokenizer: CLIPTokenizer
    clip: CLIPTextModel
    t5_tokenizer: T5TokenizerFast
    t5: T5EncoderModel


class FluxBackbone:
    """The `Backbone` of FLUX.1."""

    def __init__(
        self, config: ModelConfig, folder: Path, transformer: FluxTransformer2DModel, device: str
    ) -> None:
        from diffusers import AutoencoderKL

        self.config, self.device, self._folder = config, torch.device(device), folder
        self.dtype: torch.dtype = getattr(torch, config.dtype)
        transformer = transformer.requires_grad_(False).eval()
        if config.gradient_checkpointing:
            # Active whenever gradients are on, also in eval mode. Reentrant checkpointing would cut
            # the graph: no input of a block needs a gradient, only the LoRA inside does.
            transformer.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False))
        if config.compile:
            # A graph per role, gradient mode, source, stride: above 8, the default, it stays eager.
            torch._dynamo.config.recompile_limit = 64
            transformer.compile_repeated_blocks()
        else:
            use_fast_gelu(transformer)
        self.experts = nn.ModuleDict({"transformer": transformer})
        self.spans, self.resident = {"transformer": (0.0, 1.0)}, "transformer"
        self._placed = False
        # Float32 whatever the transformer is: small, and run once per picture.
        vae = AutoencoderKL.from_pretrained(
            folder, subfolder="vae", torch_dtype=torch.float32, use_safetensors=True
        )
        self.vae = vae.requires_grad_(False).eval().to(self.device)
        self.multiple = vae_factor(vae.config.block_out_channels) * PATCH
        self.fingerprint = fingerprint(folder, ENCODERS, config.text_len, config.dtype)
        self._text_encoders: TextEncoders | None = None

    @classmethod
    def load(cls, config: ModelConfig, device: str) -> FluxBackbone:
        """Load transformer and VAE; text encoders follow when the first text is encoded."""
        from diffusers import FluxTransformer2DModel

        base, dtype = resolve_base(config), getattr(torch, config.dtype)
        if Path(base).is_file():
            folder = download(components(config), config.revision, COMPONENTS)
            transformer = _from_file(Path(base), folder, dtype)
        else:
            folder = download(base, config.revision, WHOLE)
            transformer = FluxTransformer2DModel.from_pretrained(
                folder, subfolder="transformer", torch_dtype=dtype, use_safetensors=True
            )
        return cls(config, folder, store(transformer, config, device), device)

    # ------------------------------------------------------------ pictures and words

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, 1, H, W) in [-1, 1] -> normalised latents (B, C, 1, h, w), float32.

        The posterior's mean, not a draw: a picture has one latent, in the cache, in `edit` and in
        ComfyUI, which takes the mean too.
        """
        one_frame(pixels)
        vae = self.vae.to(self.device)  # after `drop_encoders` a part of it may be elsewhere
        z = vae.encode(pixels[:, :, 0].to(self.device, vae.dtype)).latent_dist.mean
        return ((z - vae.config.shift_factor) * vae.config.scaling_factor)[:, :, None]

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Latents (B, C, 1, h, w) -> pixels (B, 3, 1, H, W), about [-1, 1], float32."""
        one_frame(latents)
        z, vae = latents[:, :, 0].to(self.device, self.vae.dtype), self.vae.config
        return self.vae.decode(z / vae.scaling_factor + vae.shift_factor).sample[:, :, None]

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Text:
        """T5 of `text_len` tokens, cut or padded without a mask as in FluxPipeline; CLIP pooled."""
        e = self._encoders()
        whole = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        clip_len = e.clip_tokenizer.model_max_length
        clip_ids = e.clip_tokenizer(texts, max_length=clip_len, **whole).input_ids
        t5_ids = e.t5_tokenizer(texts, max_length=self.config.text_len, **whole).input_ids
        return {
            "prompt_embeds": e.t5(t5_ids.to(self.device)).last_hidden_state,
            "pooled": e.clip(clip_ids.to(self.device)).pooler_output,
        }

    def _encoders(self) -> TextEncoders:
        """Loaded on first use: T5 is 10 GB, and a run whose cache is full never needs it."""
        from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

        def model(kind: type, part: str) -> nn.Module:
            path = self._folder / part
            with without_bars():
                encoder = kind.from_pretrained(path, dtype=self.dtype, use_safetensors=True)
            return encoder.requires_grad_(False).eval().to(self.device)

        if self._text_encoders is None:
            self._text_encoders = TextEncoders(
                CLIPTokenizer.from_pretrained(self._folder / "tokenizer"),
                model(CLIPTextModel, "text_encoder"),
                T5TokenizerFast.from_pretrained(self._folder / "tokenizer_2"),
                model(T5EncoderModel, "text_encoder_2"),
            )
        return self._text_encoders

    def drop_encoders(self) -> None:
        """Free the device of text encoders and VAE encoder; they come back when used again.

        Only then does the transformer go there: beside T5 it would need 10 GB more.
        """
        self._text_encoders = None
        self.vae.encoder.to("cpu")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._place()

    def _place(self) -> None:
        if not self._placed:
            self.experts.to(self.device)
            self._placed = True

    # ------------------------------------------------------------ velocity

    def velocity(
        self,
        x_t: Tensor,
        t: Tensor,
        text: Text,
        source: Tensor | None = None,
        *,
        guidance: float | None = None,
    ) -> Tensor:
        """v like x_t (B, C, 1, h, w), in float32 or better; t (B,) in [0, 1], 1 = noise."""
        self._place()
        transformer = self.experts["transformer"]
        tokens, ids = pack(x_t), position_ids(x_t, first=0)
        seen = tokens.shape[1]
        if source is not None:
            first = 1 if self.config.reference_mode == "index" else 0
            tokens = torch.cat([tokens, pack(source.to(x_t))], dim=1)
            ids = torch.cat([ids, position_ids(source, first)])
        embeds = {name: e.to(x_t) for name, e in text.items()}
        with self._precision():
            v = transformer(
                hidden_states=tokens,
                timestep=t.to(x_t),  # diffusers multiplies by 1000
                guidance=self._guidance(x_t, guidance),
                pooled_projections=embeds["pooled"],
                encoder_hidden_states=embeds["prompt_embeds"],
                img_ids=ids,
                txt_ids=ids.new_zeros(embeds["prompt_embeds"].shape[1], 3),
                return_dict=False,
            )[0][:, :seen]
        v = v.to(torch.promote_types(x_t.dtype, torch.float32))
        return unpack(v, x_t.shape[-2], x_t.shape[-1])

    def _guidance(self, x_t: Tensor, guidance: float | None) -> Tensor | None:
        if not self.experts["transformer"].config.guidance_embeds:
            return None
        if guidance is None:
            raise ConfigError(
                f"model {self.config.path!r} has a guidance embedding and got null: set "
                f"guidance.train, guidance.prior and guidance.sample to numbers"
            )
        return x_t.new_full((len(x_t),), guidance)

    def _precision(self) -> AbstractContextManager[None]:
        """bf16 products over float32 inputs and LoRA weights; plain arithmetic for float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)


def _from_file(path: Path, folder: Path, dtype: torch.dtype) -> FluxTransformer2DModel:
    """A single-file transformer in BFL's or diffusers' layout; `folder` has its configuration."""
    from diffusers import FluxTransformer2DModel

    wanted = folder / "transformer"
    try:
        transformer = FluxTransformer2DModel.from_single_file(
            str(path), config=str(wanted), torch_dtype=dtype
        )
        absent = [name for name, p in transformer.named_parameters() if p.is_meta]
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{path} is not the FLUX transformer that {wanted} describes "
            f"({type(error).__name__}: {error}); wanted BFL's or diffusers' layout"
        ) from None
    if absent:
        raise ConfigError(
            f"{path} lacks {len(absent)} weights of the FLUX transformer that {wanted} describes "
            f"(first: {absent[0]})"
        )
    return transformer
