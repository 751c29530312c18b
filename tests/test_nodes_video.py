"""Wan: the source at the target's positions, memory, windows, two samplers; ByG Video Edit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import comfy_host
import fetch_host
import graphs_wan
import pytest
import tiny_wan
import torch
import wan_loras
from comfy_host import in_host
from graphs import INFO
from safetensors.torch import load_file, save_file
from torch import Tensor

from byg_train.models.lora_file import write_lora

pytestmark = pytest.mark.host
WAN = replace(
    INFO, base="Wan-AI/Wan2.2-T2V-A14B", family="wan", reference_mode="shared", text_len=512,
    guidance_sample=None, guidance_train=None, guidance_prior=None, sample_shift=5.0,
    resolution=64, multiple=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def lora() -> str:
    """Random updates of two of a tiny Wan's layers, for 16 and for 48 channels."""
    g = torch.Generator().manual_seed(0)
    sizes = {"blocks.0.self_attn.q": (128, 128), "blocks.1.ffn.2": (128, 256)}
    tensors = {}
    for name, (rows, columns) in sizes.items():
        tensors[f"{name}.lora_A.weight"] = torch.randn(4, columns, generator=g) * columns**-0.5
        tensors[f"{name}.lora_B.weight"] = torch.randn(rows, 4, generator=g)
    path = comfy_host.loras() / "tiny_wan.safetensors"
    kind = {"scale": 1.0, "family": "wan", "dtype": torch.float32}
    write_lora(path, tensors, metadata=WAN.to_metadata(), **kind)
    return path.name


