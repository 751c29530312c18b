"""ByG Few Steps: the picture of `byg_train edit`, in one part and over both networks of a pair."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import clip_files
import comfy_host
import graphs_few_steps
import numpy as np
import pytest
import tiny_wan
import torch
import wan_edits
from comfy_host import in_host
from edits import edit_picture, in_float32
from graphs import INFO, INSTRUCTION, SEED
from PIL import Image
from torch import Tensor
from world_lora import trained, write

from byg_train.core.flow import noises
from byg_train.core.schedule import time_grid
from byg_train.editing.opening import open_lora
from byg_train.editing.sources import ClipToEdit, PictureToEdit, model_fps
from byg_train.media.source_clip import open_source_clip
from byg_train.models.sampler import sampling_grid

pytestmark = pytest.mark.host
FOUR = replace(INFO, sampler="renoise", sample_steps=4)
LORA, MANY, PAIR = "four.safetensors", "twenty.safetensors", "four_pair_high_noise.safetensors"
TEXTS = (wan_edits.TEXT, wan_edits.NEGATIVE)
SIZE = (60, 40)


@pytest.fixture(scope="module")
def loras() -> None:
    """The same random LoRA of the tiny world, once said to be for four steps and once for more."""
    bank = trained()[1]
    write(bank, "four", FOUR)
    write(bank, "twenty", replace(INFO, sample_steps=20))


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    g = np.random.default_rng(0)
    small = Image.fromarray(g.integers(0, 255, (5, 8, 3), dtype=np.uint8))
    return small.resize(SIZE, Image.Resampling.BICUBIC)


def _image(photo: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(photo)).float()[None] / 255


def _levels(pixels: Tensor) -> np.ndarray:
    return (pixels * 255).round().numpy().astype(int)


# ---------------------------------------------------------------- the same picture


@pytest.mark.parametrize(("lora", "steps"), [(LORA, 0), (LORA, 2), (MANY, 4)])
def test_edit_draws_the_same_picture(
    lora: str, steps: int, loras: None, photo: Image.Image
) -> None:
    """As the LoRA says, with another number of steps, and with a LoRA for many."""
    over = {"sample_steps": steps or None, "sampler": "renoise"}
    model = in_float32(open_lora(comfy_host.loras() / lora, None)).sampled(over)
    (wanted,) = edit_picture(model, photo, INSTRUCTION, seeds=[SEED])
    source, editor = PictureToEdit(photo, model.info), model.load("cpu", 1.0)
    x = editor.backbone.encode_pixels(source.pixels)
    y_0 = editor.sample(x, [INSTRUCTION], x, seed=SEED)

    latent, picture = in_host(graphs_few_steps.edited_picture, lora, _image(photo), steps)
    assert (latent - y_0[:, :, 0]).abs().max() < 1e-4 * y_0.abs().max()
    assert np.abs(_levels(picture[0]) - np.asarray(wanted, int)).max() <= 1
    assert np.abs(_levels(picture[0]) - np.asarray(photo, int)).mean() > 5


def test_comfyuis_own_lcm_adds_other_noise(loras: None, photo: Image.Image) -> None:
    ours, _ = in_host(graphs_few_steps.edited_picture, LORA, _image(photo))
    lcm, _ = in_host(graphs_few_steps.edited_picture, LORA, _image(photo), 0, "lcm")
    assert (ours - lcm).abs().max() > 0.1 * ours.abs().max()


def test_sampler_custom_with_the_same_seed_draws_the_same(loras: None, photo: Image.Image) -> None:
    custom, advanced = in_host(graphs_few_steps.edited_by_sampler_custom, LORA, _image(photo))
    assert torch.equal(custom, advanced)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    for i, frame in enumerate(clip_files.drawn(5)):
        Image.fromarray(frame).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LoRAs for four steps, two with each network, here and in the host."""
    folder = tmp_path_factory.mktemp("pair")
    info = {"sampler": "renoise", "sample_steps": 4, "sample_shift": 5.0}
    lora = wan_edits.write_pair(folder, **info)
    for path in folder.glob("*.safetensors"):
        shutil.copy(path, comfy_host.loras() / path.name.replace("toon", "four_pair"))
    return lora


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_wan.folder_of(tmp_path_factory.mktemp("wan") / "base"))


