"""Nothing is silently wrong: graphs that would give noise stop, and say what to do."""

from __future__ import annotations

from dataclasses import replace

import comfy_host
import graphs_silent
import graphs_wired
import pytest
import torch
from comfy_host import in_host
from graphs import INFO
from safetensors.torch import save_file
from torch import Tensor
from world_lora import trained, write

from byg_train.models.lora_file import LoraInfo, write_lora

pytestmark = pytest.mark.host
PAIR = "silent_high_noise.safetensors"
INDEX_PAIR = "own_index_high_noise.safetensors"
FLUX, SHARED = "silent.safetensors", "silent_shared.safetensors"
WAN = replace(
    INFO, base="Wan-AI/Wan2.2-T2V-A14B", family="wan", reference_mode="shared", text_len=512,
    guidance_sample=None, guidance_train=None, guidance_prior=None, sample_shift=12.0,
    resolution=32, multiple=16, boundary=0.875, fps=16.0,
)  # fmt: skip
IMAGE = torch.rand(1, 48, 48, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", autouse=True)
def loras() -> None:
    """Pairs of LoRAs for a tiny Wan at either position, and two for the tiny FLUX."""
    for name, mode in ((PAIR, "shared"), (INDEX_PAIR, "index")):
        for expert in ("high", "low"):
            info = replace(WAN, expert=expert, reference_mode=mode)
            _write(name.replace("high", expert), info, _tensors())
    bank = trained()[1]
    write(bank, FLUX.removesuffix(".safetensors"))
    write(bank, SHARED.removesuffix(".safetensors"), replace(INFO, reference_mode="shared"))


def _tensors() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        "blocks.0.self_attn.q.lora_A.weight": torch.randn(4, 128, generator=g) * 0.1,
        "blocks.0.self_attn.q.lora_B.weight": torch.randn(128, 4, generator=g),
    }


def _write(name: str, info: LoraInfo, tensors: dict[str, Tensor]) -> None:
    kind = {"scale": 1.0, "family": info.family, "metadata": info.to_metadata()}
    write_lora(comfy_host.loras() / name, tensors, **kind)


def _frames(count: int = 9) -> Tensor:
    return torch.rand(count, 32, 32, 3, generator=torch.Generator().manual_seed(count))


# ---------------------------------------------------------------- which model samples


def test_the_right_graph_runs() -> None:
    assert torch.isfinite(in_host(graphs_silent.right, PAIR, _frames())).all()


@pytest.mark.parametrize(
    "kind",
    [
        "stock loader", "stock loader for one", "merged", "added", "merged by blocks",
        "model_low past the loader",
        "model past the loader", "saved and loaded", "saved as a checkpoint",
    ],
)  # fmt: skip
def test_a_model_without_our_positions_is_refused(kind: str) -> None:
    said = r"ByG Loader: .*did not come through ByG Loader.*Connect"
    with pytest.raises((ValueError, AttributeError), match=said):
        in_host(graphs_wired.wired, kind, PAIR, _frames())


@pytest.mark.parametrize(("kind", "expert"), [("swapped", "low"), ("one for both", "high")])
def test_swapped_experts_are_refused(kind: str, expert: str) -> None:
    words = rf"ByG Loader: the {expert}-noise model would run at noise level .* swapped"
    with pytest.raises(ValueError, match=words):
        in_host(graphs_wired.wired, kind, PAIR, _frames())


@pytest.mark.parametrize(("split", "expert"), [(4, "high"), (1, "low")])
def test_a_split_beside_the_boundary_is_refused(split: int, expert: str) -> None:
    """Of five steps at shift 12 four are at 0.875 and above."""
    assert torch.isfinite(in_host(graphs_silent.split_at, PAIR, _frames(), 4, 5)).all()
    words = rf"the {expert}-noise model would run at .*ByG Expert Split"
    steps = {4: 4, 1: 5}[split]
    with pytest.raises(ValueError, match=words):
        in_host(graphs_silent.split_at, PAIR, _frames(), split, steps)


@pytest.mark.parametrize(
    ("sampler", "split"),
    [("euler", 4), ("lcm", 4), ("uni_pc", 5), ("uni_pc_bh2", 5), ("dpm_2", 5)],
)
def test_the_split_is_that_of_the_sampler(sampler: str, split: int) -> None:
    """KSampler leaves the last but one noise level of some samplers out, so that one step moves."""
    with_sampler = graphs_silent.with_sampler
    found, clean = in_host(with_sampler, PAIR, _frames(), sampler, sampler, 6)
    assert found == split and torch.isfinite(clean).all()
    if split != 4:
        with pytest.raises(ValueError, match=r"the low-noise model would run .*sampler_name"):
            in_host(with_sampler, PAIR, _frames(), sampler, "euler", 6)


