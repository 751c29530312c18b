"""Bases in 8 and 4 bits: gradients of weights rounded once, every role, whole runs, edits."""

from __future__ import annotations

import importlib.util
import shutil
from functools import partial
from pathlib import Path

import pytest
import tiny_flux
import tiny_wan
import torch
from diffusers import FluxTransformer2DModel, WanTransformer3DModel
from runs import stop_after
from states import same
from tiny_run import run as train_whole
from tiny_run import settings
from torch import Tensor, nn

from byg_train.config import ConfigError, TrainConfig, build_config
from byg_train.config.methods import BygConfig
from byg_train.core.roles import Roles
from byg_train.core.schedule import Draw, time_grid
from byg_train.editing.opening import open_lora
from byg_train.models.backbone import Backbone
from byg_train.models.lora import LoraBank
from byg_train.models.storage import PACKAGES, is_plain, require_storage
from byg_train.objectives.byg import staged_step
from byg_train.training.checkpoint import checkpoints, load_checkpoint
from byg_train.training.stopping import Interrupted

KINDS = [
    pytest.param(
        kind,
        marks=pytest.mark.skipif(
            kind in PACKAGES and importlib.util.find_spec(PACKAGES[kind]) is None,
            reason="the extra `lowvram` is not installed",
        ),
    )
    for kind in ("fp8", "int8", "nf4")
]
# Rms error of normal weights, as a share of their deviation: of e4m3, rows of int8, nf4.
ERRORS = {"fp8": (0.015, 0.04), "int8": (0.002, 0.012), "nf4": (0.06, 0.12)}
METHOD = BygConfig(lambda_cycle=0.7, lambda_prior=1.3, lambda_id=0.4, alpha=0.5)


def values(weight: Tensor) -> Tensor:
    """What a stored weight means."""
    if hasattr(weight, "quant_state"):
        from bitsandbytes.functional import dequantize_4bit

        return dequantize_4bit(weight.data, weight.quant_state).float()
    return weight.dequantize() if hasattr(weight, "qdata") else weight.float()


