"""FLUX.1: what it says of itself."""

from __future__ import annotations

import re

from ...family import EXAMPLES, WORLD, Bases, Embedded, Family, Later, LoraFormat, Publishing, Usual

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
    size_shift=Later(__package__, "..core.schedule:flux_shift"),
    bases=Bases(
        load=Later(__package__, "backbone:FluxBackbone.load"),
        resolve=Later(__package__, "files:FILES.resolve"),
        pixel_multiple=Later(__package__, ".picture_files:pixel_multiple"),
        token_counts=Later(__package__, ".picture_files:token_counts"),
        network=Later(__package__, "network:network"),
        download_size=Later(__package__, "network:download_size"),
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
    publishing=Publishing(
        pipeline="FluxPipeline",
        licence=Later(__package__, "publish:licence"),
        graph=Later(__package__, "publish:graph"),
        usage=Later(__package__, "publish:usage"),
    ),
    embedded=Embedded(
        folder=WORLD / "base",
        warmup=WORLD / "warmup.safetensors",
        preset="demo",
        example=EXAMPLES / "byg_tiny_image_edit.json",
    ),
)
