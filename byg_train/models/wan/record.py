"""Wan: what it says of itself."""

from __future__ import annotations

import re

from ...family import EXAMPLES, WORLD, Bases, Embedded, Family, LoraFormat, Publishing, Usual

# Modules of a block, and outside of the blocks: diffusers' names -> the original ones.
NAMES = {
    **{f"attn1.to_{x}": f"self_attn.{x}" for x in "qkv"},
    **{f"attn2.to_{x}": f"cross_attn.{x}" for x in "qkv"},
    "attn1.to_out.0": "self_attn.o",
    "attn2.to_out.0": "cross_attn.o",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "proj_out": "head.head",
}

FAMILY = Family(
    name="wan",
    title="Wan",
    is_video=True,
    reference_modes={"shared": "the target's"},  # B.2
    text_encoder="T5",  # UMT5
    tokenizer="tokenizer",
    experts={"high": "_high_noise", "low": "_low_noise"},
    frame_group=4,
    usual=Usual(
        preset="wan22_style",
        style_preset="wan22_style",
        text_len=512,
        multiple=16,
        frames=81,
        fps=16.0,  # the 5B has 24
        seconds=5,
    ),
    bases=Bases.of(
        __package__,
        "WanBackbone",
        "files",
        parts={"vae": True, "text_encoder": True, "tokenizer": False},
        example="Wan-AI/Wan2.2-T2V-A14B-Diffusers",
    ),
    lora=LoraFormat(
        transformer="WanTransformer3DModel",
        targets=re.compile(r"blocks\.\d+\.(attn[12]\.(to_[qkv]|to_out\.0)|ffn\.net\.(0\.proj|2))"),
        width_of="attn1.to_q",  # which looks at the clip; attn2 looks at the text
        prefix="diffusion_model.",
        architecture="wan2.2",
        base_version="wan2.2",
        older={re.compile(r"wan[._-]?2[._-]?1", re.IGNORECASE): "wan2.1"},
        names=NAMES,
    ),
    publishing=Publishing.of(__package__, "WanPipeline"),
    embedded=Embedded(
        folder=WORLD / "base_wan",
        warmup=WORLD / "warmup_wan.safetensors",
        preset="demo_video",
        more_presets=("demo_video_long",),
        media="clip",
        example=EXAMPLES / "byg_2_tiny_video_edit.json",
        few_steps=EXAMPLES / "byg_5_tiny_video_few_steps.json",
    ),
)
