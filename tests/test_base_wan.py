"""The embedded Wan pair: opens everywhere, draws what is asked, and its warm-up LoRAs copy."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    FluxTransformer2DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from edits import in_float32
from safetensors import safe_open
from safetensors.torch import load_file

from byg_train.config import build_config, load_preset
from byg_train.core.flow import noised
from byg_train.core.losses import velocity_mse
from byg_train.core.schedule import draw_t_within
from byg_train.editing.opening import attach, open_lora
from byg_train.family import WORLD
from byg_train.media.pixels import to_batch
from byg_train.models.wan.backbone import WanBackbone
from byg_train.world.clips import KNOWN, Clip, caption, draw, random_clip, random_edit
from byg_train.world.judge import CLIPS
from byg_train.world.names import HELD_OUT
from tools.world.show import open_editor, sample, shows_ground, shows_motion
from tools.world.shrink import CAME_FROM, rounded
from tools.world.train_wan import BOUNDARY, SHIFT, SPANS

BASE = WORLD / "base_wan"
FLUX = WORLD / "base" / "transformer"
WARMUP = WORLD / "warmup_wan_high_noise.safetensors"


@pytest.fixture(scope="module")
def pipeline() -> WanPipeline:
    return WanPipeline.from_pretrained(BASE, torch_dtype=torch.float32)


@pytest.fixture(scope="module")
def backbone() -> WanBackbone:
    model = build_config({**load_preset("demo_video")}).model
    return WanBackbone.load(model.model_copy(update={"dtype": "float32"}), "cpu")


def sources(count: int, **fixed: str) -> torch.Tensor:
    """Held-out clips, (B, 3, F, H, W)."""
    rng = random.Random(0)
    return to_batch([draw(random_clip(rng, HELD_OUT, **fixed)) for _ in range(count)])


# ---------------------------------------------------------------- files


def test_weights_are_safetensors_in_bfloat16_and_matrices_of_networks_in_8_bits() -> None:
    for file in BASE.rglob("*"):
        assert file.is_dir() or file.suffix in (".json", ".safetensors"), file
    for file in WORLD.rglob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
        in_8_bits = file.parent.name.startswith("transformer")
        assert kinds == ({"BF16", "F8_E4M3"} if in_8_bits else {"BF16"}), file


def test_no_configuration_names_a_folder_of_another_machine() -> None:
    for file in WORLD.rglob("config.json"):
        assert CAME_FROM not in json.loads(file.read_text(encoding="utf-8")), file


def test_all_weights_of_the_world_are_small() -> None:
    assert sum(file.stat().st_size for file in WORLD.rglob("*.safetensors")) <= 40e6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "folder"),
    [(WanTransformer3DModel, BASE / "transformer_2"), (FluxTransformer2DModel, FLUX)],
)
def test_matrices_in_8_bits_are_loaded_as_they_are(
    kind: type, folder: Path, dtype: torch.dtype
) -> None:
    shipped = load_file(folder / "diffusion_pytorch_model.safetensors")
    network = kind.from_pretrained(folder, torch_dtype=dtype, use_safetensors=True)
    for name, weight in network.state_dict().items():
        assert weight.dtype in (dtype, torch.float32)  # Wan keeps some in float32
        assert torch.equal(weight, shipped[name].to(weight.dtype)), name
        assert rounded(shipped[name]).dtype == shipped[name].dtype  # all that can be is rounded


def test_the_index_says_where_the_experts_meet(pipeline: WanPipeline) -> None:
    index = json.loads((BASE / "model_index.json").read_text())
    assert index["boundary_ratio"] == pipeline.config.boundary_ratio == BOUNDARY
    assert isinstance(pipeline.scheduler, UniPCMultistepScheduler)
    assert pipeline.scheduler.config.flow_shift == SHIFT
    a, b = pipeline.transformer.state_dict(), pipeline.transformer_2.state_dict()
    assert a.keys() == b.keys() and any(not torch.equal(a[k], b[k]) for k in a)


def test_every_known_word_is_a_piece_and_no_held_out_name(pipeline: WanPipeline) -> None:
    rng, tokenizer = random.Random(0), pipeline.tokenizer
    for i in range(200):
        edit = random_edit(rng, ("background", "style", "colour")[i % 3])
        for text in (caption(edit.source), edit.instruction, edit.reverse_instruction):
            assert len(tokenizer(text).input_ids) == len(text.split()) + 1  # and the end
            assert len(text.split()) < tokenizer.model_max_length
    for name in HELD_OUT:
        assert tokenizer.unk_token_id in tokenizer(name).input_ids


# ---------------------------------------------------------------- what it can do


def test_samples_show_the_asked_ground_and_motion() -> None:
    asked = [Clip(KNOWN[6], "3d", "white", "left"), Clip(KNOWN[7], "flat", "pink", "right")]
    outs = sample(open_editor("demo_video", ["sample.steps=8"]), CLIPS, asked)
    for clip, out in zip(asked, outs, strict=True):
        assert out.shape == CLIPS.drawn(clip).shape
        assert shows_ground(CLIPS, clip, out) and shows_motion(CLIPS, clip, out)
        assert not shows_ground(CLIPS, replace(clip, ground="green"), out)
        assert not shows_motion(CLIPS, replace(clip, motion="still"), out)


@pytest.mark.slow
def test_the_vae_keeps_what_held_out_clips_show(backbone: WanBackbone) -> None:
    x = sources(4, style="3d")
    y = backbone.decode_latents(backbone.encode_pixels(x))
    assert y.shape == x.shape
    assert 10 * np.log10(4 / (y - x).square().mean().item()) > 23
    z = backbone.encode_pixels(sources(8))
    assert z.shape == (8, 16, 3, 12, 12)
    assert 0.5 < z.std() < 2 and abs(z.mean()) < 0.3  # normalised by the configuration's numbers


def test_the_preset_finds_the_pair(backbone: WanBackbone) -> None:
    assert backbone.spans == SPANS and backbone.multiple == 8


@pytest.mark.slow
@pytest.mark.parametrize("expert", SPANS)
def test_the_shipped_warm_up_copies_clips_of_held_out_names(expert: str) -> None:
    model = in_float32(open_lora(WARMUP, None))
    bare = WanBackbone.load(model.base, "cpu")
    bank = attach(model, bare, strength=1.0)
    x = bare.encode_pixels(sources(8))
    text = bare.encode_text(["change the background to a blue ground"] * 8)
    g = torch.Generator().manual_seed(0)
    t = draw_t_within(SPANS[expert], 8, g, "logit_normal", SHIFT)
    eps = torch.randn(x.shape, generator=g)
    losses = {}
    for role in ("edit", "base"):
        with torch.no_grad(), bank.using(role):
            v = bare.velocity(noised(x, eps, t), t, text, x)
        losses[role] = velocity_mse(v, eps - x).mean().item()
    assert losses["edit"] < 0.15 and losses["edit"] < 0.25 * losses["base"]


def test_the_warm_up_is_a_pair_for_this_base() -> None:
    model = open_lora(Path(WARMUP), None)
    assert set(model.files) == set(SPANS) and model.info.boundary == BOUNDARY
    assert model.info.base == "world" and model.info.family == "wan"
