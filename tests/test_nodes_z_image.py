"""ByG's nodes with Z-Image: the trainer's numbers, stock graphs, and hosts that cannot edit."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from functools import partial

import comfy_host
import graphs_z_image as graphs
import numpy as np
import pytest
import tiny_z_image
import torch
import z_image_loras
from comfy_host import in_host, since
from edits import edit_picture, in_float32
from graphs_z_image import SEED
from host_z_image import base
from PIL import Image
from torch import Tensor
from z_image_cases import CASES
from z_image_loras import INFO, SHIFT, TEXT, trained

from byg_train.editing.opening import open_lora
from byg_train.family import WORLD, family_of
from byg_train.models.lora_file import LoraInfo, read_lora
from byg_train.world import scenes
from byg_train.world.judge import PICTURES

pytestmark = pytest.mark.host
NAME, SMALL = "z_image.safetensors", family_of("z_image").embedded


@pytest.fixture(scope="module")
def lora() -> str:
    """The folder; its LoRA lies in the host."""
    z_image_loras.write(comfy_host.loras() / NAME)
    return str(base())


@pytest.fixture
def can_edit() -> None:
    since("0.11.0", "sources of Z-Image")


def _picture(width: int = 48, height: int = 48) -> tuple[Image.Image, Tensor]:
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8))
    image = small.resize((width, height), Image.Resampling.BICUBIC)
    return image, torch.from_numpy(np.asarray(image, np.float32) / 255)[None]


# ---------------------------------------------------------------- the same on both sides


def test_text_is_the_same(can_edit: None) -> None:
    texts = [TEXT, "", "Paint the xylophone  (purple:1.3), now!", "東京 café"]
    wanted = tiny_z_image.load(base()).encode_text(texts)
    found = in_host(graphs.texts, str(base()), texts)
    for words, rows, n in zip(found, wanted["prompt_embeds"], wanted["lengths"], strict=True):
        torch.testing.assert_close(words, rows[:n], rtol=1e-4, atol=1e-4)


def test_the_vae_is_the_same(can_edit: None) -> None:
    backbone, image = tiny_z_image.load(base()), _picture(48, 40)[1]
    latent = backbone.encode_pixels(image.movedim(-1, 1)[:, :, None] * 2 - 1)
    plain = latent[:, :, 0] / backbone.vae.config.scaling_factor + backbone.vae.config.shift_factor
    encoded, decoded = in_host(graphs.vae, str(base()), image, plain)
    assert (encoded - plain).abs().max() < 1e-4
    pixels = backbone.decode_latents(latent)[:, :, 0].movedim(1, -1)
    assert (decoded - (pixels / 2 + 0.5).clamp(0, 1)).abs().max() < 1e-4


def test_the_velocity_with_the_lora_is_the_same(lora: str, can_edit: None) -> None:
    (backbone, bank), inputs = trained(), CASES["source, many words"].inputs(0)
    text = {"prompt_embeds": inputs["words"], "lengths": torch.tensor([40])}

    def velocity() -> Tensor:
        with torch.no_grad():
            return backbone.velocity(inputs["x_t"], inputs["t"], text, inputs["source"])

    wanted = velocity()
    found = in_host(graphs.velocity_of, lora, NAME, inputs)
    assert (found - wanted).norm() < 1e-4 * wanted.norm()
    with bank.using("base"):
        assert (found - velocity()).norm() > 0.1 * wanted.norm()


@pytest.mark.parametrize("size", [(48, 48), (60, 40)])
def test_edit_and_the_graph_draw_the_same_picture(
    size: tuple[int, int], lora: str, can_edit: None
) -> None:
    photo, image = _picture(*size)
    model = open_lora(comfy_host.loras() / NAME, None)
    model = model._replace(base=model.base.model_copy(update={"dtype": "float32"}))
    (wanted,) = edit_picture(model, photo, TEXT, seeds=[SEED])
    found = in_host(graphs.edit, lora, NAME, image, TEXT)["image"]
    assert found.shape == image.shape
    levels = (found[0] * 255).round().numpy().astype(int)
    apart = np.abs(levels - np.asarray(wanted, int))
    assert apart.max() <= 1 if size == (48, 48) else (apart > 1).mean() < 0.01
    assert np.abs(levels - np.asarray(photo, int)).mean() > 5


def test_stock_nodes_draw_the_same(lora: str, can_edit: None) -> None:
    image = _picture()[1]
    wanted = in_host(graphs.stock, lora, NAME, image, TEXT, INFO.sample_steps, SHIFT)
    found = in_host(graphs.edit, lora, NAME, image, TEXT)["latent"]
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


# ---------------------------------------------------------------- the base that ships with ByG


def test_the_tiny_world_opens_it_or_says_what_it_needs() -> None:
    try:
        since("0.11.0", "sources of Z-Image")
    except pytest.skip.Exception:
        with pytest.raises(ValueError, match=rf"ByG Tiny World: .*{SMALL.media}.*0\.11\.0"):
            in_host(graphs.tiny_world, SMALL.media)
    else:
        kind, image = in_host(graphs.tiny_world, SMALL.media)
        assert (kind, image.shape) == ("Lumina2", (1, 48, 48, 3))


def test_the_shipped_editor_is_the_same_in_every_graph(can_edit: None) -> None:
    """`edit`, ByG's nodes, and stock ones."""
    file = comfy_host.loras() / "tiny_editor.safetensors"
    shutil.copy(WORLD / f"{SMALL.preset}.safetensors", file)
    query = PICTURES.query(random.Random(0), "style ink → 3d")
    drawn, text = scenes.draw(query.source), query.instruction
    (wanted,) = edit_picture(
        in_float32(open_lora(file, None)), Image.fromarray(drawn), text, seeds=[SEED]
    )
    image = torch.from_numpy(drawn).float()[None] / 255
    given = (str(SMALL.folder), file.name, image, text)
    found = in_host(partial(graphs.edit, cfg=1.0), *given)
    levels = (found["image"][0] * 255).round().numpy().astype(int)
    assert np.abs(levels - np.asarray(wanted, int)).max() <= 1
    info = LoraInfo.from_metadata(read_lora(file).metadata)
    assert info.sample_shift == 1 and info.cfg in (None, 1)
    stock = in_host(partial(graphs.stock, cfg=1.0), *given, info.sample_steps, 1.0)
    assert (found["latent"] - stock).abs().max() < 1e-4 * stock.abs().max()