def test_edit_draws_the_same_clip(pair: Path, base: str, clip: Path) -> None:
    """Over the boundary: the second sampler goes on with the noise that belongs there."""
    model = in_float32(open_lora(pair, None))
    opened = open_source_clip(clip, None, model_fps(model.info))
    source, editor = ClipToEdit(opened, model.info), model.load("cpu", 1.0)
    x = editor.backbone.encode_pixels(source.pixels)
    y_0 = editor.sample(x, [TEXTS[0]], x, seed=SEED)
    (wanted,) = wan_edits.edited(model, clip, seeds=[SEED])

    frames = torch.from_numpy(clip_files.drawn(5)).float() / 255
    graph = graphs_few_steps.edited_clip
    latent, found = in_host(graph, base, PAIR, frames, TEXTS)
    assert (latent - y_0).abs().max() < 1e-4 * y_0.abs().max()
    apart = np.abs(_levels(found) - wanted.astype(int))
    assert apart.mean() < 0.5 and (apart > 2).mean() < 0.02
    lcm, _ = in_host(graph, base, PAIR, frames, TEXTS, "lcm")
    assert (lcm - y_0).abs().max() > 0.1 * y_0.abs().max()


@pytest.mark.parametrize("shape", [(2, 4, 6, 6), (2, 4, 3, 6, 6)])
def test_what_is_added_are_the_noises_of_the_seed(shape: tuple[int, ...]) -> None:
    found = in_host(graphs_few_steps.noise_after, 2**64 - 1, shape, 3)
    wanted = list(islice(noises(torch.zeros(shape), 2**64 - 1), 1, 4))
    assert len(found) == 3
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


# ---------------------------------------------------------------- the schedule


def test_the_schedule_is_the_loras() -> None:
    picture = torch.zeros(1, 8, 10, 16)
    sigmas, low = in_host(graphs_few_steps.schedule, FOUR, picture)
    assert torch.equal(sigmas, time_grid(4, INFO.sample_shift)) and low.tolist() == [0.0]
    # One that follows the size, of the latent that is sampled and not of the training.
    large = torch.zeros(1, 8, 64, 96)
    sigmas, _ = in_host(graphs_few_steps.schedule, replace(FOUR, sample_shift="flux"), large, 3)
    assert torch.equal(sigmas, sampling_grid(3, "flux", large.unsqueeze(2)))
    assert not torch.equal(sigmas, sampling_grid(3, "flux", picture.unsqueeze(2)))


def test_a_pairs_schedule_is_cut_at_its_boundary() -> None:
    info = replace(FOUR, family="wan", sample_shift=5.0, boundary=0.875)
    high, low = in_host(graphs_few_steps.schedule, info, torch.zeros(1, 16, 2, 4, 4))
    grid = time_grid(4, 5.0)
    assert torch.equal(high, grid[:3]) and torch.equal(low, grid[2:])
    said = in_host(graphs_few_steps.said, info, torch.zeros(1, 16, 2, 4, 4))
    assert "2 at high noise, 2 at low noise" in said


def test_it_says_whether_the_lora_was_trained_for_these_steps() -> None:
    latent, many = torch.zeros(1, 8, 12, 12), replace(INFO, sample_steps=20)
    said = in_host(graphs_few_steps.said, replace(FOUR, sample_shift=1.0), latent)
    assert said == "4 steps, t = 1, 0.75, 0.5, 0.25"
    assert "was trained for 4 steps" in in_host(graphs_few_steps.said, FOUR, latent, 8)
    assert "not trained for few steps" in in_host(graphs_few_steps.said, many, latent, 4)
    with pytest.raises(ValueError, match=r"ByG Few Steps: steps: .* 20 of euler.*set a number"):
        in_host(graphs_few_steps.schedule, many, latent)


# ---------------------------------------------------------------- ByG Debug


def test_debug_shows_every_step(loras: None, photo: Image.Image) -> None:
    found = in_host(graphs_few_steps.debugged, LORA, _image(photo), "all")
    assert torch.equal(found["ours"], found["stock"])
    assert len(found["one_step"]) == found["report"].count("as sharp as multi-step") == 4
    assert found["report"].startswith("4 evaluations of the model")
    # The last guess is the result; those before it are not.
    ends = [(one - found["result"][0]).abs().max() for one in found["one_step"]]
    assert ends[3] < 1e-5 and min(ends[:3]) > 0.02
    few = in_host(graphs_few_steps.debugged, LORA, _image(photo), "1, 0.2")
    assert len(few["one_step"]) == 2
    assert torch.equal(few["one_step"][0], found["one_step"][0])
    assert found["grid"].shape[1] > few["grid"].shape[1]


def test_debug_samples_a_pair_as_two_samplers_do(pair: Path, base: str, clip: Path) -> None:
    frames = torch.from_numpy(clip_files.drawn(5)).float() / 255
    latent, _ = in_host(graphs_few_steps.edited_clip, base, PAIR, frames, TEXTS)
    found = in_host(graphs_few_steps.debugged_clip, base, PAIR, frames, TEXTS)
    assert torch.equal(found["latent"], latent)
    assert len(found["one_step"]) == 4
    for level in time_grid(4, 5.0)[:-1].tolist():
        assert f"t = {level:.3f}: one-step is" in found["report"]
