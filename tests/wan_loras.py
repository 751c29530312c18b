"""LoRA files of the tiny Wans, and the tiny networks in ComfyUI's words."""

from __future__ import annotations

from pathlib import Path

from tiny_wan import HIGH, LOW, base, load, make_bank, randomise

from byg_train.models.lora import LoraBank
from byg_train.models.lora_file import (
    LoraInfo,
    expert_path,
    read_lora,
    write_lora,
)
from byg_train.models.wan.backbone import WanBackbone

TIMES = {"high": HIGH, "low": LOW, "transformer": HIGH}
INFO = LoraInfo(
    base="Wan-AI/Wan2.2-T2V-A14B-Diffusers", family="wan", reference_mode="shared", text_len=512,
    instructions=["Turn the video to cartoon style"], reverse_instructions=["and back"],
    resolution=429, guidance_train=None, guidance_prior=None, guidance_sample=None,
    sample_steps=40, sample_shift=12.0, rank=4, steps=750, weights="edit", dataset="12e4",
    expert="high", boundary=0.875, frames=81, fps=16.0,
)  # fmt: skip
# Everything that has a place in ComfyUI's key map; the last of these are outside of the blocks.
ALL = ["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"]
ALL += ["text_embedder.linear_1", "text_embedder.linear_2", "time_embedder.linear_1"]
ALL += ["time_embedder.linear_2", "time_proj", "proj_out"]
# The tiny networks in ComfyUI's words.
COMFY = dict(
    image_model="wan2.1", model_type="t2v", dim=24, in_dim=4, out_dim=4, num_heads=2, ffn_dim=32,
    num_layers=2, patch_size=[1, 2, 2], freq_dim=16, window_size=[-1, -1], qk_norm=True,
    cross_attn_norm=True, eps=1e-6, text_dim=24, text_len=512,
)  # fmt: skip


def trained(kind: str = "pair", **settings: object) -> tuple[WanBackbone, LoraBank]:
    """A backbone with random A and B at scale 1.5."""
    backbone = load(base(kind))
    bank = make_bank(backbone, alpha=6.0, **settings)
    randomise(bank)
    return backbone, bank


def write(bank: LoraBank, expert: str, path: Path, **changes: object) -> Path:
    """One expert's file beside `path`; what it rounds is rounded in the bank as well."""
    path = expert_path(path, expert)
    plain = {"scale": bank.scale, "family": "wan", "metadata": INFO.to_metadata()}
    write_lora(path, bank.tensors(expert, "edit"), **{**plain, **changes})
    bank.load_tensors(expert, read_lora(path).by_diffusers_names())
    return path
