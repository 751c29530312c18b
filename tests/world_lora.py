"""A LoRA with random weights on the tiny world's FLUX, for tests in ComfyUI."""

from __future__ import annotations

from pathlib import Path

import comfy_host
import torch
from graphs import INFO

from byg_train.config import LoraSettings, ModelConfig
from byg_train.models.flux.backbone import FluxBackbone
from byg_train.models.lora import LoraBank
from byg_train.models.lora_file import LoraInfo, write_lora


def trained(mode: str = "index") -> tuple[FluxBackbone, LoraBank]:
    """The world's backbone in float32, with a LoRA whose A and B are random."""
    config = ModelConfig(path="world", dtype="float32", text_len=INFO.text_len, reference_mode=mode)
    backbone = FluxBackbone.load(config, "cpu")
    bank = LoraBank(backbone.experts, LoraSettings(rank=INFO.rank), None, seed=0)
    g = torch.Generator().manual_seed(1)
    state, counts = bank.state_dict()
    random = {k: torch.randn(v.shape, generator=g) * v.shape[-1] ** -0.5 for k, v in state.items()}
    bank.load_state_dict(random, counts)
    return backbone, bank


def write(bank: LoraBank, name: str, info: LoraInfo = INFO, *, folder: Path | None = None) -> Path:
    """Into a folder; without one, the host's models/loras."""
    path = (folder or comfy_host.loras()) / f"{name}.safetensors"
    tensors = bank.tensors("transformer", "edit")
    kind = {"scale": bank.scale, "family": "flux", "dtype": torch.float32}
    write_lora(path, tensors, metadata=info.to_metadata(), **kind)
    return path
