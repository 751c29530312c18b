"""What a Wan costs, from its sizes: the numbers of a run at 320 x 576 x 81."""

from __future__ import annotations

import pytest
from tiny_wan import base, config

from byg_train.config import ModelConfig, TrainConfig, build_config, load_preset, merged
from byg_train.models.networks import network
from byg_train.models.wan.files import token_counts
from byg_train.models.wan.network import WAN_1_3B, WAN_5B, WanNetwork
from byg_train.training.cost import compute, disk, memory, trained_experts, validation_cost

WAN = {"family": "wan", "reference_mode": "shared", "text_len": 512}
A14B = ModelConfig(path="Wan-AI/Wan2.2-T2V-A14B-Diffusers", **WAN)
SMALL = ModelConfig(path="Wan-AI/Wan2.2-TI2V-5B-Diffusers", **WAN)


def test_known_models() -> None:
    """Parameter counts from the models' cards; FLOPs by hand."""
    assert network(A14B) == WanNetwork() and network(SMALL) == WAN_5B
    for path in ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "/m/wan2.1_t2v_1.3B_fp16.safetensors"):
        assert network(ModelConfig(path=path, **WAN)) == WAN_1_3B
    assert WAN_1_3B.parameters == pytest.approx(1.42e9, rel=5e-3)
    assert network(A14B).parameters == pytest.approx(14.29e9, rel=2e-3)
    assert network(SMALL).parameters == pytest.approx(5.00e9, rel=2e-3)
    lengths = [
        network(m).sequence(*token_counts(m, 576, 320, 81), source=True) for m in (A14B, SMALL)
    ]
    assert lengths == [30_240, 7_560]
    forward = network(A14B).forward_flops(30_240)
    assert forward == pytest.approx(1472e12, rel=1e-3)
    assert network(A14B).forward_flops(15_120) / forward == pytest.approx(0.37, abs=0.005)


def preset(name: str, **over: object) -> TrainConfig:
    return build_config(merged(load_preset(name), over))


def test_one_clip_in_forwards() -> None:
    """n = 10 rollout steps, three gradient passes of 3 F, four forwards of the base (r F)."""
    text, image = token_counts(A14B, 576, 320, 81)
    found = compute(preset("wan22_style"), WanNetwork(), text, image)
    assert found.r == pytest.approx(0.373, abs=1e-3)
    assert found.step.full == pytest.approx(10 + 9 + 4 * found.r)
    assert found.step.mean == pytest.approx(0.9 * found.step.full + 0.1 * 3)
    assert found.total / found.forward == pytest.approx(8 * (750 * found.step.mean + 200 * 3))


def test_one_expert_alone_takes_half_of_the_adapter() -> None:
    """One of two networks is on the device, both wait in main memory, also where one trains."""
    both, high = (preset("wan22_style", train={"expert": e}) for e in ("both", "high"))
    assert trained_experts(both) == ["high", "low"] and trained_experts(high) == ["high"]
    small = preset("wan22_5b_style")
    assert trained_experts(small) == ["transformer"]
    assert trained_experts(preset("wan22_5b_style", train={"expert": "low"})) == []
    net, pixels = WanNetwork(), 320 * 576
    two, one = (memory(c, net, 512, 15_120, pixels) for c in (both, high))
    assert two.adapter == 2 * one.adapter == net.lora_parameters(64) * 16
    assert two.host == one.host == 2 * 2 * net.parameters
    assert two.weights == 2 * net.parameters and two.ema == 0
    assert memory(small, WAN_5B, 512, 3780, pixels).host == 0
    assert two.decoding == pixels * (20_000 + 2 * 3 * 4 * 81)  # two copies of the film
    slow = preset("wan22_style", method={"ema_decay": 0.99})
    assert memory(slow, net, 512, 15_120, pixels).ema == 4 * net.lora_parameters(64)
    files = [disk(c, net, 512, [15_120], 5).lora_files for c in (both, high)]
    assert files[0] == 2 * files[1] == 2 * net.lora_parameters(64) * 16


def test_a_look_in_forwards() -> None:
    """Two edits of 40 steps, twice each with guidance; the rollout, its guess, two measures.

    The second is of 16 rows: 8 for each of two items, 4 for each of four.
    """
    assert validation_cost(preset("wan22_style")) == 2 * 40 * 2 + 10 + 2 + 8
    plain = preset("wan22_style", sample={"cfg": 1.0, "cfg_low": None})
    assert validation_cost(plain) == 2 * 40 + 10 + 2 + 8
    assert validation_cost(preset("flux_edit")) == 2 * 20 + 10 + 2 + 4


def test_sizes_come_from_a_folder() -> None:
    """The tiny pair, counted by hand and by its LoRA."""
    tiny = network(config(base()))
    assert (tiny.width, tiny.ffn, tiny.blocks, tiny.packed, tiny.networks) == (24, 32, 2, 16, 2)
    assert tiny.lora_parameters(4) == 2 * 2 * 4 * (8 * (24 + 24) + 2 * (24 + 32))
    assert network(config(base("one"))).networks == 1
