"""FLUX.1 behind one velocity: diffusers' parts, the same code for FLUX.1-dev and the tiny pipeline.

The transformer sees tokens (B, N, 4C), each a 2 x 2 patch of the latents. A source's tokens follow
the target's; their output is dropped. Text is {"prompt_embeds": (B, L, D) from T5, "pooled": (B, P)
from CLIP}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ...config import ConfigError
from ..frozen import at_least_single, precision, taken, text_encoder
from ..picture_backbone import PictureBackbone
from ..picture_files import PATCH

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

    from ..backbone import Text


class TextEncoders(NamedTuple):
    """CLIP for the pooled embedding, T5 for the tokens."""

    clip_tokenizer: CLIPTokenizer
    clip: CLIPTextModel
    t5_tokenizer: T5TokenizerFast
    t5: T5EncoderModel


class FluxBackbone(PictureBackbone):
    """The `Backbone` of FLUX.1."""

    def _load_encoders(self) -> TextEncoders:
        from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

        folder, to = self._folder, (self.dtype, self.device)
        return TextEncoders(
            CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            text_encoder(CLIPTextModel, folder / "text_encoder", *to),
            T5TokenizerFast.from_pretrained(folder / "tokenizer_2"),
            text_encoder(T5EncoderModel, folder / "text_encoder_2", *to),
        )

    def _encode(self, encoders: TextEncoders, texts: list[str]) -> Text:
        """T5 of `text_len` tokens, cut or padded without a mask as in FluxPipeline; CLIP pooled."""
        e = encoders
        whole = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        clip_len = e.clip_tokenizer.model_max_length
        clip_ids = e.clip_tokenizer(texts, max_length=clip_len, **whole).input_ids
        t5_ids = e.t5_tokenizer(texts, max_length=self.config.text_len, **whole).input_ids
        return {
            "prompt_embeds": e.t5(t5_ids.to(self.device)).last_hidden_state,
            "pooled": e.clip(clip_ids.to(self.device)).pooler_output,
        }

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
        transformer = self._place()
        self._latents(x_t)
        tokens, ids = pack(x_t), position_ids(x_t, first=0)
        seen = tokens.shape[1]
        if source is not None:
            self._latents(source)
            first = 1 if self.config.reference_mode == "index" else 0
            tokens = torch.cat([tokens, pack(source.to(x_t))], dim=1)
            ids = torch.cat([ids, position_ids(source, first)])
        embeds = {name: taken(e.to(x_t), self.config) for name, e in text.items()}
        with precision(self.config, self.device):
            v = transformer(
                hidden_states=taken(tokens, self.config),
                timestep=t.to(x_t, non_blocking=True),  # diffusers multiplies by 1000
                guidance=self._guidance(x_t, guidance),
                pooled_projections=embeds["pooled"],
                encoder_hidden_states=embeds["prompt_embeds"],
                img_ids=ids,
                txt_ids=ids.new_zeros(embeds["prompt_embeds"].shape[1], 3),
                return_dict=False,
            )[0][:, :seen]
        return unpack(at_least_single(v, x_t), x_t.shape[-2], x_t.shape[-1])

    def _guidance(self, x_t: Tensor, guidance: float | None) -> Tensor | None:
        if not self.experts["transformer"].config.guidance_embeds:
            return None
        if guidance is None:
            raise ConfigError(
                f"model {self.config.path!r} has a guidance embedding and got null: set "
                f"guidance.train, guidance.prior and guidance.sample to numbers"
            )
        return x_t.new_full((len(x_t),), guidance)


def pack(x: Tensor) -> Tensor:
    """(B, C, 1, h, w), h and w even -> tokens (B, h/2 * w/2, 4C); a token is C x 2 x 2."""
    b, c, _, h, w = x.shape
    x = x.reshape(b, c, h // PATCH, PATCH, w // PATCH, PATCH)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, (h // PATCH) * (w // PATCH), c * PATCH**2)


def unpack(tokens: Tensor, h: int, w: int) -> Tensor:
    """The inverse of `pack`."""
    b, _, d = tokens.shape
    x = tokens.reshape(b, h // PATCH, w // PATCH, d // PATCH**2, PATCH, PATCH)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(b, d // PATCH**2, 1, h, w)


def position_ids(x: Tensor, first: int) -> Tensor:
    """(first, row, column) of every token, (N, 3). Float32: bf16 is exact up to 256 only."""
    h, w = x.shape[-2] // PATCH, x.shape[-1] // PATCH
    ids = torch.zeros(h, w, 3, device=x.device)
    ids[..., 0] = first
    ids[..., 1] = torch.arange(h, device=x.device)[:, None]
    ids[..., 2] = torch.arange(w, device=x.device)
    return ids.reshape(h * w, 3)