def block_linears(network: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers inside the repeated blocks; of one with a LoRA, the frozen ones."""
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and "blocks." in name and "lora_" not in name:
            found[name.replace(".base_layer", "")] = module
    return found


@pytest.fixture(scope="session")
def wide(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny bases with transformers whose rows are whole blocks of nf4."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("wide")
    networks = {
        "flux/transformer": FluxTransformer2DModel(
            patch_size=1, in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=16,
            num_attention_heads=4, joint_attention_dim=24, pooled_projection_dim=24,
            guidance_embeds=True, axes_dims_rope=(4, 6, 6),
        )
    }  # fmt: skip
    for part in ("transformer", "transformer_2"):
        networks[f"wan/{part}"] = WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=32, in_channels=4, out_channels=4,
            text_dim=24, freq_dim=16, ffn_dim=128, num_layers=2,
        )  # fmt: skip
    shutil.copytree(tiny_base, folder / "flux")
    shutil.copytree(tiny_wan.base(), folder / "wan")
    for name, network in networks.items():
        for p in network.parameters():
            if p.ndim > 1 and p.shape[0] > 1:
                nn.init.normal_(p, std=p[0].numel() ** -0.5)
        shutil.rmtree(folder / name)
        network.save_pretrained(folder / name)
    return {family: folder / family for family in ("flux", "wan")}


def flux(bases: dict[str, Path], **changes: object) -> tuple[Backbone, LoraBank, Roles]:
    backbone = tiny_flux.load(bases["flux"], **changes)
    bank = tiny_flux.make_bank(backbone)
    tiny_flux.randomise(bank)
    return backbone, bank, tiny_flux.make_roles(backbone, bank)


def wan(bases: dict[str, Path], **changes: object) -> tuple[Backbone, LoraBank, Roles]:
    backbone = tiny_wan.load(bases["wan"], **changes)
    bank = tiny_wan.make_bank(backbone)
    tiny_wan.randomise(bank)
    velocity = partial(backbone.velocity)
    return backbone, bank, bank.roles(velocity, velocity)


FAMILIES = {"flux": (flux, tiny_flux, tiny_flux.T), "wan": (wan, tiny_wan, tiny_wan.HIGH)}


def step_gradients(family: str, bank: LoraBank, roles: Roles) -> list[Tensor]:
    """Of a whole staged step: five forwards of the EMA's and the base's, and three backwards."""
    _, tiny, t = FAMILIES[family]
    batch = tiny.edit_batch()
    grid = time_grid(1, 1.0) if family == "flux" else torch.tensor([1.0, 0.9])
    draw = Draw(tiny.latents(9), t, grid)

    def backward(loss: Tensor, stage: str) -> float:
        loss.backward()
        return 1.0

    staged_step(roles, batch, draw, METHOD, backward)
    weights = bank.named_parameters().values()
    grads = [p.grad for p in weights if p.grad is not None]
    for p in weights:
        p.grad = None
    return grads


def whole_and_resumed(
    config: TrainConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path, Path]:
    """The LoRA of a run, and the last checkpoints of it and of one that was stopped and resumed."""
    for name in ("whole", "parts"):
        (folder / name).mkdir()
    whole = train_whole(config, folder / "whole" / "run")
    stop_after(monkeypatch, 3)
    parts = folder / "parts" / "run"
    with pytest.raises(Interrupted):
        train_whole(config, parts)
    train_whole(config, parts, resume=True)
    return whole, *(checkpoints(run / "checkpoints")[-1] for run in (whole.parent, parts))


def distance(some: list[Tensor], others: list[Tensor]) -> float:
    pairs = zip(some, others, strict=True)
    return max(((a - b).norm() / b.norm()).item() for a, b in pairs)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_weights_that_were_rounded_once(
    kind: str, family: str, checkpointing: bool, wide: dict[str, Path]
) -> None:
    make = FAMILIES[family][0]
    backbone, bank, roles = make(wide, storage=kind, gradient_checkpointing=checkpointing)
    plain, plain_bank, plain_roles = make(wide)
    unrounded = step_gradients(family, plain_bank, plain_roles)
    for name, network in backbone.experts.items():
        stored, own = block_linears(network), block_linears(plain.experts[name])
        assert stored.keys() == own.keys() and stored
        for key, linear in stored.items():
            rounded = values(linear.weight)
            assert not is_plain(linear.weight), key
            error = (rounded - own[key].weight).std() / own[key].weight.std()
            assert ERRORS[kind][0] < error < ERRORS[kind][1]
            own[key].weight.data = rounded
            if linear.bias is not None:
                own[key].bias.data = linear.bias.data.float()
    for layer in (m for m in plain.experts.modules() if hasattr(m.forward, "merged")):
        layer.forward.merged.clear()
    before = {n: p.dtype for n, p in backbone.experts.named_parameters()}
    got = step_gradients(family, bank, roles)
    wanted = step_gradients(family, plain_bank, plain_roles)
    assert distance(got, wanted) < 2e-4 < 10 * distance(unrounded, wanted)
    # Again, after roles have changed: nothing was repacked or left in another type.
    assert distance(step_gradients(family, bank, roles), got) < 1e-6
    assert {n: p.dtype for n, p in backbone.experts.named_parameters()} == before
    for network in backbone.experts.values():
        assert not any(is_plain(linear.weight) for linear in block_linears(network).values())
    assert {p.dtype for p in bank.named_parameters().values()} == {torch.float32}


@pytest.mark.parametrize("kind", KINDS)
def test_what_embeds_and_ends_stays_as_it_was(kind: str, wide: dict[str, Path]) -> None:
    backbone, plain = (tiny_flux.load(wide["flux"], storage=k) for k in (kind, "bf16"))
    outside = {n: p for n, p in plain.experts.named_parameters() if "blocks." not in n}
    own = dict(backbone.experts.named_parameters())
    assert len(outside) > 10
    assert all(torch.equal(own[name], p) for name, p in outside.items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_it_is_as_near_as_bfloat16_is(kind: str, wide: dict[str, Path]) -> None:
    low, _, _ = flux(wide, storage=kind, dtype="bfloat16")
    high, _, _ = flux(wide, storage=kind)
    plain = [flux(wide, dtype=dtype)[0] for dtype in ("bfloat16", "float32")]
    got, wanted, bf16, exact = (tiny_flux.velocity(b) for b in (low, high, *plain))
    assert distance([got], [wanted]) < 4 * distance([bf16], [exact])
    assert not torch.equal(got, bf16)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_runs_resume_exactly_and_their_loras_edit(
    kind: str,
    wide: dict[str, Path],
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = wide["flux"]
    over = {"model": {"storage": kind, "gradient_checkpointing": True}, "train": {"steps": 2}}
    config = settings(base, tiny_data, over)
    whole, *newest = whole_and_resumed(config, tmp_path, monkeypatch)
    assert same(*map(load_checkpoint, newest))
    edits = []
    for storage in (kind, "bf16"):
        editor = open_lora(whole, str(base), storage=storage).load("cpu")
        edits.append(editor.sample(tiny_flux.latents(1, 1), ["paint it"], tiny_flux.latents(2, 1)))
        assert edits[-1].isfinite().all()
    assert not torch.equal(*edits)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["bf16", "nf4"])
def test_moments_in_8_bits_resume_exactly(
    storage: str, wide: dict[str, Path], tiny_data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The package's own optimiser; smaller weights than these keep moments of 32 bits."""
    pytest.importorskip("bitsandbytes")
    over = {"optimizer": {"name": "adamw8bit"}, "lora": {"rank": 64}, "train": {"steps": 2}}
    config = settings(wide["flux"], tiny_data, {**over, "model": {"storage": storage}})
    _, *newest = whole_and_resumed(config, tmp_path, monkeypatch)
    states = [load_checkpoint(path) for path in newest]
    assert any(
        isinstance(part, Tensor) and part.dtype == torch.uint8
        for moments in states[0]["optimizer"].values()
        for part in leaves(moments)
    )
    assert same(*states)


def leaves(table: object) -> list[object]:
    """What lies in dicts of any depth."""
    if isinstance(table, dict):
        return [leaf for part in table.values() for leaf in leaves(part)]
    return [table]


@pytest.mark.parametrize("kind", PACKAGES)
def test_a_package_that_is_not_there_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    wanted = (
        rf"model.storage={kind} needs the {PACKAGES[kind]} package.*pip install {PACKAGES[kind]}"
    )
    with pytest.raises(ConfigError, match=wanted):
        require_storage(kind)


def test_settings_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="storage fp8 changes the type.*compile"):
        build_config({"model": {"storage": "fp8", "compile": True}})
    with pytest.raises(ConfigError, match="model.storage.*'int4'"):
        build_config({"model": {"storage": "int4"}})


