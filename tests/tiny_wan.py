"""Tiny random Wan pipelines in diffusers layout: like A14B with its pair, TI2V-5B, Wan 2.1."""

from __future__ import annotations

import json
import re
import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from torch import Tensor
from transformers import T5TokenizerFast, UMT5Config, UMT5EncoderModel

from byg_train.config import LoraSettings, ModelConfig
from byg_train.core.roles import EditBatch
from byg_train.models.lora import LoraBank
from byg_train.models.wan.backbone import WanBackbone

TEXT_LEN, BOUNDARY = 8, 0.875
# Clips of 5 x 32 x 64: latents of 2 x 4 x 8 and 16 tokens, in the 5B's VAE 2 x 2 x 4 and 4.
FRAMES, HEIGHT, WIDTH = 5, 32, 64
HIGH, LOW = torch.tensor([0.95, 0.875]), torch.tensor([0.8, 0.35])
FOLDER = TemporaryDirectory(prefix="tiny-wan-")  # removed when the tests end
# All attention and MLP projections.
TARGETS = [f"attn{i}.{p}" for i in (1, 2) for p in ("to_q", "to_k", "to_v", "to_out.0")]
TARGETS += ["ffn.net.0.proj", "ffn.net.2"]
WEIGHTS = "diffusion_pytorch_model.safetensors"
PARTS = {"high": "transformer", "low": "transformer_2"}
SENTENCE = "a red fox runs over the snow in cartoon style turn video to photo-realistic"


def tokenizer() -> T5TokenizerFast:
    """Every word of SENTENCE is a piece."""
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("▁", -10.0)]
    vocab += [(f"▁{word}", -5.0) for word in dict.fromkeys(SENTENCE.split())]
    return T5TokenizerFast(vocab=vocab, extra_ids=0, model_max_length=512)


def transformer(channels: int) -> WanTransformer3DModel:
    """2 blocks of 2 heads; width 24."""
    network = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=channels, out_channels=channels,
        text_dim=24, freq_dim=16, ffn_dim=32, num_layers=2,
    )  # fmt: skip
    for p in network.parameters():
        if p.ndim > 1 and p.shape[0] > 1:
            torch.nn.init.normal_(p, std=p[0].numel() ** -0.5)
    return network


def vae(like_5b: bool) -> AutoencoderKLWan:
    """Wan 2.1's VAE with 4 channels, or the 5B's, which folds 2 x 2 pixels into channels first."""
    torch.manual_seed(3)
    other = {}
    if like_5b:
        other = dict(
            is_residual=True, patch_size=2, in_channels=12, out_channels=12,
            scale_factor_spatial=16, decoder_base_dim=4,
        )  # fmt: skip
    return AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.5, 2.0, 1.0], **other,
    )  # fmt: skip


@cache
def base(kind: str = "pair") -> Path:
    """The folder of a "pair" of experts, of "one" like TI2V-5B, or of a "small" one like 1.3B.

    The last is one network with the pair's VAE, and its files are as old as Wan 2.1's. Built once,
    never changed.
    """
    torch.manual_seed(0)
    pieces = tokenizer()
    one = kind == "one"
    alone = kind != "pair"
    umt5 = UMT5Config(
        vocab_size=len(pieces), d_model=24, d_ff=32, d_kv=8, num_heads=2, num_layers=1,
        dropout_rate=0.0, feed_forward_proj="gated-gelu",
    )  # fmt: skip
    folder = Path(FOLDER.name) / kind
    WanPipeline(
        tokenizer=pieces,
        text_encoder=UMT5EncoderModel(umt5),
        vae=vae(like_5b=one),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=transformer(4),
        transformer_2=None if alone else transformer(4),
        boundary_ratio=None if alone else BOUNDARY,
        expand_timesteps=one,
    ).save_pretrained(folder, safe_serialization=True)
    if kind == "small":
        younger = ("transformer_2", "boundary_ratio", "expand_timesteps", "scale_factor_spatial")
        for file in (folder / "model_index.json", folder / "vae" / "config.json"):
            younger = (
                "transformer_2",
                "boundary_ratio",
                "expand_timesteps",
                "scale_factor_spatial",
            )
            said = json.loads(file.read_text())
            file.write_text(json.dumps({k: v for k, v in said.items() if k not in younger}))
    return folder


