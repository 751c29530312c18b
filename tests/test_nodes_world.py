"""The tiny world in ComfyUI gives the trainer's numbers: text, VAE, velocity, and a whole edit."""

from __future__ import annotations

from dataclasses import replace

import comfy_host
import graphs
import numpy as np
import pytest
import torch
from comfy_host import in_host
from edits import edit_picture, in_float32
from graphs import GUIDANCE, INFO, INSTRUCTION, SEED
from PIL import Image
from torch import Tensor
from world_lora import trained, write

from byg_train.config import ModelConfig
from byg_train.editing.opening import open_lora
from byg_train.models.flux.backbone import FluxBackbone
from byg_train.models.lora import LoraBank
from byg_train.world import scenes

pytestmark = pytest.mark.host
LORA = {"index": "parity_index", "shared": "parity_shared"}


@pytest.fixture(scope="module")
def tiny() -> tuple[FluxBackbone, LoraBank]:
    """The trainer's side; its LoRA lies in the host in both position modes."""
    backbone, bank = trained()
    for mode, name in LORA.items():
        write(bank, name, replace(INFO, reference_mode=mode))
    return backbone, bank


def _latent(seed: int) -> Tensor:
    return torch.randn(1, 8, 1, 14, 10, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- the same on both sides


def test_text_is_the_same(tiny: tuple[FluxBackbone, LoraBank]) -> None:
    long = "turn the 3d render of a blue apple " * 8  # cut at 24 tokens of T5, and 32 of CLIP
    texts = [INSTRUCTION, "", "Paint the xylophone  purple, now!", long]
    wanted = tiny[0].encode_text(texts)
    embeds, pooled = in_host(graphs.texts, texts)
    assert embeds.shape == wanted["prompt_embeds"].shape
    scale = wanted["prompt_embeds"].float().abs().max()
    assert (embeds - wanted["prompt_embeds"]).abs().max() < 1e-5 * scale
    assert (pooled - wanted["pooled"]).abs().max() < 1e-5 * wanted["pooled"].abs().max()


def test_the_vae_is_the_same(tiny: tuple[FluxBackbone, LoraBank]) -> None:
    backbone, config = tiny[0], tiny[0].vae.config
    image = torch.rand(2, 48, 40, 3, generator=torch.Generator().manual_seed(3))
    latent = backbone.encode_pixels(image.movedim(-1, 1)[:, :, None] * 2 - 1)
    plain = latent[:, :, 0] / config.scaling_factor + config.shift_factor
    encoded, decoded = in_host(graphs.vae, image, plain)
    assert (encoded - plain).abs().max() < 1e-4
    pixels = backbone.decode_latents(latent)[:, :, 0].movedim(1, -1)
    assert (decoded - (pixels / 2 + 0.5).clamp(0, 1)).abs().max() < 1e-4


@pytest.mark.parametrize("mode", ["index", "shared"])
def test_the_velocity_is_the_same(mode: str, tiny: tuple[FluxBackbone, LoraBank]) -> None:
    backbone, bank = tiny
    x, source, t = _latent(1), _latent(2), 0.6
    changed = ModelConfig(**{**backbone.config.model_dump(), "reference_mode": mode})
    backbone.config, kept = changed, backbone.config
    text = backbone.encode_text([INSTRUCTION])
    with torch.no_grad():
        v = backbone.velocity(x, torch.tensor([t]), text, source, guidance=GUIDANCE)
    backbone.config = kept
    found = in_host(graphs.velocity, LORA[mode], x[:, :, 0], t, source[:, :, 0])
    assert (found - v[:, :, 0]).abs().max() < 1e-4
    # The test would notice: the other mode, and the model without its LoRA, are elsewhere.
    other = LORA["shared" if mode == "index" else "index"]
    assert (
        in_host(graphs.velocity, other, x[:, :, 0], t, source[:, :, 0]) - found
    ).abs().max() > 1e-2


@pytest.mark.parametrize("lora", [None, LORA["index"]])
def test_the_velocity_without_a_source_is_the_same(
    lora: str | None, tiny: tuple[FluxBackbone, LoraBank]
) -> None:
    backbone, bank = tiny
    x, t, text = _latent(1), 0.6, backbone.encode_text([INSTRUCTION])
    with torch.no_grad(), bank.using("base" if lora is None else "edit"):
        v = backbone.velocity(x, torch.tensor([t]), text, guidance=GUIDANCE)
    found = in_host(graphs.velocity, lora, x[:, :, 0], t, None)
    assert (found - v[:, :, 0]).abs().max() < 1e-4


def _photo(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", [(48, 48), (75, 52)])
def test_edit_and_the_graph_draw_the_same_picture(
    size: tuple[int, int], tiny: tuple[FluxBackbone, LoraBank]
) -> None:
    photo, path = _photo(*size), comfy_host.loras() / f"{LORA['index']}.safetensors"
    model = in_float32(open_lora(path, None))
    (wanted,) = edit_picture(model, photo, INSTRUCTION, seeds=[SEED])
    image = torch.from_numpy(np.asarray(photo, np.float32) / 255)[None]
    found = in_host(graphs.edit, LORA["index"], image)
    assert found.shape == (1, size[1], size[0], 3)
    levels = (found[0] * 255).round().numpy().astype(int)
    apart = np.abs(levels - np.asarray(wanted, int))
    # ComfyUI clamps what the VAE gives before anything resizes it, `edit` clamps afterwards: where
    # a picture is brought back to another size, a few pixels beside saturated ones differ by more.
    assert apart.max() <= 1 if size == (48, 48) else (apart > 1).mean() < 0.01
    assert np.abs(levels - np.asarray(photo, int)).mean() > 5  # and an edit it is


def test_stock_nodes_draw_the_same(tiny: tuple[FluxBackbone, LoraBank]) -> None:
    image = torch.rand(1, 48, 48, 3, generator=torch.Generator().manual_seed(3))
    stock, ours = in_host(graphs.stock, LORA["index"], image)
    assert (stock - ours).abs().max() < 1e-5 * stock.abs().max()


def test_the_base_model_is_unchanged_to_the_bit(tiny: tuple[FluxBackbone, LoraBank]) -> None:
    image = torch.rand(1, 48, 48, 3, generator=torch.Generator().manual_seed(3))
    for lora in LORA.values():
        before, after = in_host(graphs.base_before_and_after, lora, image)
        assert torch.equal(before, after)


def test_the_example_is_a_scene_of_the_world() -> None:
    wanted = scenes.draw(scenes.Scene("fox", "3d", "blue", "plain"))
    found = (in_host(graphs.example)[0] * 255).round().numpy().astype(np.uint8)
    assert np.array_equal(found, wanted)
