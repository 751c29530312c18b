"""A LoRA of the tiny FLUX that changes pictures a lot."""

from __future__ import annotations

from pathlib import Path

import torch

from byg_train.config import LoraSettings, ModelConfig
from byg_train.models.backbone import load_backbone
from byg_train.models.lora import LoraBank
from byg_train.models.lora_file import LoraInfo, write_lora

TEXT = "paint the thing blue"


def info(base: Path, **changes: object) -> LoraInfo:
    values = {
        "base": str(base),
        "family": "flux",
        "reference_mode": "index",
        "text_len": 24,
        "instructions": [TEXT],
        "reverse_instructions": ["paint the thing red"],
        "resolution": 16,
        "guidance_train": 1.0,
        "guidance_prior": 1.0,
        "guidance_sample": 1.5,
        "sample_steps": 3,
        "sample_shift": 2.0,
        "rank": 2,
        "steps": 5,
        "weights": "edit",
        "dataset": "abc",
        "multiple": 8,
    }
    return LoraInfo(**{**values, **changes})


def write_random(folder: Path, base: Path) -> Path:
    """A LoRA with random A and B: it changes pictures a lot."""
    backbone = load_backbone(ModelConfig(path=str(base), text_len=24), "cpu")
    bank = LoraBank(backbone.experts, LoraSettings(rank=2), None, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in bank.named_parameters().values():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.4)
    path = folder / "blue.safetensors"
    tensors = bank.tensors("transformer", "edit")
    metadata = info(base).to_metadata()
    write_lora(path, tensors, scale=bank.scale, family="flux", metadata=metadata)
    return path
