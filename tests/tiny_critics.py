"""Tiny random models of the classes that critics are: Qwen2.5-VL, Qwen3-VL, InternVL.

With processors as they are without torchvision: for pictures alone.
"""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.internvl.processing_internvl import InternVLProcessor
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

from byg_train.models.picture_processor import pictures_only

KINDS = ("qwen2_5_vl", "qwen3_vl", "internvl")
SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|image_pad|>", "<|video_pad|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>", "Yes", "No",
]  # fmt: skip
TEMPLATE = (
    "{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{{% for part in m.content %}}"
    "{{% if part.type == 'image' %}}{image}{{% else %}}{{{{ part.text }}}}{{% endif %}}"
    "{{% endfor %}}<|im_end|>\n{{% endfor %}}"
    "{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)
LAYERS = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1,
}  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and words of its own for yes and no."""
    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    found = PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    )
    found.add_tokens(SPECIAL[1:-2], special_tokens=True)
    found.add_tokens(["Yes", "No"])
    return found


def tiny(kind: str) -> tuple[Any, Any]:
    """A model and its processor."""
    torch.manual_seed(0)
    words = tokenizer()
    ids = {word: words.convert_tokens_to_ids(word) for word in SPECIAL}
    size = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}
    if kind == "internvl":
        return _intern(words, ids)
    shared = {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }
    template = TEMPLATE.format(image="<|vision_start|><|image_pad|><|vision_end|>")
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    if kind == "qwen2_5_vl":
        config = Qwen2_5_VLConfig(
            text_config={"vocab_size": len(words), **LAYERS, "rope_parameters": rope},
            vision_config={
                "depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2,
                "out_hidden_size": 32, "window_size": 56, "fullatt_block_indexes": [1],
            },
            **shared,
        )  # fmt: skip
        model = Qwen2_5_VLForConditionalGeneration(config)
        processor = pictures_only(Qwen2_5_VLProcessor)(
            Qwen2VLImageProcessorPil(size=size), words, template
        )
        return model.eval(), processor
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(words), **LAYERS, "head_dim": 16,
            "rope_parameters": {**rope, "mrope_interleaved": True},
        },
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2,
            "out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
        },
        **shared,
    )  # fmt: skip
    images = Qwen2VLImageProcessorPil(
        size=size, patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    processor = pictures_only(Qwen3VLProcessor)(images, words, template)
    return Qwen3VLForConditionalGeneration(config).eval(), processor


def _intern(words: PreTrainedTokenizerFast, ids: dict[str, int]) -> tuple[Any, Any]:
    config = InternVLConfig(
        text_config={"model_type": "qwen2", "vocab_size": len(words), **LAYERS},
        vision_config={
            "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": [56, 56], "patch_size": [14, 14],
        },
        image_token_id=ids["<IMG_CONTEXT>"],
    )  # fmt: skip
    images = GotOcr2ImageProcessorPil(size={"height": 56, "width": 56})
    template = TEMPLATE.format(image="<IMG_CONTEXT>")
    processor = pictures_only(InternVLProcessor)(images, words, template)
    processor.image_seq_length = 4
    return InternVLForConditionalGeneration(config).eval(), processor