def _latent(frames: int, height: int = 8, width: int = 6, seed: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(2, 16, frames, height, width, generator=g)


def _frames(count: int, height: int = 20, width: int = 30) -> Tensor:
    g = torch.Generator().manual_seed(count)
    return torch.rand(count, height, width, 3, generator=g)


# ---------------------------------------------------------------- positions


SIZES = [(3, 3, (8, 6)), (3, 2, (7, 9)), (1, 4, (4, 4))]  # frames of target and source, latents


@pytest.mark.parametrize(("target", "source", "size"), SIZES)
def test_the_source_stands_at_the_targets_positions(
    target: int, source: int, size: tuple[int, int], lora: str
) -> None:
    x, z = _latent(target, *size), _latent(source, *size, seed=2)
    found = in_host(graphs_wan.wan_velocity, lora, x, z)
    wanted = in_host(graphs_wan.wan_by_hand, lora, x, z)
    assert found.shape == x.shape
    assert (found - wanted).abs().max() < 1e-4
    # Stock Wan continues the time axis: elsewhere.
    stock = in_host(graphs_wan.wan_velocity, lora, x, z, 0.6, "own index")
    assert (stock - found).abs().max() > 1e-3


def test_both_experts_have_the_trainers_velocity(tmp_path: Path) -> None:
    backbone, bank = wan_loras.trained()
    files, times, wanted = [], [0.95, 0.6], []
    x, source, text = tiny_wan.latents(1), tiny_wan.latents(7), tiny_wan.text(2)
    for expert, t in zip(backbone.experts, times, strict=True):
        info = replace(wan_loras.INFO, expert=expert)
        path = comfy_host.loras() / "parity.safetensors"
        kind = {"metadata": info.to_metadata(), "dtype": torch.float32}
        wan_loras.write(bank, expert, path, **kind)
        part = tiny_wan.base() / tiny_wan.PARTS[expert] / tiny_wan.WEIGHTS
        files.append(str(tmp_path / f"{expert}.safetensors"))
        save_file(tiny_wan.original(load_file(part)), files[-1])
        time = torch.full((len(x),), t)
        with torch.no_grad():
            wanted.append([backbone.velocity(x, time, text, z) for z in (source, None)])
    found = in_host(
        graphs_wan.wan_pair, wan_loras.COMFY, files, "parity_high_noise.safetensors", x, source,
        text["prompt_embeds"], times,
    )  # fmt: skip
    for ours, theirs in zip(wanted, found, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert (a - b).abs().max() < 1e-4
        assert (ours[0] - ours[1]).abs().max() > 1e-2


def test_the_5b_has_the_trainers_velocity(tmp_path: Path) -> None:
    backbone, bank = wan_loras.trained("one")
    info = replace(wan_loras.INFO, expert=None, boundary=None)
    path = comfy_host.loras() / "parity_5b.safetensors"
    kind = {"metadata": info.to_metadata(), "dtype": torch.float32}
    wan_loras.write(bank, "transformer", path, **kind)
    file = tmp_path / "5b.safetensors"
    part = tiny_wan.base("one") / "transformer" / tiny_wan.WEIGHTS
    save_file(tiny_wan.original(load_file(part)), file)
    x, source, text, t = tiny_wan.latents(1), tiny_wan.latents(7), tiny_wan.text(2), 0.6
    with torch.no_grad():
        time = torch.full((len(x),), t)
        wanted = [backbone.velocity(x, time, text, z) for z in (source, None)]
    ((ours, alone),) = in_host(
        graphs_wan.wan_pair, wan_loras.COMFY, [str(file)], path.name, x, source,
        text["prompt_embeds"], [t],
    )  # fmt: skip
    for found, v in zip((ours, alone), wanted, strict=True):
        assert (found - v).abs().max() < 1e-4
    assert (ours - alone).abs().max() > 1e-2


def test_the_bare_model_is_unchanged_to_the_bit(lora: str) -> None:
    x = _latent(3)
    before = in_host(graphs_wan.wan_plain, x)
    assert torch.equal(in_host(graphs_wan.wan_plain, x, 0.6, lora), before)
    assert in_host(graphs_wan.wan_leaves_no_trace, lora) == (False, False)


@pytest.mark.parametrize("anchor", [False, True])
def test_windows_cut_the_source_as_they_cut_the_target(anchor: bool, lora: str) -> None:
    has_anchor = fetch_host.version() >= (0, 21)
    if anchor and not has_anchor:
        comfy_host.since("0.21.0", "a frame before each context window")
    options = {"causal_window_fix": anchor} if has_anchor else {}
    x, z = _latent(4)[:1], _latent(4, seed=2)[:1]
    together, alone = in_host(graphs_wan.windowed, lora, x, z, options)
    assert (together - alone).abs().max() < 1e-4


def test_a_clip_in_one_window_is_sampled_as_without(lora: str) -> None:
    plain, whole, cut = in_host(graphs_wan.in_windows, lora, _frames(17), (81, 5))
    assert torch.equal(plain, whole)
    assert cut.shape == plain.shape and torch.isfinite(cut).all()
    assert (cut - plain).abs().max() > 1e-3  # and the shorter ones do cut


@pytest.mark.parametrize("windows", [False, True])
def test_memory_is_asked_for_the_source_too(windows: bool, lora: str) -> None:
    without, both = in_host(graphs_wan.estimated_shapes, lora, _frames(13), windows)
    assert both >= 2 * without


def test_a_clip_beyond_the_memory_is_refused(lora: str) -> None:
    assert torch.isfinite(in_host(graphs_wan.with_memory, lora, _frames(5), 1 << 40)).all()
    with pytest.raises(ValueError, match=r"ByG Loader: .* with their source need.*Video Edit"):
        in_host(graphs_wan.with_memory, lora, _frames(5), 1 << 16)


def test_a_noise_mask_on_the_5b_is_refused(lora: str) -> None:
    with pytest.raises(ValueError, match=r"ByG Loader: .*5B.*ByG Finish"):
        in_host(graphs_wan.five_b_masked, lora, torch.zeros(1, 48, 2, 4, 4))
    with pytest.raises(ValueError, match=r"ByG Video Edit: mask: .*5B.*ByG Finish"):
        in_host(graphs_wan.five_b, _frames(5), torch.ones(1, 20, 30))


# ---------------------------------------------------------------- two samplers


def test_two_samplers_are_one(lora: str) -> None:
    one, two, source = in_host(graphs_wan.two_stages, lora, _frames(5), None, True)
    assert (one - two).abs().max() < 1e-4 * one.abs().max()


def test_a_mask_survives_the_second_sampler(lora: str) -> None:
    mask = torch.zeros(1, 20, 30)
    mask[:, :, 15:] = 1
    one, two, source = in_host(graphs_wan.two_stages, lora, _frames(5), mask, True)
    assert (one - two).abs().max() < 1e-4 * one.abs().max()
    left = slice(0, source.shape[-1] // 2 - 1)
    assert (two - source)[..., left].abs().max() < 1e-4 * source.abs().max()
    assert (two - source)[..., -1].abs().max() > 1e-2
    # Without our wrapper the black part keeps the first sampler's noise.
    one, two, source = in_host(graphs_wan.two_stages, lora, _frames(5), mask, False)
    assert (two - source)[..., left].abs().max() > 0.1


# ---------------------------------------------------------------- ByG Video Edit


def test_frames_are_padded_and_come_back() -> None:
    frames = _frames(6)
    found = in_host(graphs_wan.video_shapes, frames)
    assert found["latent"] == (1, 16, 3, 4, 6)  # 9 frames of 48 x 32 pixels
    assert found["frames"].shape == (9, 32, 48, 3)
    assert torch.equal(found["frames"][5], found["frames"][8])
    assert found["finished"].shape == frames.shape
    assert (found["finished"] - frames).abs().mean() < 0.1
    assert found["same_source"] and found["audio"] is None
    assert (found["rate"], found["model_length"]) == (16.0, 6)


def test_an_odd_size_comes_back_and_can_be_saved() -> None:
    """Exact as pictures; as a video of even sides, since H.264's usual form has no others."""
    found = in_host(graphs_wan.video_saved, _frames(5, 21, 35))
    assert found["finished"].shape == (5, 21, 35, 3)
    assert found["read"].shape == (5, 22, 36, 3)


def test_another_rate_is_seen_at_the_models_and_comes_back() -> None:
    found = in_host(graphs_wan.video_shapes_at, _frames(12), 24.0)
    assert len(found["frames"]) == 9  # 8 frames at 16 per second, padded
    assert len(found["finished"]) == 12 and found["rate"] == found["fps"] == 24.0
    assert (found["model_length"], found["model_rate"]) == (8, 16.0)


def test_a_part_of_a_video_with_its_sound() -> None:
    found = in_host(graphs_wan.video_from_components, _frames(10), 8, 1000)
    assert len(found["finished"]) == 4 and found["rate"] == 8.0
    assert found["audio"] == 400  # half a second at 800 Hz
    assert found["first_sample"] == 200.0  # from a quarter of a second on


def test_sound_that_ends_before_the_part_is_none() -> None:
    """A sound of no samples could not be saved, after all the sampling."""
    assert in_host(graphs_wan.video_sound, _frames(10), 8, 150) is None
    assert in_host(graphs_wan.video_sound, _frames(10), 8, 0) is None
    assert in_host(graphs_wan.video_sound, _frames(10), 8, 1000) == 400


def test_masks_follow_the_latent_frames() -> None:
    mask = torch.zeros(6, 20, 30)
    mask[2, :10] = 1  # of the second latent frame, frames 1 to 4
    found = in_host(graphs_wan.video_shapes_with_mask, _frames(6), mask)["mask"]
    assert found.shape == (1, 1, 3, 32, 48)
    assert found[0, 0, 1].any() and not found[0, 0, 0].any() and not found[0, 0, 2].any()


@pytest.mark.parametrize(("count", "words"), [(1, "1 frame is"), (2, "2 frames are")])
def test_hardly_a_video_is_edited_with_a_word_of_advice(count: int, words: str) -> None:
    said = in_host(graphs_wan.video_notes, _frames(count))
    assert said.startswith(f"ByG Video Edit: {words}") and "ByG Image Edit" in said
    assert len(in_host(graphs_wan.video_shapes, _frames(count))["finished"]) == count
    assert "hardly" not in in_host(graphs_wan.video_notes, _frames(5))


# White in the first frame alone.
FIRST = torch.zeros(5, 20, 30)
FIRST[0] = 1


@pytest.mark.parametrize(
    ("frames", "widgets", "words"),
    [
        (None, {}, r"video, frames: neither connected"),
        (_frames(3)[:0], {}, r"frames: an empty batch"),
        (
            _frames(5),
            {"size_mode": "as trained"},
            r"size_mode: 'as trained' needs `info`.*bypassed",
        ),
        (_frames(5), {"start_frame": 5}, r"start_frame: 5, the clip has 5 frames"),
        (_frames(5), {"size_mode": "exact size", "width": 40}, r"width x height: 40 x 32, w"),
        (_frames(5), {"mask": torch.ones(1, 8, 8)}, r"mask: 8 x 8 pixels, the frame has 30 x 20"),
        (_frames(5), {"mask": torch.ones(3, 20, 30)}, r"mask: 3 masks for 5 frames"),
        (_frames(5), {"vae": None}, r"vae: there is none; connect Load VAE"),
        (
            _frames(5),
            {"mask": FIRST, "start_frame": 2},
            r"mask: all black in the frames 2 to 4",
        ),
        (_frames(5), {"mask": torch.ones(2, 2, 2, 20, 30)}, r"mask: got the shape"),
        (torch.zeros(5, 0, 30, 3), {}, r"frames: an empty batch"),
    ],
)
def test_bad_input(frames: Tensor | None, widgets: dict, words: str) -> None:
    with pytest.raises(ValueError, match=rf"ByG Video Edit: {words}"):
        in_host(graphs_wan.video_refused_with, frames, widgets)
