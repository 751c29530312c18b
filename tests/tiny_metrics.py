"""Tiny random CLIP and DINO in the folders that transformers writes."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, ViTConfig, ViTModel

from byg_train.family import WORLD as EMBEDDED_WORLD

WORLD = EMBEDDED_WORLD / "base"


def write_clip_model(folder: Path) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(WORLD / "tokenizer")
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    small |= {"num_attention_heads": 2, "initializer_range": 0.5}
    text = {**small, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    text |= {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    vision = {**small, "image_size": 32, "patch_size": 8}
    CLIPModel(
        CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_dino(folder: Path) -> Path:
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        image_size=64, patch_size=16, initializer_range=0.5,
    )  # fmt: skip
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder
