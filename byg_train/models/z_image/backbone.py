"""Z-Image behind one velocity: diffusers' parts, the same code for the 6 B model and the tiny one.

Time runs backwards in the transformer, from 0 at noise to 1, and it gives minus the velocity. Text
is {"prompt_embeds": (B, L, D) from Qwen3, zero behind the words, "lengths": (B,)}; the transformer
takes the words alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..frozen import at_least_single, precision, taken
from ..picture_backbone import PictureBackbone
from .layout import pads_like, place_as_comfyui

if TYPE_CHECKING:
    from ..backbone import Text
    from ..frozen import TextEncoder

# Qwen3's chat template around one instruction, thinking allowed; ComfyUI has it in words, too.
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


class ZImageBackbone(PictureBackbone):
    """The `Backbone` of Z-Image."""

    def _prepared(self, network: nn.Module) -> nn.Module:
        place_as_comfyui(network)
        # Tables of positions are made at the first call and kept: under inference mode they would
        # be of no use to a backward.
        network.rope_embedder(torch.zeros(1, 3, dtype=torch.int32))
        return super()._prepared(network)

    def _load_encoders(self) -> TextEncoder:
        from transformers import Qwen3Model

        return self._text_encoder(Qwen3Model)

    def _encode(self, encoders: TextEncoder, texts: list[str]) -> Text:
        """The last state but one of Qwen3, of `text_len` tokens at most, those around it included.

        Padding stands behind the words, which never look there.
        """
        tokens = encoders.tokenizer(
            [CHAT.format(text) for text in texts],
            max_length=self.config.text_len,
            padding=True,
            padding_side="right",
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        states = encoders.model(
            tokens.input_ids, tokens.attention_mask, output_hidden_states=True
        ).hidden_states[-2]
        words = states * tokens.attention_mask[..., None].to(states)
        missing = self.config.text_len - words.shape[1]
        return {
            "prompt_embeds": pad(words, (0, 0, 0, missing)),
            "lengths": tokens.attention_mask.sum(dim=1).cpu(),
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
        """v like x_t (B, C, 1, h, w), in float32 or better; t (B,) in [0, 1], 1 = noise.

        With a source it is what stock ComfyUI computes for a ReferenceLatent; the source may be of
        another size. Z-Image has no guidance embedding.
        """
        transformer = self._place()
        self._latents(x_t)
        images, captions = list(self._cast(x_t)), self._captions(text)
        forward_time = 1 - t.to(x_t.device, non_blocking=True)
        omni = {}
        if source is not None:
            self._latents(source)
            images = [[y, x] for y, x in zip(self._cast(source.to(x_t)), images, strict=True)]
            captions = [[pads_like(c), c] for c in captions]
            omni["siglip_feats"] = [None] * len(images)
            omni["image_noise_mask"] = [[0, 1]] * len(images)
        with precision(self.config, self.device):
            v = transformer(images, forward_time, captions, return_dict=False, **omni)[0]
        return -at_least_single(torch.stack(v), x_t)

    def _cast(self, x: Tensor) -> Tensor:
        """Bring latents to the type of the stream of tokens: bf16 in bf16, as in ComfyUI."""
        return x if self.dtype == torch.float32 else x.to(self.dtype)

    def _captions(self, text: Text) -> list[Tensor]:
        """The words of each sample, (L_i, D)."""
        embeds, lengths = text["prompt_embeds"], text["lengths"].tolist()
        kind = torch.promote_types(self.dtype, embeds.dtype)
        return [taken(e[:n].to(kind), self.config) for e, n in zip(embeds, lengths, strict=True)]
