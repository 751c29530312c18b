"""ByG Debug: the stock sampler's result to the bit, and what it shows is true."""

from __future__ import annotations

import graphs
import graphs_debug
import pytest
import torch
from comfy_host import in_host
from torch import Tensor
from world_lora import trained, write

from byg_train.models.lora_file import write_lora

pytestmark = pytest.mark.host
LORA, WAN_LORA = "debug.safetensors", "debug_wan.safetensors"
IMAGE = torch.rand(1, 48, 48, 3, generator=torch.Generator().manual_seed(0))
AT = "0.95, 0.6, 0.3"


@pytest.fixture(scope="module", autouse=True)
def loras() -> None:
    """Random LoRAs of the tiny world and of a tiny Wan in the host."""
    from dataclasses import replace

    path = write(trained()[1], "debug")
    g = torch.Generator().manual_seed(0)
    tensors = {
        "blocks.0.self_attn.q.lora_A.weight": torch.randn(4, 128, generator=g) * 0.1,
        "blocks.0.self_attn.q.lora_B.weight": torch.randn(128, 4, generator=g),
    }
    info = replace(
        graphs.INFO, family="wan", reference_mode="shared", guidance_sample=None, multiple=16
    )
    kind = {"scale": 1.0, "family": "wan", "metadata": info.to_metadata()}
    write_lora(path.with_name(WAN_LORA), tensors, **kind)


# ---------------------------------------------------------------- the result


@pytest.mark.parametrize(
    ("sampler", "cfg"),
    [("euler", 1.0), ("euler_ancestral", 2.0), ("heun", 1.0), ("dpmpp_2m", 2.0), ("uni_pc", 1.0)],
)
def test_the_result_is_the_stock_samplers_to_the_bit(sampler: str, cfg: float) -> None:
    ours, stock = in_host(graphs_debug.debug_and_stock, LORA, IMAGE, sampler, cfg, {})
    assert all(torch.equal(a, b) for a, b in zip(ours, stock, strict=True))


def test_so_is_the_result_inside_a_mask() -> None:
    mask = torch.zeros(1, 48, 48)
    mask[:, :, 24:] = 1
    ours, stock = in_host(graphs_debug.debug_and_stock, LORA, IMAGE, "euler", 1.0, {"mask": mask})
    assert all(torch.equal(a, b) for a, b in zip(ours, stock, strict=True))