# ---------------------------------------------------------------- the other nodes


def test_outside_of_a_mask_everything_stays(lora: str, can_edit: None) -> None:
    image, mask = _picture()[1], torch.zeros(1, 48, 48)
    mask[:, 16:32, 16:32] = 1
    graph = {"mask": mask, "size_mode": "exact size", "width": 48, "height": 48}
    found = in_host(partial(graphs.edit, **graph), lora, NAME, image, TEXT)
    black = (mask == 0)[0]
    assert torch.equal(found["image"][0][black], image[0][black])
    assert (found["latent"] - found["source"])[..., 5:7, 5:7].abs().max() > 0.1


def test_debug_samples_as_stock_and_reports(lora: str, can_edit: None) -> None:
    found = in_host(graphs.debugged, lora, NAME, _picture()[1], TEXT)
    assert torch.equal(found["output"], found["wanted"])
    assert "edit direction: cosine" in found["report"]
    assert "LORA HAS NO EFFECT" not in found["report"]
    assert found["grid"].std() > 0.05


def test_the_source_is_counted_in_the_memory(lora: str, can_edit: None) -> None:
    without, both = in_host(graphs.estimated, lora, NAME, _picture()[1])
    assert both > 1.9 * without


def test_a_text_has_as_many_tokens_as_its_words(lora: str, can_edit: None) -> None:
    image, info = _picture()[1], replace(INFO, base=lora)
    assert "the text has" not in in_host(graphs.note, lora, info, image, TEXT)
    said = in_host(graphs.note, lora, info, image, "thing " * 90)
    assert "ByG Image Edit: the text has " in said and "64" in said


# ---------------------------------------------------------------- what is refused


def test_schedules_of_other_models(lora: str, can_edit: None) -> None:
    image = _picture()[1]
    for shift in (3.0, 6.0):
        found = in_host(graphs.behind, lora, NAME, image, "ModelSamplingAuraFlow", shift)
        assert found.isfinite().all()
    with pytest.raises(ValueError, match=r"ByG Loader: .*take ModelSamplingAuraFlow"):
        in_host(graphs.behind, lora, NAME, image, "ModelSamplingSD3", 3.0)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("old", r"would not show Z-Image the picture to edit.*update it to 0\.11\.0"),
        ("omni", r"Z-Image Omni or Edit.*z_image_bf16"),
        ("lumina", r"the model is Lumina2; load that base model"),
    ],
)
def test_models_and_hosts_that_cannot_edit(kind: str, words: str, lora: str) -> None:
    since("0.3.75" if kind != "omni" else "0.11.0", "Z-Image")
    with pytest.raises(ValueError, match=rf"ByG Loader: {NAME} edits with .*{words}"):
        in_host(graphs.loaded_on, lora, NAME, kind)


def test_this_host_edits_or_says_why_not(lora: str) -> None:
    since("0.3.75", "Z-Image")
    try:
        since("0.11.0", "sources of Z-Image")
    except pytest.skip.Exception:
        with pytest.raises(ValueError, match=r"update it to 0\.11\.0"):
            in_host(graphs.loaded_on, lora, NAME, "itself")
    else:
        assert "14 of 14 modules matched" in in_host(graphs.loaded_on, lora, NAME, "itself")


def test_shared_positions_are_refused(lora: str, can_edit: None) -> None:
    with pytest.raises(ValueError, match=r"ByG Loader: source positions 'shared'.*auto"):
        in_host(graphs.loaded_on, lora, NAME, "itself", "shared with the target")
