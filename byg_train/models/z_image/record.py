"""Z-Image: what it says of itself."""

from __future__ import annotations

import re

from ...family import Bases, Family, Later, LoraFormat, Publishing, Usual

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
    flowedit=(
        50,
        33,
        3.5,
        13.5,
    ),  # published for SD3, the model of its kind; not tuned for this one
    usual=Usual(preset="z_image_edit", style_preset="z_image_style", text_len=256, multiple=16),
    bases=Bases(
        load=Later(__package__, "backbone:ZImageBackbone.load"),
        resolve=Later(__package__, "files:FILES.resolve"),
        pixel_multiple=Later(__package__, ".picture_files:pixel_multiple"),
        token_counts=Later(__package__, ".picture_files:token_counts"),
        network=Later(__package__, "network:network"),
        download_size=Later(__package__, "network:download_size"),
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
    publishing=Publishing(
        pipeline="ZImagePipeline",
        licence=Later(__package__, "publish:licence"),
        graph=Later(__package__, "publish:graph"),
        usage=Later(__package__, "publish:usage"),
    ),
)
