"""A tiny random FLUX pipeline, tiny folders of pictures and clips, a ComfyUI; markers of tests."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import lanes
import pytest
from hypothesis import HealthCheck, settings
from lanes import pytest_collection_modifyitems, pytest_runtest_setup  # noqa: F401  hooks

from byg_train.machine import settle_threads

if TYPE_CHECKING:
    from comfy_server import Server

lanes.share_cores()
os.environ.setdefault("HF_HUB_OFFLINE", "1")
settle_threads()  # a host or a training runs beside the tests, and this is before torch
# No test asserts a time: neither how long an example takes, nor how long it takes to draw one.
settings.register_profile(
    "any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def host() -> Server:
    """A running ComfyUI with the pack."""
    from comfy_server import server

    return server()


@pytest.fixture(scope="session")
def comfyui() -> Path:
    """A ComfyUI tree, for a process that imports parts of it."""
    import comfy_host
    import fetch_host

    comfy_host.require_host(("einops", "psutil"))
    return fetch_host.host_folder()


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers FLUX folder with random float32 weights: 8 px tokens, text length 24."""
    import torch
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        FluxPipeline,
        FluxTransformer2DModel,
    )
    from tiny_vae import tiny_vae
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    from tools.world.words import build_tokenizers, corpus

    torch.manual_seed(0)
    clip, t5 = build_tokenizers(corpus(random.Random(0), 60))
    eos = clip.eos_token_id
    vae = tiny_vae()
    transformer = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=24, pooled_projection_dim=24,
        guidance_embeds=True, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    for p in transformer.parameters():  # the last layer starts at zero: nothing would depend on it
        if p.ndim > 1:
            torch.nn.init.normal_(p, std=p.shape[1] ** -0.5)
    folder = tmp_path_factory.mktemp("tiny") / "base"
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False),
        vae=vae,
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(clip), hidden_size=24, intermediate_size=32, num_hidden_layers=1,
                num_attention_heads=2, projection_dim=24, bos_token_id=eos - 1, eos_token_id=eos,
                pad_token_id=eos,
            )
        ),
        tokenizer=clip,
        text_encoder_2=T5EncoderModel(
            T5Config(
                vocab_size=len(t5), d_model=24, d_ff=32, d_kv=8, num_heads=2, num_layers=1,
                dropout_rate=0.0, feed_forward_proj="gated-gelu",
            )
        ),
        tokenizer_2=t5,
        transformer=transformer,
    ).save_pretrained(folder, safe_serialization=True)  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def tiny_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six tuples of one clip of 122 frames at 24 fps, 32 px large; the last one is of `test`."""
    from clip_files import clip

    folder = tmp_path_factory.mktemp("clips")
    file = clip(folder / "0.mp4", 122, size=(32, 32)).read_bytes()
    with (folder / "metadata.jsonl").open("w") as lines:
        for i in range(6):
            (folder / f"{i}.mp4").write_bytes(file)
            row = {
                "file_name": f"{i}.mp4",
                "src_caption": f"a red thing {i} moves, cartoon style",
                "tgt_caption": f"a red thing {i} moves, photo-realistic style",
                "instruction": "turn the video to photo-realistic style",
                "reverse_instruction": "turn the video to cartoon style",
                "split": "test" if i == 5 else "train",
            }
            lines.write(json.dumps(row) + "\n")
    return folder


@pytest.fixture(scope="session")
def wan_clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five tiny clips for a tiny Wan; every run shares their cache."""
    from wan_run import write_clips

    return write_clips(tmp_path_factory.mktemp("wan_clips"))


@pytest.fixture(scope="session")
def flux_lora(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of `tiny_base` that changes pictures a lot."""
    from flux_edits import write_random

    return write_random(tmp_path_factory.mktemp("flux_lora"), tiny_base)


@pytest.fixture(scope="session")
def wan_lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first file of a pair of LoRAs that change clips a lot."""
    from wan_edits import write_pair

    return write_pair(tmp_path_factory.mktemp("wan_lora"))


@pytest.fixture(scope="session")
def short_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven frames of 64 x 48 at 24 a second, with sound: five at a Wan's 16."""
    import clip_files

    folder = tmp_path_factory.mktemp("short_clip")
    return clip_files.write(folder / "in.mp4", clip_files.drawn(7), 24, sound="aac")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP."""
    from tiny_metrics import write_clip_model

    return write_clip_model(tmp_path_factory.mktemp("clip_model"))


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random DINO."""
    from tiny_metrics import write_dino

    return write_dino(tmp_path_factory.mktemp("dino"))


@pytest.fixture(scope="session")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random vision-language model."""
    from tiny_vlm import write_vlm

    return write_vlm(tmp_path_factory.mktemp("vlm"))


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six 16 px pictures with metadata.jsonl; the last one is of split `test`."""
    import numpy as np
    from PIL import Image

    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    with (folder / "metadata.jsonl").open("w") as file:
        for i in range(6):
            Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / f"{i}.png")
            row = {
                "file_name": f"{i}.png",
                "src_caption": f"a 3d render of a red thing {i}",
                "tgt_caption": f"a 3d render of a blue thing {i}",
                "instruction": "paint the thing blue",
                "reverse_instruction": "paint the thing red",
                "split": "test" if i == 5 else "train",
            }
            file.write(json.dumps(row) + "\n")
    return folder


@pytest.fixture
def nothing_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail the test if a command gets as far as training."""
    from byg_train.cli import train as command

    def refuse(*_: object) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr(command, "_train", refuse)