def test_and_over_two_experts() -> None:
    frames = torch.rand(9, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    found = in_host(graphs_debug.debug_two_experts, WAN_LORA, frames, {"at": "1.0, 0.9, 0.3, 0.1"})
    assert torch.equal(found["ours"], found["stock"])
    assert 0 < found["step"] < 5
    assert found["one_step"].shape[1:] == (32, 32, 3)
    # Levels of both experts are shown, each compared with its own base.
    assert found["report"].count("LoRA changes the prediction") == len(found["one_step"]) >= 3
    without = in_host(graphs_debug.debug_two_experts, WAN_LORA, frames, {"at": "0.9", "frame": 0})
    assert found["grid"].shape[1] > without["grid"].shape[1]


@pytest.mark.parametrize("node", ["ByG_Debug", "SamplerCustomAdvanced"])
def test_cancel_stops_within_a_step(node: str) -> None:
    assert in_host(graphs_debug.cancelled, LORA, IMAGE, node) == 2


def test_no_model_outlives_its_graph() -> None:
    assert not in_host(graphs_debug.kept_alive, LORA, IMAGE)


# ---------------------------------------------------------------- what is shown


@pytest.mark.parametrize("level", [0, 3])
def test_one_step_is_a_step_from_there_to_the_end(level: int) -> None:
    ours, wanted = in_host(graphs_debug.debug_by_hand, LORA, IMAGE, level)
    assert ours.shape == wanted.shape and (ours - wanted).abs().max() < 1e-5


def test_levels_that_fall_on_one_evaluation_are_one_row() -> None:
    steps = {"steps": 4, "denoise": 1.0}
    found = in_host(
        graphs_debug.debug, LORA, IMAGE, {"at": "0.31, 0.3, 0.95, 0.94, 1"}, False, steps
    )
    assert len(found["one_step"]) == 2
    assert found["report"].count("as sharp as multi-step") == 2


def test_layouts_differ_in_columns() -> None:
    layouts = ("one-step vs multi-step", "+ noisy state", "+ heat maps", "all")
    widths = [
        in_host(graphs_debug.debug, LORA, IMAGE, {"at": AT, "layout": layout})["grid"].shape[2]
        for layout in layouts
    ]
    assert widths == sorted(widths) and len(set(widths)) == 4


def test_a_frame_decoded_alone_is_the_frame_of_the_clip() -> None:
    """To the bit where all before it comes along, and closely where the VAE looks back further."""
    frames = torch.rand(33, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    for at in (0, 1, 4, 5, 16):
        alone, whole = in_host(graphs_debug.one_frame, frames, at)
        assert (alone - whole).abs().max() < 1e-5
    for at in (20, 31, 32):
        alone, whole = in_host(graphs_debug.one_frame, frames, at)
        assert (alone - whole).abs().mean() < 0.1 * whole.std()


# ---------------------------------------------------------------- what is said


def test_a_lora_at_work_raises_no_alarm_about_itself() -> None:
    report = in_host(graphs_debug.debug, LORA, IMAGE, {"at": AT}, True)["report"]
    assert "NO EFFECT" not in report and "COLLAPSE" not in report
    assert report.count("edit direction: cosine") == 3
    assert "edit strength" in report and "source kept" in report


def test_a_lora_without_effect_is_flagged() -> None:
    report = in_host(graphs_debug.debug, None, IMAGE, {"at": AT}, True)["report"]
    assert "carries no LoRA" in report and "predicts what the base model does" in report
    assert "changes the prediction by 0.0%" in report


def test_a_result_that_is_the_source_is_flagged() -> None:
    barely = {"steps": 3, "denoise": 0.03}
    report = in_host(graphs_debug.debug, LORA, IMAGE, {"at": "0.02"}, False, barely)["report"]
    assert "IDENTITY COLLAPSE" in report and "DRIFT" not in report


def test_an_edit_along_the_captions_has_cosine_one() -> None:
    report = in_host(graphs_debug.debug_along_the_captions, IMAGE)
    assert report.count("cosine 1.00") == report.count("edit direction") > 0


@pytest.mark.parametrize(
    ("widgets", "extra", "words"),
    [
        ({"at": "half"}, "", r"at: 'half'; wanted noise levels"),
        ({"at": "1.5"}, "", r"at: '1.5'; wanted noise levels"),
        ({"at": ""}, "", r"at: ''; wanted noise levels"),
        ({"frame": 1}, "", r"frame: 1, the batch has 1 pictures"),
        ({}, "guider_low", r"guider_low and low_sigmas belong together"),
        ({}, "low_sigmas", r"guider_low and low_sigmas belong together"),
        ({}, "src_caption", r"src_caption and tgt_caption belong together"),
        ({}, "both", r"src_caption, tgt_caption: they need base_model"),
        ({}, "bare", r"source: the guider has none either"),
    ],
)
def test_bad_input(widgets: dict, extra: str, words: str) -> None:
    with pytest.raises(ValueError, match=rf"ByG Debug: {words}"):
        in_host(graphs_debug.refused_debug, LORA, IMAGE, widgets, extra)


# ---------------------------------------------------------------- readings


def _picture(seed: int) -> Tensor:
    return torch.rand(16, 20, 3, generator=torch.Generator().manual_seed(seed))


def test_sharpness_is_the_laplacians_variance() -> None:
    slope = torch.linspace(0, 1, 20).expand(16, 20)[..., None].expand(-1, -1, 3)
    assert in_host(graphs_debug.readings, "sharpness", slope) < 1e-12
    board = ((torch.arange(16)[:, None] + torch.arange(20)) % 2).float()[..., None]
    board = board.expand(-1, -1, 3)  # the Laplacian is 4 and -4, half and half
    assert in_host(graphs_debug.readings, "sharpness", board) == pytest.approx(16, rel=0.02)


def test_outlines_are_kept_through_a_change_of_colour() -> None:
    a, b = _picture(1), _picture(2)
    assert in_host(graphs_debug.readings, "kept", a, a) == pytest.approx(1)
    assert in_host(graphs_debug.readings, "kept", 0.5 - 0.4 * a, a) == pytest.approx(1, abs=1e-4)
    assert abs(in_host(graphs_debug.readings, "kept", b, a)) < 0.25


def test_distances_are_shares() -> None:
    a = torch.randn(4, 8, 8)
    assert in_host(graphs_debug.readings, "distance", a, a) == 0
    assert in_host(graphs_debug.readings, "distance", a + 0.5 * a.std(), a) == pytest.approx(0.25)
    assert in_host(graphs_debug.readings, "change", 1.1 * a, a) == pytest.approx(0.1, rel=1e-4)


def test_directions() -> None:
    src, tgt = torch.randn(4, 8, 8), torch.randn(4, 8, 8)
    along = in_host(graphs_debug.readings, "direction", src + 3 * (tgt - src), src, tgt)
    assert along[0] == pytest.approx(1, abs=1e-5)
    assert along[1] == pytest.approx(((tgt - src).norm() / src.norm()).item(), rel=1e-5)
    against = in_host(graphs_debug.readings, "direction", src - (tgt - src), src, tgt)
    assert against[0] == pytest.approx(-1, abs=1e-5)


def test_heat_runs_from_black_to_white() -> None:
    a = torch.zeros(1, 3, 3)
    b = torch.tensor([0.0, 1 / 9, 1.0])[None, :, None].expand(1, 3, 3)
    found = in_host(graphs_debug.readings, "heat", a, b)[0]
    assert torch.equal(found[0], torch.zeros(3)) and torch.equal(found[2], torch.ones(3))
    assert torch.allclose(found[1], torch.tensor([1.0, 0.0, 0.0]), atol=1e-5)
