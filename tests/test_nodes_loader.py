"""ByG Loader: what it takes, what it refuses and says, and that the stock loader stacks with it."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import comfy_host
import graphs_loader
import pytest
import torch
from comfy_host import in_host
from graphs import INFO
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from world_lora import trained, write

from byg_train.models.lora_file import LoraInfo, write_lora

pytestmark = pytest.mark.host
NAME = "loader.safetensors"
IMAGE = torch.rand(1, 48, 48, 3, generator=torch.Generator().manual_seed(0))
WAN = replace(
    INFO, base="Wan-AI/Wan2.2-T2V-A14B", family="wan", reference_mode="shared",
    guidance_sample=None, guidance_train=None, guidance_prior=None, sample_shift=12.0,
    resolution=64, multiple=16, boundary=0.875, fps=16.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def lora() -> str:
    """A random LoRA of the tiny world in the host, and a second one by another trainer."""
    bank = trained()[1]
    path = write(bank, "loader")
    other = {k: v * 0.5 for k, v in load_file(path).items() if "single" in k}
    save_file(other, path.with_name("second.safetensors"))
    return path.name


def _tensors(**sizes: tuple[int, int]) -> dict[str, Tensor]:
    """Random A and B of rank 2 for modules of (out, in)."""
    g = torch.Generator().manual_seed(0)
    tensors = {}
    for name, (rows, columns) in sizes.items():
        name = name.replace("__", ".")
        tensors[f"{name}.lora_A.weight"] = torch.randn(2, columns, generator=g)
        tensors[f"{name}.lora_B.weight"] = torch.randn(rows, 2, generator=g)
    return tensors


def _write(name: str, info: LoraInfo = INFO, **sizes: tuple[int, int]) -> str:
    path = comfy_host.loras() / f"{name}.safetensors"
    write_lora(path, _tensors(**sizes), scale=1.0, family=info.family, metadata=info.to_metadata())
    return path.name


Q = "single_transformer_blocks__0__attn__to_q"
WAN_Q = {"blocks__0__self_attn__q": (128, 128), "blocks__1__ffn__0": (256, 128)}


# ---------------------------------------------------------------- what it says


def test_the_report_counts_modules_and_tells_how_to_sample(lora: str) -> None:
    report = in_host(graphs_loader.load, lora)
    modules = len(load_file(comfy_host.loras() / lora)) // 2
    assert f"{lora}: {modules} of {modules} modules matched" in report
    for words in ("base world", "300 training steps at 48 px", "8 steps", "guidance 2", "index"):
        assert words in report
    assert INFO.instructions[0] in report


def test_the_report_tells_how_a_pair_samples() -> None:
    how = {"sampler": "unipc", "cfg": 4.0, "cfg_low": 3.0, "negative": "static"}
    name = _write("told", replace(WAN, **how), **WAN_Q)
    report, _ = in_host(graphs_loader.load_wan, name)
    for words in ("uni_pc", "cfg 4, then 3 at low noise", "negative: static"):
        assert words in report


@pytest.mark.parametrize(("sampler", "said"), [("renoise", True), ("euler", False)])
def test_the_report_tells_of_a_lora_for_few_steps(sampler: str, said: bool) -> None:
    info = replace(INFO, sampler=sampler, sample_steps=4)
    report = in_host(graphs_loader.load, _write(f"few_{sampler}", info, **{Q: (192, 192)}))
    name = "lcm" if said else "euler"
    assert f"sample with 4 steps, {name}, simple, cfg 1" in report
    assert ("ByG Few Steps: a LoRA for few steps, which needs no turbo LoRA" in report) == said


def test_what_ships_for_the_examples_can_be_loaded() -> None:
    assert "modules matched" in in_host(graphs_loader.load, "ByG tiny world: demo")
    assert not [name for name in in_host(graphs_loader.names) if "warmup" in name]


# ---------------------------------------------------------------- what it refuses


def test_another_trainers_lora_belongs_elsewhere(lora: str) -> None:
    with pytest.raises(ValueError, match=r"ByG Loader: .*byg.version.*Load LoRA"):
        in_host(graphs_loader.load, "second.safetensors")


@pytest.mark.parametrize(("end", "value"), [("lora_A", torch.nan), ("lora_B", -torch.inf)])
def test_a_file_with_nan_is_refused_by_the_tensors_name(lora: str, end: str, value: float) -> None:
    path = comfy_host.loras() / lora
    with safe_open(path, "pt") as file:
        about = file.metadata()
    tensors = load_file(path)
    name = max(name for name in tensors if end in name)
    tensors[name].view(-1)[-1] = value
    save_file(tensors, path.with_name("nan.safetensors"), about)
    with pytest.raises(ValueError, match=rf"ByG Loader: .*nan.*{end}.*NaN or infinity") as caught:
        in_host(graphs_loader.load_warned, "nan.safetensors")
    assert name.split(".lora_")[0] in str(caught.value)


def test_other_names_of_modules_belong_elsewhere() -> None:
    path = comfy_host.loras() / "kohya.safetensors"
    save_file({"lora_unet_double_blocks_0_img_mod_lin.lora_down.weight": torch.ones(2, 2)}, path)
    with pytest.raises(ValueError, match=r"ByG Loader: .*lora_unet_.*Load LoRA"):
        in_host(graphs_loader.load, path.name)


def test_half_a_file(lora: str) -> None:
    whole = (comfy_host.loras() / lora).read_bytes()
    path = comfy_host.loras() / "half.safetensors"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"ByG Loader: .*half.* is no readable safetensors.*copy"):
        in_host(graphs_loader.load, path.name)


def test_a_pickle_by_another_name(tmp_path: Path) -> None:
    path = comfy_host.loras() / "pickle.safetensors"
    path.write_bytes(pickle.dumps({"transformer.x": [1.0] * 100}))
    with pytest.raises(ValueError, match=r"ByG Loader: .*pickle.* is no readable safetensors"):
        in_host(graphs_loader.load, path.name)


def test_a_file_that_is_gone() -> None:
    with pytest.raises(ValueError, match=r"ByG Loader: .*'gone.safetensors' is not in models"):
        in_host(graphs_loader.load, "gone.safetensors")


def test_a_lora_of_another_family(lora: str) -> None:
    name = _write("wan_on_flux", WAN, **WAN_Q)
    with pytest.raises(ValueError, match=r"ByG Loader: .*edits with Wan-AI.*the model is Flux"):
        in_host(graphs_loader.load, name)
    with pytest.raises(ValueError, match=r"ByG Loader: .*tiny world's.*the model is WAN21"):
        in_host(graphs_loader.load_wan, lora)


def test_a_second_model_of_another_family_or_size(lora: str) -> None:
    """Whatever stands in lora_low_name."""
    for expert in ("high", "low"):
        _write(f"two_{expert}_noise", replace(WAN, expert=expert), **WAN_Q)
    high = "two_high_noise.safetensors"
    for choice in ("auto pair", "same file", "single expert"):
        with pytest.raises(ValueError, match=r"ByG Loader: two_.*edits with Wan.*model is Flux"):
            in_host(graphs_loader.load_pair, high, choice, "flux")
        with pytest.raises(ValueError, match=r"ByG Loader: model_low: .*48 channels, .* 16"):
            in_host(graphs_loader.load_pair, high, choice, "5b")


def test_a_flux_that_takes_no_guidance(lora: str) -> None:
    with pytest.raises(ValueError, match=r"ByG Loader: .*lacks the guidance input"):
        in_host(graphs_loader.load_other_shape, "flux", lora, {"guidance_embed": False})
    name = _write("unguided", replace(INFO, guidance_sample=None), **{Q: (192, 192)})
    with pytest.raises(ValueError, match=r"ByG Loader: .*has the guidance input"):
        in_host(graphs_loader.load, name)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({Q: (192, 192), "transformer_blocks__99__attn__to_q": (192, 192)}, r"1 modules are unkn"),
        ({Q: (192, 192), "proj_out": (64, 3072)}, r"proj_out is 64 x 3072, the model has 32 x 192"),
        # A row too many would reach into the next part of the fused weight.
        ({Q: (193, 192), "proj_out": (32, 192)}, r"to_q is 193 x 192, the model has 192 x 192"),
    ],
)
def test_a_lora_that_does_not_fit(sizes: dict, words: str) -> None:
    name = _write("misfit", **sizes)
    with pytest.raises(ValueError, match=rf"ByG Loader: {name} does not fit.*{words}.*on_mismatch"):
        in_host(graphs_loader.load, name)


def test_what_does_not_fit_can_be_left_out() -> None:
    name = _write("partly", **{Q: (192, 192), "proj_out": (64, 3072)})
    report = in_host(graphs_loader.load_warned, name)
    assert "1 of 2 modules matched" in report and "WARNING" in report and "proj_out" in report


def test_positions_of_two_loras_must_agree(lora: str) -> None:
    other = _write("other_mode", replace(INFO, reference_mode="shared"), **{Q: (192, 192)})
    with pytest.raises(ValueError, match=r"ByG Loader: .*already carries.*'index'.*'shared'"):
        in_host(graphs_loader.load_twice, lora, other)
    same = _write("same_mode", INFO, **{Q: (192, 192)})
    assert in_host(graphs_loader.load_twice, same, same) == 2


# ---------------------------------------------------------------- pairs of Wan


def test_the_partner_of_a_pair_is_found() -> None:
    _write("clip_low_noise", replace(WAN, expert="low"), **WAN_Q)
    high = _write("clip_high_noise", replace(WAN, expert="high"), **WAN_Q)
    report, patched = in_host(graphs_loader.load_wan, high, True)
    assert "clip_high_noise.safetensors: 2 of 2" in report
    assert "clip_low_noise.safetensors: 2 of 2" in report
    assert patched == [2, 2]
    assert in_host(graphs_loader.load_wan, high, False)[1] == [2]


def test_a_pair_whose_partner_is_missing() -> None:
    alone = _write("alone_high_noise", replace(WAN, expert="high"), **WAN_Q)
    words = r"lora_low_name: .*no partner alone_low_noise.*'single expert'"
    with pytest.raises(ValueError, match=words):
        in_host(graphs_loader.load_wan, alone, True)


@pytest.mark.parametrize(("expert", "patched"), [("high", [2, 0]), ("low", [0, 2])])
def test_a_pair_with_one_trained_expert(expert: str, patched: list[int]) -> None:
    """Its file goes to its own model; the other has the schedule alone."""
    alone = _write(f"one_{expert}_noise", replace(WAN, expert=expert), **WAN_Q)
    graph = partial(graphs_loader.load_wan, lora_low_name="single expert")
    report, found = in_host(graph, alone, True)
    assert found == patched and report.count("modules matched") == 1
    assert "the other expert has no LoRA" in report
    pair = in_host(graphs_loader.shifts_and_positions, alone, "single expert")
    places = {"high": ["shared", None], "low": [None, "shared"]}[expert]
    assert pair == [(12.0, place) for place in places]
    assert "other expert" not in in_host(graph, alone, False)[0]


def test_one_trained_network_is_no_expert() -> None:
    graph = partial(graphs_loader.load_wan, lora_low_name="single expert")
    with pytest.raises(ValueError, match=r"lora_low_name: .*not trained for one expert.*same file"):
        in_host(graph, _write("no_expert", WAN, **WAN_Q), True)


def test_models_that_take_more_than_noise_are_refused(lora: str) -> None:
    """Their blocks have the sizes of the base's, so that all of the LoRA would match."""
    with pytest.raises(ValueError, match=r"ByG Loader: .*this Flux wants a picture or mask beside"):
        in_host(graphs_loader.load_other_shape, "flux", lora, {"in_channels": 96})
    name = _write("on_i2v", WAN, **WAN_Q)
    with pytest.raises(
        ValueError, match=r"ByG Loader: .*this WAN21 wants .*image-to-video.*Load W"
    ):
        in_host(graphs_loader.load_other_shape, "wan", name, {"in_dim": 36})