def config(path: Path, **changes: object) -> ModelConfig:
    """Float32, no checkpointing, unless `changes` say otherwise."""
    plain = {"family": "wan", "path": str(path), "dtype": "float32", "text_len": TEXT_LEN}
    plain |= {"reference_mode": "shared", "gradient_checkpointing": False}
    return ModelConfig(**{**plain, **changes})


def load(path: Path, **changes: object) -> WanBackbone:
    """The tiny backbone on the CPU, with its networks."""
    backbone = WanBackbone.load(config(path, **changes), "cpu")
    assert backbone.experts  # loaded when they are asked for
    return backbone


def latents(seed: int, batch: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random latents (B, 4, 2, 4, 8)."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 4, 2, 4, 8, generator=g, dtype=dtype)


def text(seed: int, batch: int = 2, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Random prompt embeddings."""
    g = torch.Generator().manual_seed(seed)
    return {"prompt_embeds": torch.randn(batch, TEXT_LEN, 24, generator=g, dtype=dtype)}


def edit_batch(dtype: torch.dtype = torch.float32, seed: int = 0) -> EditBatch:
    """Two random training tuples."""
    parts = (text(seed + s, dtype=dtype) for s in (2, 3, 4, 5))
    return EditBatch(latents(seed + 1, dtype=dtype), *parts)


def velocity(backbone: WanBackbone, t: Tensor = HIGH) -> Tensor:
    """v at fixed random inputs, with a source."""
    with torch.no_grad():
        return backbone.velocity(latents(1), t, text(2), latents(7))


def make_bank(backbone: WanBackbone, decay: float | None = 0.9, **settings: object) -> LoraBank:
    """A LoRA of rank 4 over both experts, seed 0."""
    settings = {"rank": 4, "targets": TARGETS, **settings}
    return LoraBank(backbone.experts, LoraSettings(**settings), decay, seed=0)


def randomise(bank: LoraBank) -> None:
    """Random A and B for all adapters, each its own."""
    g = torch.Generator().manual_seed(0)
    state, counts = bank.state_dict()
    drawn = {k: 0.1 * torch.randn(v.shape, generator=g).to(v) for k, v in state.items()}
    bank.load_state_dict(drawn, counts)


def in_float64(backbone: WanBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers' blocks compute norms and modulation in float32; here in float64, to be exact."""
    single = Tensor.float
    monkeypatch.setattr(Tensor, "float", lambda x: x if x.dtype == torch.float64 else single(x))
    backbone.experts.double()


def original(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' names -> Wan's own."""
    names = [
        (r"attn1\.", "self_attn."), (r"attn2\.", "cross_attn."), (r"\.to_([qkv])\.", r".\1."),
        (r"\.to_out\.0\.", ".o."), (r"\.norm2\.", ".norm3."), (r"ffn\.net\.0\.proj", "ffn.0"),
        (r"ffn\.net\.2", "ffn.2"), (r"(blocks.*)scale_shift_table", r"\1modulation"),
        (r"^scale_shift_table", "head.modulation"), (r"^proj_out", "head.head"),
        (r"condition_embedder\.text_embedder\.linear_1", "text_embedding.0"),
        (r"condition_embedder\.text_embedder\.linear_2", "text_embedding.2"),
        (r"condition_embedder\.time_embedder\.linear_1", "time_embedding.0"),
        (r"condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
        (r"condition_embedder\.time_proj", "time_projection.1"),
    ]  # fmt: skip
    found = {}
    for name, weight in weights.items():
        for pattern, to in names:
            name = re.sub(pattern, to, name)
        found[name] = weight
    return found


def folder_of(target: Path) -> Path:
    """The random pair, its tokenizer set to the length of the trainer's texts."""
    shutil.copytree(base(), target)
    file = target / "tokenizer" / "tokenizer_config.json"
    said = json.loads(file.read_text()) | {"model_max_length": TEXT_LEN}
    file.write_text(json.dumps(said))
    return target