def test_inputs_of_loras_are_not_copied_to_float32(wide: dict[str, Path]) -> None:
    """Autocast rounds to bfloat16 either way, so nothing is lost: bit for bit the same."""
    results, casts = [], []
    for copied in (True, False):
        backbone, bank, _ = flux(wide, dtype="bfloat16")
        for layer in (m for m in backbone.experts.modules() if hasattr(m.forward, "plain")):
            layer.forward = layer.forward.plain  # peft's own, as on a GPU
            assert layer.cast_input_dtype_enabled is False
            layer.cast_input_dtype_enabled = copied
            layer.lora_A["edit"].register_forward_pre_hook(lambda _, x: casts.append(x[0].dtype))
        source = tiny_flux.latents(7).requires_grad_()
        v = backbone.velocity(
            tiny_flux.latents(1), tiny_flux.T, tiny_flux.text(2), source, guidance=2.0
        )
        v.square().sum().backward()
        grads = [p.grad for p in bank.named_parameters().values()]
        results.append([v.detach(), source.grad, *grads])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    half = len(casts) // 2
    assert set(casts[:half]) == {torch.float32} and torch.bfloat16 in casts[half:]


def test_the_transformer_of_the_tests_has_blocks() -> None:
    """The rule of what is stored: lists of blocks right below the network."""
    with torch.device("meta"):
        network = FluxTransformer2DModel(num_layers=1, num_single_layers=1)
    lists = [name for name, child in network.named_children() if isinstance(child, nn.ModuleList)]
    assert lists == ["transformer_blocks", "single_transformer_blocks"]
