"""The shipped Wan pair in ComfyUI gives the trainer's numbers; its workflow follows its LoRA."""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path

import graphs_tiny_wan
import numpy as np
import pytest
import torch
from comfy_host import ROOT, in_host
from edits import edit_clip, in_float32
from graphs import SEED
from PIL import Image
from tiny_wan import BOUNDARY

from byg_train.editing.opening import attach, open_lora
from byg_train.media.pixels import to_batch
from byg_train.models.lora_file import LoraInfo, read_lora
from byg_train.models.wan.backbone import WanBackbone
from byg_train.world import clips
from byg_train.world.judge import CLIPS
from byg_train.world.names import HELD_OUT
from tools.kits import TINY_CLIP_KIT

pytestmark = pytest.mark.host
WORLD = ROOT / "byg_train" / "world"
BASE, LORA = WORLD / "base_wan", WORLD / "demo_video_high_noise.safetensors"
NAME = TINY_CLIP_KIT.lora
STEPS = 8
EDIT = CLIPS.query(random.Random(0), "style ink → 3d", ("fox",))


@pytest.fixture(scope="module")
def backbone() -> WanBackbone:
    """The trainer's side in float32, the demo's LoRAs on it."""
    model = in_float32(open_lora(LORA, None))
    found = WanBackbone.load(model.base, "cpu")
    attach(model, found, strength=1.0)
    return found


def test_text_is_the_same(backbone: WanBackbone) -> None:
    texts = [EDIT.instruction, clips.caption(EDIT.source), "", f"paint the {HELD_OUT[0]} purple"]
    wanted = backbone.encode_text(texts)["prompt_embeds"]
    found = in_host(graphs_tiny_wan.texts, str(BASE), texts)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_the_vae_is_the_same(backbone: WanBackbone) -> None:
    pixels = to_batch([clips.draw(EDIT.source)])
    latent = backbone.encode_pixels(pixels)
    mean, std = backbone._statistics()
    plain = latent * std + mean
    frames = (pixels[0] / 2 + 0.5).movedim(0, -1)
    encoded, decoded = in_host(graphs_tiny_wan.vae, str(BASE), frames, plain)
    assert (encoded - plain).abs().max() < 1e-4 * plain.abs().max()
    wanted = backbone.decode_latents(latent)[0].movedim(0, -1)
    assert (decoded - (wanted / 2 + 0.5).clamp(0, 1)).abs().max() < 1e-4
    assert in_host(graphs_tiny_wan.video_kind, str(BASE)) == (backbone.multiple, False)


def test_both_experts_have_the_trainers_velocity(backbone: WanBackbone) -> None:
    source = backbone.encode_pixels(to_batch([clips.draw(EDIT.source)]))
    x = torch.randn(source.shape, generator=torch.Generator().manual_seed(1))
    text, times, wanted = backbone.encode_text([EDIT.instruction]), [0.95, 0.6], []
    for t in times:
        with torch.no_grad():
            time = torch.tensor([t])
            wanted.append([backbone.velocity(x, time, text, z) for z in (source, None)])
    found = in_host(
        graphs_tiny_wan.velocities, str(BASE), NAME, x, source, text["prompt_embeds"], times
    )
    for ours, theirs in zip(wanted, found, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert (a - b).abs().max() < 1e-4
        assert (ours[0] - ours[1]).abs().max() > 1e-2


def test_edit_and_the_graph_draw_the_same_clip(tmp_path: Path) -> None:
    """By Euler, whose steps are the same on both sides; both have a UniPC of their own."""
    drawn = clips.draw(EDIT.source)
    for i, frame in enumerate(drawn):
        Image.fromarray(frame).save(tmp_path / f"{i}.png")
    model = in_float32(open_lora(LORA, None))
    overrides = {"sampler": "euler", "sample_steps": STEPS}
    how = {"seeds": [SEED], "fps": clips.FPS, "overrides": overrides}
    (wanted,) = edit_clip(model, tmp_path, EDIT.instruction, **how)
    frames = torch.from_numpy(drawn).float() / 255
    graph = partial(graphs_tiny_wan.edited_clip, steps=STEPS)
    fps = float(clips.FPS)
    found = in_host(graph, str(BASE), NAME, frames, EDIT.instruction, "", BOUNDARY, fps)
    levels = (found * 255).round().numpy().astype(int)
    assert np.abs(levels - wanted.astype(int)).max() <= 1
    assert np.abs(levels - drawn.astype(int)).mean() > 5


def test_the_workflow_samples_as_the_lora_says() -> None:
    info = LoraInfo.from_metadata(read_lora(LORA).metadata)
    file = ROOT / "workflows" / "byg_2_tiny_video_edit.json"
    nodes = {n.get("title") or n["type"]: n for n in json.loads(file.read_text())["nodes"]}
    high, low = (nodes[f"{x} noise"]["widgets_values"] for x in ("High", "Low"))
    cfg = 1.0 if info.cfg is None else info.cfg
    assert (high[4], low[4]) == (cfg, cfg if info.cfg_low is None else info.cfg_low)
    assert {high[5], low[5]} == {{"euler": "euler", "unipc": "uni_pc"}[info.sampler or "euler"]}
    assert nodes["Steps of both together"]["widgets_values"][0] == info.sample_steps
    assert nodes["ByG_ExpertSplit"]["widgets_values"][2] == info.boundary == BOUNDARY
    assert nodes["ByG_VideoEdit"]["widgets_values"][5] == info.fps == clips.FPS
