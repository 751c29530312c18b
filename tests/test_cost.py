"""The cost model against the algebra of Algorithm 1 and FLUX.1-dev's known sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from byg_train.config import TrainConfig, build_config
from byg_train.models.flux.network import FluxNetwork, download_size
from byg_train.models.networks import network
from byg_train.training.cost import compute, disk, memory, step_cost

FLUX = FluxNetwork()


def config(**sections: dict) -> TrainConfig:
    return build_config(sections)


@pytest.mark.parametrize(
    ("resolution", "tokens", "forward", "base_forward", "r"),
    [(512, 2560, 37.6, 21.5, 0.57), (768, 5120, 84.5, 41.9, 0.50), (1024, 8704, 165.4, 74.4, 0.45)],
)
def test_flux_forward(
    resolution: int, tokens: int, forward: float, base_forward: float, r: float
) -> None:
    """TFLOPs of one forward at the paper's tokens: 512 of text and two pictures."""
    image = (resolution // 16) ** 2
    cost = compute(config(), FLUX, text=512, image=image)
    assert 512 + 2 * image == tokens
    assert cost.forward / 1e12 == pytest.approx(forward, abs=0.05)
    assert cost.r * cost.forward / 1e12 == pytest.approx(base_forward, abs=0.05)
    assert cost.r == pytest.approx(r, abs=0.005)


def test_step_in_forwards() -> None:
    """19 + 4 r with checkpointing and 16 + 4 r without; identity and supervised steps 3 and 2."""
    kept = config(model={"gradient_checkpointing": False})
    for r in (0.45, 0.57, 1.0):
        assert step_cost(config(), r).full == pytest.approx(19 + 4 * r)
        assert step_cost(kept, r).full == pytest.approx(16 + 4 * r)
    assert step_cost(config(), 0.45).identity == step_cost(config(), 0.45).supervised == 3
    assert step_cost(kept, 0.45).identity == step_cost(kept, 0.45).supervised == 2
    assert step_cost(config(), 0.45).mean == pytest.approx(0.85 * 20.8 + 0.15 * 3)


def test_step_follows_the_settings() -> None:
    """Fewer rollout steps save just these; guidance in the prior doubles the base's share; without
    a weight for identity its pass is not taken."""
    default = step_cost(config(), 0.5).full
    assert default - step_cost(config(rollout={"steps": 4}), 0.5).full == pytest.approx(6)
    guided = step_cost(config(method={"prior_guidance": 3.0}), 0.5).full
    assert guided - default == pytest.approx(4 * 0.5)
    assert default - step_cost(config(method={"lambda_id": 0.0}), 0.5).full == pytest.approx(3)


def test_run_is_the_sum_of_its_steps() -> None:
    """Total FLOPs: mean steps after the warm-up's identity steps, a global batch each."""
    run = config(train={"steps": 7, "batch_size": 2, "global_batch": 6}, warmup={"min_steps": 5})
    cost = compute(run, FLUX, 512, 1024)
    assert cost.total == pytest.approx((7 * cost.step.mean + 5 * 3) * 6 * cost.forward)
    assert cost.seconds(400) == pytest.approx(cost.total / 400e12)


def test_flux_sizes() -> None:
    """11.9 billion weights; 261 million in a rank 64 LoRA on all projections."""
    assert FLUX.parameters == pytest.approx(11_901_408_320, rel=1e-3)
    assert FLUX.lora_parameters(64) == pytest.approx(261e6, rel=3e-3)


def test_flux_memory() -> None:
    """Weights 24 GB, adapter 4.2, EMA 1.05, boundaries 3.0 at 1024 px and 0.9 at 512; 35 in all."""
    large, small = (memory(config(), FLUX, 512, n, 256 * n) for n in (4096, 1024))
    assert large.weights / 1e9 == pytest.approx(23.8, abs=0.1)
    assert large.adapter / 1e9 == pytest.approx(4.2, abs=0.05)
    assert large.ema / 1e9 == pytest.approx(1.05, abs=0.01)
    assert large.activations / 1e9 == pytest.approx(3.05, abs=0.05)
    assert small.activations / 1e9 == pytest.approx(0.9, abs=0.05)
    assert large.step / 1e9 == pytest.approx(35, abs=1)


def test_memory_follows_the_settings() -> None:
    """No EMA costs nothing; batch scales activations alone; checkpointing trades them for time."""
    one = memory(config(), FLUX, 512, 1024, 512**2)
    none = memory(config(method={"ema_decay": None}), FLUX, 512, 1024, 512**2)
    assert one.total - none.total == one.ema > 0
    four = memory(config(train={"batch_size": 4}), FLUX, 512, 1024, 512**2)
    assert four.activations == 4 * one.activations
    assert four.weights == one.weights
    kept = memory(config(model={"gradient_checkpointing": False}), FLUX, 512, 1024, 512**2)
    assert kept.activations > 10 * one.activations


def test_the_largest_moment_counts() -> None:
    """Encoding texts comes before the weights; a validation and a step come one after the other."""
    need = memory(config(), FLUX, 512, 1024, 512**2)
    assert need.encoding / 1e9 == pytest.approx(9.5, abs=0.1)
    assert need.total == max(need.encoding, need.step, need.validation)
    assert need.total == need.step  # decoding one small picture takes less than a step
    many = memory(config(sample={"count": 100}), FLUX, 512, 1024, 512**2)
    assert many == need  # samples are decoded one by one
    assert memory(config(), FLUX, 512, 1024, 1024**2).decoding == 4 * need.decoding > 0
    small = need._replace(weights=1e6, adapter=0, ema=0, activations=0, working=0, decoding=0)
    assert small.total == need.encoding


def test_download_sizes() -> None:
    """FLUX.1-dev is about 34 GB on the hub, its parts without the transformer about 10."""
    name = "black-forest-labs/FLUX.1-dev"
    assert download_size(name, transformer=True) / 1e9 == pytest.approx(33.7, abs=0.3)
    assert download_size(name, transformer=False) / 1e9 == pytest.approx(9.9, abs=0.3)
    assert download_size("somebody/other", transformer=True) is None


def test_disk() -> None:
    """Float32 latents, bf16 embeddings, checkpoints of live, EMA and Adam, bf16 LoRA files."""
    run = config(train={"steps": 1000, "checkpoint_every": 250, "keep_checkpoints": 2})
    need = disk(run, FLUX, text=256, images=[1024, 960], texts=5)
    lora = FLUX.lora_parameters(64)
    assert need.cache == 4 * (1024 + 960) * 64 + 2 * 5 * 256 * 4096
    assert need.checkpoints == 4 * lora * 4 * 3
    assert need.lora_files == 2 * lora * 5


def test_sizes_come_from_the_model_folder(tmp_path: Path) -> None:
    """A local diffusers folder is read; anything else counts as FLUX.1-dev."""
    folder = tmp_path / "transformer"
    folder.mkdir()
    sizes = '"num_layers": 2, "num_single_layers": 8, "joint_attention_dim": 128, "in_channels": 32'
    heads = '"num_attention_heads": 3, "attention_head_dim": 64'
    (folder / "config.json").write_text(f"{{{sizes}, {heads}}}")
    assert network(config(model={"path": str(tmp_path)}).model) == FluxNetwork(192, 2, 8, 128, 32)
    assert network(config().model) == FLUX
    single = tmp_path / "flux.safetensors"
    single.touch()
    beside = {"path": str(single), "components": str(tmp_path)}
    assert network(config(model=beside).model) == FluxNetwork(192, 2, 8, 128, 32)
    t5 = '"vocab_size": 10, "d_model": 4, "num_layers": 2, "num_heads": 3, "d_kv": 2, "d_ff": 5'
    (tmp_path / "text_encoder_2").mkdir()
    (tmp_path / "text_encoder_2" / "config.json").write_text(f"{{{t5}}}")
    assert network(config(model=beside).model).encoder == 10 * 4 + 2 * (4 * 4 * 6 + 3 * 4 * 5)
