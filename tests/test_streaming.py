"""Bases whose blocks come as they are needed: the same gradients, and a LoRA that is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_flux
import tiny_wan
import torch
import torch.distributed as dist
from ranks import gradients as gradients_of
from ranks import launch
from runs import metrics
from safetensors.torch import load_file
from states import same
from tiny_run import run, settings
from torch import Tensor, nn

from byg_train.config import ConfigError, build_config
from byg_train.config.methods import BygConfig
from byg_train.core.schedule import Draw
from byg_train.models import streaming
from byg_train.models.backbone import Backbone
from byg_train.models.lora import LoraBank
from byg_train.models.lora_forward import without_merged_weights
from byg_train.objectives.byg import staged_step
from byg_train.training.checkpoint import checkpoints, load_checkpoint
from byg_train.training.checks import check_machine

METHOD = BygConfig(lambda_cycle=0.7, lambda_prior=1.3, lambda_id=0.4, alpha=0.5)
WAYS = {
    "all kept": {},
    "checkpointed": {"gradient_checkpointing": True},
    "boundaries on the CPU": {"gradient_checkpointing": True, "boundaries_on_cpu": True},
    "half checkpointed": {"gradient_checkpointing": True, "checkpointed_blocks": 0.5},
    "attention kept": {"gradient_checkpointing": True, "keep_attention": True},
    "bfloat16": {"gradient_checkpointing": True, "dtype": "bfloat16"},
    "bfloat16 throughout": {"dtype": "bfloat16", "autocast": False},
}
FAMILIES = {
    "flux": (tiny_flux, [tiny_flux.T]),
    "wan": (tiny_wan, [tiny_wan.HIGH, tiny_wan.LOW, tiny_wan.HIGH]),
}


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """No process group outlives its test."""
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def placed(family: str, path: Path, placement: str, **way: object) -> tuple[Backbone, LoraBank]:
    tiny = FAMILIES[family][0]
    backbone = tiny.load(path, **way)
    bank = tiny.make_bank(backbone)
    tiny.randomise(bank)
    without_merged_weights(backbone.experts)
    streaming.place(backbone, bank, placement, torch.device("cpu"))
    return backbone, bank


def step_gradients(family: str, backbone: Backbone, bank: LoraBank) -> list[Tensor]:
    """Of staged steps whose rollouts and gradients ask one expert, the other, and the first."""
    tiny, spans = FAMILIES[family]

    def velocity(*given: object) -> Tensor:
        return backbone.velocity(*given, **({"guidance": 2.0} if family == "flux" else {}))

    def backward(loss: Tensor, stage: str) -> float:
        loss.backward()
        return 1.0

    roles = bank.roles(velocity, velocity)
    for t in spans:
        draw = Draw(tiny.latents(9), t, torch.tensor([1.0, 0.9, 0.5, 0.0]))
        staged_step(roles, tiny.edit_batch(), draw, METHOD, backward)
    return [weight.grad for weight in bank.named_parameters().values()]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("way", WAYS)
def test_gradients_are_those_of_a_whole_base(family: str, way: str, tiny_base: Path) -> None:
    path = tiny_base if family == "flux" else tiny_wan.base()
    wanted = step_gradients(family, *placed(family, path, "whole", **WAYS[way]))
    backbone, bank = placed(family, path, "streamed", **WAYS[way])
    found = step_gradients(family, backbone, bank)
    assert len(found) == len(wanted) > 20
    for a, b in zip(found, wanted, strict=True):
        assert torch.equal(a, b) and b.norm() > 0
    for name, weight in backbone.experts.named_parameters():
        plain = type(weight) is nn.Parameter
        assert plain == ("lora_" in name), name  # after the step all blocks are away again
    if family == "wan":
        assert backbone.swaps == 0


@pytest.mark.slow
def test_a_run_is_the_same_streamed(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    """LoRA, EMA, moments, what is logged and seen."""
    runs = {}
    for placement in ("whole", "streamed"):
        over = {"model": {"placement": placement, "gradient_checkpointing": True}}
        # The merged weights of a small network on a CPU are another rounding.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("byg_train.models.lora.use_merged_weights", lambda layers: None)
            runs[placement] = run(
                settings(tiny_base, tiny_data, over), tmp_path / placement / "run"
            )
    a, b = (load_file(file) for file in runs.values())
    assert all(torch.equal(a[key], b[key]) for key in a)
    states = [
        load_checkpoint(checkpoints(file.parent / "checkpoints")[-1]) for file in runs.values()
    ]
    assert same(*states)
    seen = [[m for m in metrics(f.parent) if m["kind"] == "validation"] for f in runs.values()]
    assert seen[0] == seen[1] and len(seen[0]) == 3
    assert all((f.parent / "samples" / "step-000004.png").exists() for f in runs.values())


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize(
    "more", [{}, {"stop": [[1, 7]]}, {"slow": [[1, "loading"], [0, "checkpoint"]]}]
)
def test_two_processes_share_a_base(
    more: dict, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """The same gradients, steps, samples; a stop of one is one of both, though forwards wait.

    Nor do they wait for what takes one of them long.
    """
    cut = {
        "warmup": {"min_steps": 1, "max_steps": 1},
        "train": {"steps": 2, "batch_size": 1, "sample_every": 2, "check_gradients_every": 9},
    }
    for processes, placement in ((0, "whole"), (2, "sharded")):
        config = settings(tiny_base, tiny_data, {**cut, "model": {"placement": placement}})
        own = more if processes else {}
        done = launch(processes, config, tmp_path / placement, 8, exact=False, **own)
        if "stop" in own:
            assert "stopped at step" in done.stdout, done.stderr
            done = launch(processes, config, tmp_path / placement, 8, exact=False, resume=True)
        assert done.returncode == 0, done.stderr
    found, wanted = (gradients_of(tmp_path / placement) for placement in ("sharded", "whole"))
    assert len(found) == len(wanted) == 3
    for name, g in wanted[0].items():  # later ones follow Adam's, which magnifies roundings
        assert (found[0][name] - g).norm() <= 1e-4 * g.norm(), name
    assert (tmp_path / "sharded" / "samples" / "step-000003.png").exists()


@pytest.mark.parametrize("storage", ["fp8", "int8", "nf4"])
@pytest.mark.parametrize("placement", ["streamed", "sharded"])
def test_other_storage_is_refused(placement: str, storage: str) -> None:
    with pytest.raises(ConfigError, match=f"{placement}.*storage '{storage}'.*storage=bf16"):
        build_config({"model": {"placement": placement, "storage": storage}})


def test_an_old_pytorch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.fsdp.fully_shard", lambda module, *, mesh=None: module)
    with pytest.raises(ConfigError, match=r"placement=streamed needs PyTorch 2\.7 or later"):
        check_machine(build_config({"model": {"placement": "streamed"}}))


def test_one_process_cannot_share() -> None:
    with pytest.raises(ConfigError, match="sharded needs several processes.*streamed for one"):
        check_machine(build_config({"model": {"placement": "sharded"}}))
