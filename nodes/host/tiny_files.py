"""The files of a small pipeline in diffusers' layout, and its words, for ComfyUI's classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.model_management as management
import torch
from comfy import sd1_clip
from comfy.latent_formats import LatentFormat
from comfy.model_patcher import ModelPatcher
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from ...byg_train.family import part_folder

Config = dict[str, Any]


def read_config(folder: Path, part: str, file: str = "config.json") -> Config:
    """Read the configuration of a part."""
    return json.loads((part_folder(folder, part) / file).read_text(encoding="utf-8"))


def read_weights(folder: Path, part: str) -> dict[str, Tensor]:
    """Read the weights of a part in float32."""
    file = next(part_folder(folder, part).glob("*.safetensors"))
    return {name: weight.float() for name, weight in load_file(file).items()}


def fill(module: nn.Module, weights: dict[str, Tensor], spare: tuple[str, ...] = ()) -> None:
    """Load all weights; only parts named `spare` may stay without. Raises ValueError otherwise."""
    missing, unexpected = module.load_state_dict(weights, strict=False)
    missing = [name for name in missing if not name.startswith(spare)]
    if missing or unexpected:
        raise ValueError(f"weights of a tiny pipeline do not fit: {(missing + unexpected)[:3]}")


def unfilled(config: Any, latent_format: LatentFormat) -> ModelPatcher:
    """A MODEL of one of ComfyUI's configurations, in float32, whose weights are to come."""
    config.latent_format = latent_format
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "")
    return ModelPatcher(model, management.get_torch_device(), management.unet_offload_device())


def token_limit(folder: Path, part: str) -> int:
    """Return the number of tokens that texts are cut and padded to."""
    return read_config(folder, part, "tokenizer_config.json")["model_max_length"]


class FromJson:
    """A tokenizer.json as ComfyUI's tokenizers want it, whichever transformers is here."""

    def __init__(self, file: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(file))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    @classmethod
    def from_pretrained(cls, folder: Path) -> FromJson:
        return cls(folder / "tokenizer.json")

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": self.tokenizer.encode(text).ids}

    def get_vocab(self) -> dict[str, int]:
        return self.tokenizer.get_vocab()


class Words(sd1_clip.SDTokenizer):
    """Truncates long texts as the pipeline does, where ComfyUI would encode the rest as well."""

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kw: Any) -> list:
        row = super().tokenize_with_weights(text, return_word_ids, **kw)[0]
        padding = (self.pad_token, 1.0, 0)[: len(row[0])]
        return [row + [padding] * (self.min_length - len(row))]


def words(
    folder: Path, part: str, key: str, embedding_directory: Any, positions: int | None = None
) -> Words:
    """A tokenizer with the pipeline's file and length; `key` is ComfyUI's name of its encoder.

    With `positions`, all of which it is padded to, it is a CLIP's, or else a T5's.
    """
    length, is_clip = token_limit(folder, part), positions is not None
    return Words(
        folder / part,
        tokenizer_class=FromJson,
        embedding_directory=embedding_directory,
        embedding_key=key,
        has_start_token=is_clip,
        pad_with_end=is_clip,
        max_length=length,
        min_length=positions if is_clip else length,
    )
