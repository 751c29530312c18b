"""A LoRA with random weights on the small Z-Image of `host_z_image`, for tests in ComfyUI."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import tiny_z_image
import torch
from host_z_image import base

from byg_train.config import LoraSettings
from byg_train.models.lora import LoraBank
from byg_train.models.lora_file import LoraInfo, write_lora
from byg_train.models.z_image.backbone import ZImageBackbone

TEXT, CFG, SHIFT = "paint the thing red", 2.0, 3.0
INFO = LoraInfo(
    base="", family="z_image", reference_mode="index", text_len=tiny_z_image.TEXT_LEN,
    instructions=[TEXT], reverse_instructions=["paint the thing blue"], resolution=48,
    guidance_train=None, guidance_prior=None, guidance_sample=None, sample_steps=4,
    sample_shift=SHIFT, rank=2, steps=5, weights="edit", dataset="abc", multiple=8, cfg=CFG,
    negative="",
)  # fmt: skip


def trained() -> tuple[ZImageBackbone, LoraBank]:
    """The trainer's side in float32, with a LoRA whose A and B are random."""
    backbone = tiny_z_image.load(base())
    bank = LoraBank(backbone.experts, LoraSettings(rank=2), None, seed=0)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in bank.named_parameters().values():
            weight.copy_(torch.randn(weight.shape, generator=g) * weight.shape[-1] ** -0.5)
    return backbone, bank


def write(path: Path) -> None:
    """Into a file, with the folder of its base."""
    bank, info = trained()[1], replace(INFO, base=str(base()))
    kind = {"scale": bank.scale, "family": "z_image", "dtype": torch.float32}
    write_lora(path, bank.tensors("transformer", "edit"), metadata=info.to_metadata(), **kind)
