"""A tiny random Qwen3-VL, laid out as on the hub: --vlm loads it, shows pictures, keeps answers."""

from __future__ import annotations

import asyncio
import json
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from byg_train.cli.app import app
from byg_train.data import DataError
from byg_train.data.vlm.local import LocalModel

SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for part in m.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PATCHES = {
    "size": {"shortest_edge": 32 * 32, "longest_edge": 64 * 64},
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model, byte-level tokenizer and processor files; 130 thousand random weights."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
    )

    folder = tmp_path_factory.mktemp("vlm")
    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    ids = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL[1:],
    ).save_pretrained(folder)
    files = {
        "chat_template.json": {"chat_template": TEMPLATE},
        "preprocessor_config.json": {
            **PATCHES,
            "processor_class": "Qwen3VLProcessor",
            "image_processor_type": "Qwen2VLImageProcessorFast",
        },
        "video_preprocessor_config.json": {
            **PATCHES,
            "processor_class": "Qwen3VLProcessor",
            "video_processor_type": "Qwen3VLVideoProcessor",
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    rope = {"rope_type": "default", "rope_theta": 1e4}
    torch.manual_seed(0)
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 32, "head_dim": 16,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
            "rope_parameters": {**rope, "mrope_section": [2, 3, 3], "mrope_interleaved": True},
        },
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2,
            "out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    model = Qwen3VLForConditionalGeneration(config)
    for weights in model.parameters():  # so that what it sees weighs on what it says
        if weights.ndim > 1:
            torch.nn.init.normal_(weights, std=0.5)
    model.save_pretrained(folder)
    return folder


def jpeg(color: str) -> bytes:
    data = BytesIO()
    Image.new("RGB", (100, 60), color).save(data, "JPEG")
    return data.getvalue()


def test_it_answers_about_what_it_is_shown(vlm: Path) -> None:
    model = LocalModel(str(vlm), device="cpu", max_tokens=12, temperature=0)
    red = asyncio.run(model.ask("What is this?", [jpeg("red")]))
    assert asyncio.run(model.ask("What is this?", [jpeg("red")])) == red
    assert asyncio.run(model.ask("What is this?", [jpeg("white")])).text != red.text
    # 64 x 32 pixels are 2 x 1 merged patches; the template's words are one token per letter.
    around = len("user\n\nassistant\n") + len(SPECIAL[1:4]) + 2
    assert red.asked == around + 2 + len("What is this?")
    assert (red.answered, red.cut) == (12, True)
    two = asyncio.run(model.ask("What is this?", [jpeg("red")] * 2))
    assert two.asked == red.asked + 4
    text = asyncio.run(model.ask("What is this?", []))
    assert text.asked == red.asked - 4


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no vision-language model"):
        LocalModel(str(tmp_path), device="cpu", max_tokens=1, temperature=None)


def test_a_folder_is_captioned_without_a_server(vlm: Path, tmp_path: Path) -> None:
    """What a random model says cannot be used, but it is kept, and not asked for again."""
    Image.new("RGB", (40, 40), "teal").save(tmp_path / "a.png")
    command = ["data", "caption", str(tmp_path), "--vlm", str(vlm), "--device", "cpu"]
    for _ in range(2):
        result = CliRunner().invoke(app, [*command, "--max-tokens", "8", "--tries", "2"])
        assert result.exit_code == 1
        assert "a.png: 2 unusable answers, the last: it was too long" in result.output
    journal = (tmp_path / ".byg_caption" / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["tokens"][1] for line in journal] == [8, 8]
    assert not (tmp_path / "metadata.jsonl").exists()
