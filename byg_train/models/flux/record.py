"""FLUX.1: what it says of itself."""

from __future__ import annotations

import math
import re

from ...family import EXAMPLES, WORLD, Bases, Embedded, Family, LoraFormat, Publishing, Usual


def sampling_shift(tokens: int) -> float:
    """FLUX.1-dev's sampling shift exp(mu) for a number of image tokens.

    mu runs linearly from 0.5 at 256 tokens to 1.15 at 4096 (FLUX.1-dev's scheduler configuration).
    """
    return math.exp(0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256))


FAMILY = Family(
    name="flux",
    title="FLUX",
    is_video=False,
    reference_modes={"index": "index 1, as in FLUX.1 Kontext", "shared": "the target's"},
    text_encoder="T5",
    tokenizer="tokenizer_2",
    usual=Usual(preset="flux_edit", style_preset="flux_style", text_len=256, multiple=16),
    has_guidance=True,
    flowedit=(28, 24, 1.5, 5.5),  # as published
    own_shift="FLUX.1-dev's own",
    size_shift=sampling_shift,
    bases=Bases.of(
        __package__,
        "FluxBackbone",
        ".picture_files",
        parts={
            "vae": True,
            "text_encoder": True,
            "text_encoder_2": True,
            "tokenizer": False,
            "tokenizer_2": False,
        },
        example="black-forest-labs/FLUX.1-dev",
    ),
    lora=LoraFormat(
        transformer="FluxTransformer2DModel",
        # As full names: the ending `proj_out` alone would also hit the last layer.
        targets=re.compile(
            r"transformer_blocks\.\d+\.attn\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
            r"|transformer_blocks\.\d+\.ff(_context)?\.net\.(0\.proj|2)"
            r"|single_transformer_blocks\.\d+\.(attn\.to_[qkv]|proj_mlp|proj_out)"
        ),
        width_of="attn.to_q",
        prefix="transformer.",
        architecture="flux-1-dev",
        base_version="flux1",
    ),
    publishing=Publishing.of(__package__, "FluxPipeline"),
    embedded=Embedded(
        folder=WORLD / "base",
        warmup=WORLD / "warmup.safetensors",
        preset="demo",
        media="picture",
        example=EXAMPLES / "byg_1_tiny_image_edit.json",
        few_steps=EXAMPLES / "byg_4_tiny_few_steps.json",
        more_presets=("demo_long", "demo_npedit"),
    ),
)