def test_one_file_serves_both_models() -> None:
    single = _write("single", WAN, **WAN_Q)
    assert in_host(graphs_loader.load_wan, single, True)[1] == [2, 2]


def test_swapped_experts_are_noticed() -> None:
    _write("swapped_low_noise", replace(WAN, expert="low"), **WAN_Q)
    _write("swapped_high_noise", replace(WAN, expert="high"), **WAN_Q)
    with pytest.raises(ValueError, match=r"ByG Loader: lora_name: .*low.*swap"):
        in_host(graphs_loader.load_wan, "swapped_low_noise.safetensors", True)


# ---------------------------------------------------------------- what it does to the model


def test_it_stacks_with_the_stock_loader_in_either_order(lora: str) -> None:
    before, behind, alone = in_host(graphs_loader.stacked, lora, IMAGE)
    assert (before - behind).abs().max() < 1e-5 * before.abs().max()
    assert (before - alone).abs().max() > 1e-2


def test_strength_zero_is_the_base_model(lora: str) -> None:
    none, base = in_host(graphs_loader.at_strength_zero, lora, IMAGE)
    assert torch.equal(none, base)


def test_schedulers_follow_the_training(lora: str) -> None:
    found = in_host(graphs_loader.schedules, lora)
    t = torch.linspace(1, 0, 5)
    shift = INFO.sample_shift
    wanted = shift * t / (shift * t + 1 - t)
    assert torch.allclose(found["as trained"], wanted, atol=1e-5)
    assert torch.equal(found["as the model is"], found["base"])
    assert not torch.allclose(found["base"], wanted, atol=1e-2)


