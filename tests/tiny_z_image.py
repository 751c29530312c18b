"""A tiny random Z-Image pipeline in diffusers layout, with pad tokens that are not zero."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tiny_vae import tiny_vae
from torch import Tensor
from transformers import Qwen3Config, Qwen3Model

from byg_train.config import ModelConfig
from byg_train.core.roles import EditBatch
from byg_train.models.z_image.backbone import ZImageBackbone
from tools.world.words import build_qwen_tokenizer

TEXT_LEN, WORDS = 64, 24
T = torch.tensor([0.9, 0.35])
FOLDER = TemporaryDirectory(prefix="tiny-z-image-")  # removed when the tests end
SENTENCES = ["a 3d render of a red thing 0", "a 3d render of a blue thing", "paint the thing red"]


def transformer() -> ZImageTransformer2DModel:
    """2 blocks of 2 heads, and one refiner of either kind; width 32."""
    network = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2,
        cap_feat_dim=WORDS, axes_dims=[8, 4, 4], axes_lens=[256, 32, 32],
    )  # fmt: skip
    for p in network.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=p.shape[1] ** -0.5)
    for pads in (network.x_pad_token, network.cap_pad_token):
        torch.nn.init.normal_(pads)
    return network


@cache
def base() -> Path:
    """The folder; built once, never changed."""
    sizes = {"intermediate_size": 32, "num_attention_heads": 2, "head_dim": 8}
    return written("base", transformer, hidden_size=WORDS, **sizes)


def written(name: str, network: Callable[[], ZImageTransformer2DModel], **qwen: object) -> Path:
    """A pipeline in a folder of `name`, random from seed 0; `qwen`: sizes of its text encoder."""
    torch.manual_seed(0)
    tokenizer = build_qwen_tokenizer(SENTENCES)
    folder = Path(FOLDER.name) / name
    sizes = {"num_hidden_layers": 3, "num_key_value_heads": 1, **qwen}
    words = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False),
        vae=tiny_vae(),
        text_encoder=Qwen3Model(Qwen3Config(**words, **sizes)),
        tokenizer=tokenizer,
        transformer=network(),
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def config(path: Path, **changes: object) -> ModelConfig:
    """Float32, no checkpointing, unless `changes` say otherwise."""
    plain = {"family": "z_image", "path": str(path), "dtype": "float32", "text_len": TEXT_LEN}
    return ModelConfig(**{**plain, "gradient_checkpointing": False, **changes})


def load(path: Path | None = None, **changes: object) -> ZImageBackbone:
    """The tiny backbone on the CPU, with its networks."""
    backbone = ZImageBackbone.load(config(path or base(), **changes), "cpu")
    assert backbone.experts  # loaded when they are asked for
    return backbone


def latents(
    seed: int, batch: int = 2, dtype: torch.dtype = torch.float32, size: tuple[int, int] = (6, 4)
) -> Tensor:
    """Random latents (B, 4, 1, h, w)."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 4, 1, *size, generator=g, dtype=dtype)


def text(
    seed: int, lengths: tuple[int, ...] = (12, 40), dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Random prompt embeddings of so many words."""
    g = torch.Generator().manual_seed(seed)
    longest = max(TEXT_LEN, *lengths)
    embeds = torch.randn(len(lengths), longest, WORDS, generator=g, dtype=dtype)
    for row, length in zip(embeds, lengths, strict=True):
        row[length:] = 0
    return {"prompt_embeds": embeds, "lengths": torch.tensor(lengths)}


def edit_batch(dtype: torch.dtype = torch.float32) -> EditBatch:
    """Two random training tuples."""
    return EditBatch(latents(1, dtype=dtype), *(text(s, dtype=dtype) for s in (2, 3, 4, 5)))
