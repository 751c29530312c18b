"""The files of a small pipeline in diffusers' layout, and its words, for ComfyUI's classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from comfy import sd1_clip
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

Config = dict[str, Any]


def read_config(folder: Path, part: str, file: str = "config.json") -> Config:
    """Read the configuration of a part."""
    return json.loads((folder / part / file).read_text(encoding="utf-8"))


def read_weights(folder: Path, part: str) -> dict[str, Tensor]:
    """Read the weights of a part in float32."""
    file = next((folder / part).glob("*.safetensors"))
    return {name: weight.float() for name, weight in load_file(file).items()}


def fill(module: nn.Module, weights: dict[str, Tensor], spare: tuple[str, ...] = ()) -> None:
    """Load all weights; only parts named `spare` may stay without. Raises ValueError otherwise."""
    missing, unexpected = module.load_state_dict(weights, strict=False)
    missing = [name for name in missing if not name.startswith(spare)]
    if missing or unexpected:
        raise ValueError(f"weights of a tiny pipeline do not fit: {(missing + unexpected)[:3]}")


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