def test_a_graph_without_a_source_is_refused(lora: str) -> None:
    with pytest.raises(ValueError, match=r"ByG Loader: no source picture reaches .*ByG Image Edit"):
        in_host(graphs_loader.without_source, lora)


def test_a_source_beyond_the_memory_is_refused(lora: str) -> None:
    assert in_host(graphs_loader.with_memory, lora, IMAGE, 1 << 40) is not None
    with pytest.raises(ValueError, match=r"ByG Loader: .* pixels with their source need.*megapix"):
        in_host(graphs_loader.with_memory, lora, IMAGE, 1 << 16)


def test_memory_that_runs_out_says_what_to_lower(lora: str) -> None:
    said = in_host(graphs_loader.out_of_memory, lora, IMAGE, 100)
    assert "ByG Loader" in said and "Allocation on device" in said and "megapixels" in said
    assert in_host(graphs_loader.out_of_memory, lora, IMAGE, 1 << 20) == ""


def test_a_file_that_changed_is_loaded_again(lora: str) -> None:
    path = comfy_host.loras() / "again.safetensors"
    path.write_bytes((comfy_host.loras() / lora).read_bytes())
    before = in_host(graphs_loader.fingerprint, path.name)
    assert in_host(graphs_loader.fingerprint, path.name) == before
    path.write_bytes(path.read_bytes() + b" ")
    assert in_host(graphs_loader.fingerprint, path.name) != before