def test_one_expert_for_all_steps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the high-noise model would run at .*low-noise model b"):
        in_host(graphs_silent.one_sampler, PAIR, _frames())


def test_a_stock_loader_is_enough_at_stock_positions() -> None:
    assert torch.isfinite(in_host(graphs_wired.index_pair, INDEX_PAIR, _frames())).all()


def test_pictures_at_shared_positions_want_our_loader_too() -> None:
    assert torch.isfinite(in_host(graphs_silent.shared_picture, SHARED, IMAGE, True)).all()
    with pytest.raises((ValueError, AttributeError), match=r"did not come through ByG Loader"):
        in_host(graphs_silent.shared_picture, SHARED, IMAGE, False)
    assert torch.isfinite(in_host(graphs_silent.shared_picture, FLUX, IMAGE, False)).all()


def test_info_and_model_of_two_loaders() -> None:
    with pytest.raises(ValueError, match=r"'shared' positions, this model's has 'index'"):
        in_host(graphs_silent.other_info, SHARED, FLUX, IMAGE)


# ---------------------------------------------------------------- what guides


def test_a_negative_without_the_source() -> None:
    with pytest.raises(ValueError, match=r"`negative` went past the Edit node.*cfg to 1"):
        in_host(graphs_silent.negative_past_the_edit, PAIR, _frames(), 2.0)
    assert torch.isfinite(in_host(graphs_silent.negative_past_the_edit, PAIR, _frames(), 1.0)).all()
    with pytest.raises(ValueError, match=r"`negative` went past the Edit node"):
        in_host(graphs_silent.picture_negative, FLUX, IMAGE, 3.0)
    assert torch.isfinite(in_host(graphs_silent.picture_negative, FLUX, IMAGE, 1.0)).all()


@pytest.mark.parametrize("guider", ["DualCFGGuider", "PerpNegGuider"])
def test_guiders_that_mix_in_other_ways(guider: str) -> None:
    """Their cfg of 1 does not switch the negative text off."""
    with pytest.raises(ValueError, match=r"`negative` went past the Edit node"):
        in_host(graphs_silent.guided, PAIR, _frames(), guider)


def test_a_second_model_for_the_negative_side() -> None:
    comfy_host.since("0.33.0", "DualModelGuider")
    with pytest.raises(ValueError, match=r"did not come through ByG Loader"):
        in_host(graphs_silent.guided, PAIR, _frames(), "DualModelGuider")


@pytest.mark.parametrize("scheduler", ["KarrasScheduler", "ExponentialScheduler"])
def test_schedulers_of_other_models(scheduler: str) -> None:
    with pytest.raises(ValueError, match=r"begins at noise level 14\.6.*take Basic Scheduler"):
        in_host(graphs_silent.scheduled, FLUX, IMAGE, scheduler)


def test_a_node_that_puts_the_source_elsewhere() -> None:
    assert torch.isfinite(in_host(graphs_silent.placed, FLUX, IMAGE, "offset")).all()
    with pytest.raises(ValueError, match=r"in another place \('uxo'\).*take that node out"):
        in_host(graphs_silent.placed, FLUX, IMAGE, "uxo/uno")


def test_two_sources_of_different_sizes() -> None:
    with pytest.raises(ValueError, match=r"is 12 x 12 with .*, the source 16 x 12"):
        in_host(graphs_silent.two_sources, FLUX, IMAGE, torch.rand(1, 48, 64, 3))


def test_a_second_text_without_the_source() -> None:
    with pytest.raises(ValueError, match=r"`positive` went past the Edit node"):
        in_host(graphs_silent.combined, PAIR, _frames())


def test_loras_as_hooks_of_a_text() -> None:
    """Those of others do what they do behind ByG Loader; ours belong into it."""
    tensors = {f"diffusion_model.{k}": v * 3 for k, v in _tensors().items()}
    save_file(tensors, comfy_host.loras() / "others.safetensors")
    hook, behind, without = in_host(graphs_silent.hooked, PAIR, "others.safetensors", _frames())
    change = (hook - without).abs().max()
    assert (hook - behind).abs().max() < 1e-2 * change and change > 0.1
    with pytest.raises((ValueError, AttributeError), match=r"did not come through ByG Loader"):
        in_host(graphs_silent.hooked_alone, PAIR, _frames())


