"""Z-Image: what it says of itself."""

from __future__ import annotations

import re

from ...family import EXAMPLES, WORLD, Bases, Embedded, Family, LoraFormat, Publishing, Usual

PROJECTIONS = r"\.\d+\.(attention\.(to_[qkv]|to_out\.0)|feed_forward\.w[123])"

FAMILY = Family(
    name="z_image",
    title="Z-Image",
    is_video=False,
    reference_modes={"index": "before the target's text, as ComfyUI's ReferenceLatent has it"},
    text_encoder="Qwen3",
    tokenizer="tokenizer",
    chat_tokens=8,
    pads_texts=False,
    # Published for SD3, the model of its kind; not tuned for this one.
    flowedit=(50, 33, 3.5, 13.5),
    usual=Usual(preset="z_image_edit", style_preset="z_image_style", text_len=256, multiple=16),
    bases=Bases.of(
        __package__,
        "ZImageBackbone",
        ".picture_files",
        parts={"vae": True, "text_encoder": True, "tokenizer": False},
        example="Tongyi-MAI/Z-Image",
    ),
    lora=LoraFormat(
        transformer="ZImageTransformer2DModel",
        targets=re.compile("layers" + PROJECTIONS),
        # Where source and target first meet. Texts alone go through the other refiner.
        more_targets={"noise_refiner": re.compile("noise_refiner" + PROJECTIONS)},
        width_of="attention.to_q",
        prefix="transformer.",
        architecture="Z-Image",
        base_version="zimage",
    ),
    publishing=Publishing.of(__package__, "ZImagePipeline"),
    embedded=Embedded(
        folder=WORLD / "base_z_image",
        warmup=WORLD / "warmup_z_image.safetensors",
        preset="demo_z_image",
        media="picture, by Z-Image",
        example=EXAMPLES / "byg_1_tiny_image_edit.json",
        few_steps=EXAMPLES / "byg_4_tiny_few_steps.json",
        shared={"vae": WORLD / "base"},
    ),
)
