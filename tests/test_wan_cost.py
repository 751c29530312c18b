"""What a Wan costs, from its sizes: the numbers of a run at 320 x 576 x 81."""

from __future__ import annotations

import pytest
from tiny_wan import base, config

from byg_train.backbones.wan_files import token_counts
from byg_train.config import ModelConfig
from byg_train.cost import WAN_5B, WanNetwork, network

WAN = {"family": "wan", "reference_mode": "shared", "text_len": 512}
A14B = ModelConfig(path="Wan-AI/Wan2.2-T2V-A14B-Diffusers", **WAN)
SMALL = ModelConfig(path="Wan-AI/Wan2.2-TI2V-5B-Diffusers", **WAN)


def test_known_models() -> None:
    """Parameter counts from the models' cards; FLOPs by hand."""
    assert network(A14B) == WanNetwork() and network(SMALL) == WAN_5B
    assert network(A14B).parameters == pytest.approx(14.29e9, rel=2e-3)
    assert network(SMALL).parameters == pytest.approx(5.00e9, rel=2e-3)
    lengths = [
        network(m).sequence(*token_counts(m, 576, 320, 81), source=True) for m in (A14B, SMALL)
    ]
    assert lengths == [30_240, 7_560]
    forward = network(A14B).forward_flops(30_240)
    assert forward == pytest.approx(1472e12, rel=1e-3)
    assert network(A14B).forward_flops(15_120) / forward == pytest.approx(0.37, abs=0.005)


def test_sizes_come_from_a_folder() -> None:
    """The tiny pair, counted by hand and by its LoRA."""
    tiny = network(config(base()))
    assert (tiny.width, tiny.ffn, tiny.blocks, tiny.packed, tiny.networks) == (24, 32, 2, 16, 2)
    assert tiny.lora_parameters(4) == 2 * 2 * 4 * (8 * (24 + 24) + 2 * (24 + 32))
    assert network(config(base("one"))).networks == 1