# ---------------------------------------------------------------- what is sampled


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((1, 16, 3, 8, 8), r"3 frames of 8 x 8 with 16 channels, the source 3 frames of 4 x 4"),
        ((1, 4, 4, 4), r"1 frames of 4 x 4 with 16 channels, the source 3 frames"),
        ((1, 16, 5, 4, 4), r"5 frames of 4 x 4 .*, the source 3 frames of 4 x 4"),
    ],
)
def test_a_latent_of_another_size(shape: tuple[int, ...], found: str) -> None:
    with pytest.raises(ValueError, match=rf"ByG Loader: the latent at this sampler is {found}"):
        in_host(graphs_silent.other_latent, PAIR, _frames(), shape)


def test_a_shorter_source_under_context_windows() -> None:
    with pytest.raises(ValueError, match=r"is 5 frames of 4 x 4 .*, the source 3 frames"):
        in_host(graphs_silent.other_latent, PAIR, _frames(), (1, 16, 5, 4, 4), True)


@pytest.mark.parametrize("node", ["LatentUpscaleBy", "LatentUpscale"])
def test_an_enlarged_latent(node: str) -> None:
    with pytest.raises(ValueError, match=r"is 3 frames of 8 x 8 .*, the source 3 frames of 4 x 4"):
        in_host(graphs_silent.through, PAIR, _frames(), node)


def test_a_latent_that_grew_between_the_experts() -> None:
    with pytest.raises(ValueError, match=r"is 3 frames of 8 x 8 .*upscale the pictures behind"):
        in_host(graphs_silent.upscaled_between, PAIR, _frames())


def test_one_latent_of_a_batch() -> None:
    with pytest.raises(ValueError, match=r"1 latents for 3 sources.*in front of ByG Image Edit"):
        in_host(graphs_silent.picture_of_a_batch, FLUX, IMAGE.expand(3, -1, -1, -1))


def test_repeated_latents() -> None:
    with pytest.raises(ValueError, match=r"images: 3, wanted 1 .*batch_size of the Edit node to 3"):
        in_host(graphs_silent.repeated, IMAGE, 3)
    with pytest.raises(ValueError, match=r"images: 2, wanted 1 .*Latent Batch batch the pictures"):
        in_host(graphs_silent.latents_of_two, IMAGE, IMAGE.flip(1))
    with pytest.raises(ValueError, match=r"18 frames are 2 clips one behind the other.*another s"):
        in_host(graphs_silent.repeated_clip, _frames(), 2)


# ---------------------------------------------------------------- files


def test_a_lora_that_is_not_a_number() -> None:
    tensors = _tensors()
    tensors["blocks.0.self_attn.q.lora_B.weight"][3, 1] = float("nan")
    _write("nan_high_noise.safetensors", replace(WAN, expert="high"), tensors)
    _write("nan_low_noise.safetensors", replace(WAN, expert="low"), _tensors())
    with pytest.raises(ValueError, match=r"ByG Loader: .*nan_high_noise.*self_attn.q.*NaN"):
        in_host(graphs_wired.wired, "swapped", "nan_high_noise.safetensors", _frames())


def test_advice_fits_the_error() -> None:
    """A file that is cut short or gone is no LoRA of another trainer."""
    path = comfy_host.loras() / "cut.safetensors"
    path.write_bytes((comfy_host.loras() / FLUX).read_bytes()[:5000])
    cut, gone = in_host(graphs_silent.said_after, path.name, "gone.safetensors")
    for said in (cut, gone):
        assert "Load LoRA" not in " ".join(said.split())
    (clip,) = in_host(graphs_silent.said_after, "ByG tiny world: demo_video_high_noise")
    assert "with media = clip" in " ".join(clip.split())


def test_after_an_error_the_old_report_is_gone() -> None:
    before, after, again = in_host(graphs_silent.said_after, FLUX, "gone.safetensors", FLUX)
    assert "modules matched" in " ".join(before.split()) and before == again
    assert "gone.safetensors" in after and "modules" not in after
    assert max(map(len, before.splitlines())) <= 44
    # Nodes 2.0 renders Markdown: the list ends, and lines stay apart.
    assert f"- {INFO.instructions[0][:20]}" in before and "\n\nsample with" in before
    assert "4  \nsource positions: index" in before
