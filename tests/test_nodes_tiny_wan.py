"""A small Wan 2.2 pair in ComfyUI gives the trainer's numbers: text, VAE, velocities."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import clip_files
import comfy_host
import graphs_tiny_wan
import numpy as np
import pytest
import tiny_wan
import torch
import wan_edits
import wan_loras
from comfy_host import in_host
from graphs import SEED
from PIL import Image

from byg_train.editing.opening import open_lora
from byg_train.models.lora import LoraBank
from byg_train.models.wan.backbone import WanBackbone
from byg_train.world import clips

pytestmark = pytest.mark.host
EXAMPLE = clips.Clip("fox", "3d", "blue", "right")
LONG = "a red fox runs over the snow in cartoon style turn video to photo-realistic a red fox"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_wan.folder_of(tmp_path_factory.mktemp("wan") / "base"))


@pytest.fixture(scope="module")
def trainer() -> tuple[WanBackbone, LoraBank]:
    """The trainer's side; its LoRAs lie in the host."""
    backbone, bank = wan_loras.trained()
    path = comfy_host.loras() / "tiny_pair.safetensors"
    for expert in backbone.experts:
        info = replace(wan_loras.INFO, expert=expert)
        kind = {"metadata": info.to_metadata(), "dtype": torch.float32}
        wan_loras.write(bank, expert, path, **kind)
    return backbone, bank


def test_text_is_the_same(folder: str, trainer: tuple[WanBackbone, LoraBank]) -> None:
    texts = ["a red fox runs", "", "turn video to cartoon style", LONG]
    wanted = trainer[0].encode_text(texts)["prompt_embeds"]
    found = in_host(graphs_tiny_wan.texts, folder, texts)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert wanted[1, 2:].abs().max() == 0 and found[1, 2:].abs().max() == 0  # no words, no numbers


def test_the_vae_is_the_same(folder: str, trainer: tuple[WanBackbone, LoraBank]) -> None:
    backbone, g = trainer[0], torch.Generator().manual_seed(3)
    frames = torch.rand(9, 32, 48, 3, generator=g)
    latent = backbone.encode_pixels(frames.movedim(-1, 0)[None] * 2 - 1)
    mean, std = backbone._statistics()
    plain = latent * std + mean
    encoded, decoded = in_host(graphs_tiny_wan.vae, folder, frames, plain)
    assert encoded.shape == latent.shape == (1, 4, 3, 4, 6)
    assert (encoded - plain).abs().max() < 1e-4 * plain.abs().max()
    pixels = backbone.decode_latents(latent)[0].movedim(0, -1)
    assert (decoded - (pixels / 2 + 0.5).clamp(0, 1)).abs().max() < 1e-4
    into, back = in_host(graphs_tiny_wan.normalised, folder, plain)
    assert (into - latent).abs().max() < 1e-4 * latent.abs().max() and not torch.equal(into, back)
    assert in_host(graphs_tiny_wan.video_kind, folder) == (backbone.multiple, False)


def test_both_experts_have_the_trainers_velocity(
    folder: str, trainer: tuple[WanBackbone, LoraBank]
) -> None:
    backbone, times, wanted = trainer[0], [0.95, 0.6], []
    x, source, text = tiny_wan.latents(1), tiny_wan.latents(7), tiny_wan.text(2)
    for t in times:
        time = torch.full((len(x),), t)
        with torch.no_grad():
            wanted.append([backbone.velocity(x, time, text, z) for z in (source, None)])
    found = in_host(
        graphs_tiny_wan.velocities, folder, "tiny_pair_high_noise.safetensors", x, source,
        text["prompt_embeds"], times,
    )  # fmt: skip
    for ours, theirs in zip(wanted, found, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert (a - b).abs().max() < 1e-4
        assert (ours[0] - ours[1]).abs().max() > 1e-2
    assert (found[0][0] - found[1][0]).abs().max() > 1e-2  # the experts differ


@pytest.mark.parametrize("trained", ["both", "high", "low"])
def test_edit_draws_the_same_clip(trained: str, folder: str, tmp_path: Path) -> None:
    """By Euler, whose steps are the same on both sides; both have a UniPC of their own.

    Of a pair with one trained expert the other has no LoRA, on both sides.
    """
    drawn, clip = clip_files.drawn(5), tmp_path / "clip"
    clip.mkdir()
    for i, frame in enumerate(drawn):
        Image.fromarray(frame).save(clip / f"{i}.png")
    info = {"sampler": "euler", "sample_steps": 4, "sample_shift": 5.0}
    lora = wan_edits.write_pair(tmp_path, **info)
    alone = trained != "both"
    for path in tmp_path.glob("*.safetensors"):
        shutil.copy(path, comfy_host.loras() / f"{trained}_{path.name}")
    if alone:
        lora = lora.with_name(f"toon_{trained}_noise.safetensors")
    model = open_lora(lora, None, single_expert=alone)
    (wanted,) = wan_edits.edited(model, clip, seeds=[SEED])
    frames = torch.from_numpy(drawn).float() / 255
    texts = (wan_edits.TEXT, wan_edits.NEGATIVE)
    widgets = {"lora_low_name": "single expert"} if alone else {}
    graph = partial(graphs_tiny_wan.edited_clip, **widgets)
    name = f"{trained}_{lora.name}"
    found = in_host(graph, folder, name, frames, *texts, tiny_wan.BOUNDARY, 16.0)
    assert found.shape == wanted.shape == drawn.shape
    levels = (found * 255).round().numpy().astype(int)
    apart = np.abs(levels - wanted.astype(int))
    # As for pictures: what saturates is clamped before and after the way back to the clip's size.
    assert apart.mean() < 0.5 and (apart > 2).mean() < 0.02
    assert np.abs(levels - drawn.astype(int)).mean() > 5


def test_the_tiny_world_gives_the_shipped_pair() -> None:
    models, frames = in_host(graphs_tiny_wan.tiny_clip)
    assert models == ["WAN21", "WAN21"]
    assert np.array_equal((frames * 255).round().numpy(), clips.draw(EXAMPLE))


def test_an_installation_without_the_pair_is_told() -> None:
    with pytest.raises(ValueError, match=r"ByG Tiny World: its files are not in .*base_wan, and"):
        in_host(graphs_tiny_wan.tiny_clip_elsewhere, "nowhere")
