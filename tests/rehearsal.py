"""Steps and samplings of the real networks at real shapes, on a GPU that is not there.

A whole step takes minutes of all blocks, and blocks are alike: it is taken with FEW of each kind.
An identity step, which is one gradient pass, is taken with all.

    PYTHONPATH=. python tests/rehearsal.py [section.key=value ...]    prints bytes, kept and planned
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
from diffusers import FluxTransformer2DModel, WanTransformer3DModel, ZImageTransformer2DModel
from fake_gpu import GPU, Gpu, fake_gpu
from peft import inject_adapter_in_model
from torch import Tensor, nn

from byg_train.config import TrainConfig, build_config, load_preset, merged, parse_set
from byg_train.core.roles import EditBatch
from byg_train.editing.editor import Editor
from byg_train.models.backbone import Backbone, sent
from byg_train.models.configured_info import configured_info
from byg_train.models.flux.backbone import FluxBackbone
from byg_train.models.lora import LoraBank
from byg_train.models.wan.backbone import WanBackbone
from byg_train.models.wan.loading import Base
from byg_train.models.z_image.backbone import ZImageBackbone
from byg_train.training.assembly import RunParts, make_roles
from byg_train.training.cost import Memory, shapes
from byg_train.training.optimizer import build_optimizer
from byg_train.training.peak import peak_saved_bytes
from byg_train.training.plan import need
from byg_train.training.trainer import Trainer

# Blocks of each kind, and evaluations of a rollout and of a sampling.
FEW = 2
# transformer/config.json of black-forest-labs/FLUX.1-dev, Wan-AI/Wan2.2-T2V-A14B-Diffusers (of
# either expert) and Tongyi-MAI/Z-Image, as far as it names sizes.
FLUX = dict(
    patch_size=1, in_channels=64, num_layers=19, num_single_layers=38, attention_head_dim=128,
    num_attention_heads=24, joint_attention_dim=4096, pooled_projection_dim=768,
    guidance_embeds=True, axes_dims_rope=(16, 56, 56),
)  # fmt: skip
WAN = dict(
    patch_size=(1, 2, 2), num_attention_heads=40, attention_head_dim=128, in_channels=16,
    out_channels=16, text_dim=4096, freq_dim=256, ffn_dim=13_824, num_layers=40,
    cross_attn_norm=True, qk_norm="rms_norm_across_heads", eps=1e-6, rope_max_seq_len=1024,
)  # fmt: skip
Z_IMAGE = dict(
    all_patch_size=(2,), all_f_patch_size=(1,), in_channels=16, dim=3840, n_layers=30,
    n_refiner_layers=2, n_heads=30, n_kv_heads=30, norm_eps=1e-5, qk_norm=True, cap_feat_dim=2560,
    rope_theta=256.0, t_scale=1000.0, axes_dims=[32, 48, 48], axes_lens=[1536, 512, 512],
)  # fmt: skip
BOUNDARY = 0.875  # of Wan2.2-T2V-A14B's model_index.json


class Case(NamedTuple):
    """A preset at the shape of its items."""

    preset: str
    sizes: dict[str, Any]
    depth: tuple[str, ...]  # what counts blocks in them
    latents: tuple[int, int, int]  # frames, height, width
    text: dict[str, tuple[int, ...]]  # embeddings of one text


CASES = {
    "flux": Case(
        "flux_edit",
        FLUX,
        ("num_layers", "num_single_layers"),
        (1, 64, 64),
        {"prompt_embeds": (256, 4096), "pooled": (768,)},
    ),
    "wan": Case("wan22_style", WAN, ("num_layers",), (21, 40, 72), {"prompt_embeds": (512, 4096)}),
    "z_image": Case(
        "z_image_edit", Z_IMAGE, ("n_layers",), (1, 64, 64), {"prompt_embeds": (256, 2560)}
    ),
}


class Rehearsal(NamedTuple):
    """What a full step of two items and a sampling did."""

    step: Counter[str]  # waits of an optimiser step
    sampling: Counter[str]  # waits of a sampling of FEW evaluations
    products: Counter[torch.dtype]  # types of the step's matrix products
    attention: Counter[torch.dtype]  # and of what attends
    experts: set[str]  # that got gradients
    kept: int  # bytes that a step keeps for backward at once
    peak: int  # bytes on the GPU at most
    planned: Memory


class Vae(nn.Module):
    """What a backbone asks of a VAE that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Identity()
        self.config = SimpleNamespace(block_out_channels=[0] * 4, scale_factor_spatial=8)

    def enable_slicing(self) -> None:
        """As AutoencoderKLWan has it."""


def rehearse(name: str, *, whole: bool, **settings: dict[str, Any]) -> Rehearsal:
    """Take a step of a preset, with some of its sections' settings changed.

    Args:
        name: of a case.
        whole: an identity step with all blocks; else a full one with FEW, and a sampling.
        settings: tables of the configuration.
    """
    case = CASES[name]
    quick = {
        "model": {"dtype": "bfloat16"},
        "rollout": {"steps": FEW},
        "sample": {"steps": FEW},
        "method": {"identity_probability": float(whole)},
        "train": {"global_batch": 1 if whole else 2},
    }
    config = build_config(merged(merged(load_preset(case.preset), quick), settings))
    sizes = case.sizes if whole else case.sizes | dict.fromkeys(case.depth, FEW)

    def inject(*args: Any, low_cpu_mem_usage: bool) -> nn.Module:
        return inject_adapter_in_model(*args)  # peft's way to save memory knows no fake tensors

    inject_here = mock.patch("byg_train.models.lora.inject_adapter_in_model", inject)
    # By their types fake weights look like packed ones, which move in another way.
    plain = mock.patch("byg_train.models.wan.swapper.is_packed", lambda _: False)
    with fake_gpu() as mode, mode, inject_here, plain:
        backbone = _backbone(config, sizes)
        bank = LoraBank(backbone.experts, config.lora, config.method.ema_decay, config.seed)
        optimizer = build_optimizer(config, list(bank.named_parameters().values()))
        with Gpu() as gpu:
            backbone.drop_encoders()
            for weight in (*backbone.experts.parameters(), *backbone.experts.buffers()):
                gpu.note(weight)
            trainer = _trainer(case, config, backbone, bank, optimizer)
            return _taken(case, trainer, gpu, sample=not whole)


def _taken(case: Case, trainer: Trainer, gpu: Gpu, *, sample: bool) -> Rehearsal:
    backbone, config = trainer.backbone, trainer.config
    weights = (*backbone.experts.parameters(), *backbone.experts.buffers())
    gpu.waits.clear()
    kept = peak_saved_bytes(trainer.optimizer_step, weights)
    step, peak = gpu.waits.copy(), gpu.peak
    while sample and len(_trained(trainer)) < len(backbone.experts):
        trainer.optimizer_step()  # both experts have been drawn after some steps
    gpu.waits.clear()
    if sample:
        _sample(case, config, backbone, trainer.bank)
    planned = need(config, shapes(config, backbone.multiple, None))
    products, attention = gpu.products, gpu.attention
    return Rehearsal(step, gpu.waits, products, attention, _trained(trainer), kept, peak, planned)


def _trained(trainer: Trainer) -> set[str]:
    """The experts whose weights have moments."""
    state, weights = trainer.optimizer.state, trainer.bank.named_parameters()
    return {name.split(".")[0] for name, p in weights.items() if p in state}


def _sample(case: Case, config: TrainConfig, backbone: Backbone, bank: LoraBank) -> None:
    info = configured_info(config, backbone.multiple)
    text = {name: part[0] for name, part in _text(case, 1).items()}
    editor = Editor(backbone, bank, info, texts=SimpleNamespace(text=lambda _: text))
    x = sent(_latents(case, 1), GPU)
    y = editor.solve(x, editor.embedded([""], x), x)
    assert y.device == GPU and y.shape == x.shape and y.dtype == torch.float32


def _trainer(
    case: Case,
    config: TrainConfig,
    backbone: Backbone,
    bank: LoraBank,
    optimizer: torch.optim.Optimizer,
) -> Trainer:
    accelerator = SimpleNamespace(
        device=GPU,
        backward=lambda loss: loss.backward(),
        clip_grad_norm_=nn.utils.clip_grad_norm_,
        init_trackers=lambda _: None,
    )
    text = {name: part[0] for name, part in _text(case, 1).items()}
    roles = make_roles(config, backbone, bank, text)
    batch = EditBatch(_latents(case, config.items_at_once), *(_text(case, 1) for _ in range(4)))
    parts = RunParts(
        accelerator=accelerator,
        backbone=backbone,
        bank=bank,
        optimizer=optimizer,
        helper_optimizer=None,
        cache=None,
        batches=[batch] * 100,
        validator=None,
        roles=roles,
    )
    trainer = Trainer(config, None, Path(), parts)
    trainer.state.warmup = trainer.state.checked = 0
    return trainer


def _latents(case: Case, batch: int) -> Tensor:
    return torch.zeros(batch, 16, *case.latents)


def _text(case: Case, batch: int) -> dict[str, Tensor]:
    made = {k: torch.zeros(batch, *of, dtype=torch.bfloat16) for k, of in case.text.items()}
    if "pooled" not in made and made["prompt_embeds"].shape[1:] == (256, 2560):
        made["lengths"] = torch.full((batch,), 40)
    return made


# ---------------------------------------------------------------- networks


def _backbone(config: TrainConfig, sizes: dict[str, Any]) -> Backbone:
    model = config.model
    with (
        mock.patch("byg_train.models.picture_backbone.autoencoder", lambda *_: Vae()),
        mock.patch("byg_train.models.frozen.fingerprint", lambda *_: ""),
        mock.patch("byg_train.models.wan.backbone.autoencoder", lambda *_: Vae()),
    ):
        if model.family == "flux":
            network = _network(FluxTransformer2DModel, sizes)
            return FluxBackbone(model, Path(), lambda: network, str(GPU))
        if model.family == "z_image":
            network = _network(ZImageTransformer2DModel, sizes)
            return ZImageBackbone(model, Path(), lambda: network, str(GPU))
        pair = {expert: _network(WanTransformer3DModel, sizes) for expert in ("high", "low")}
        return WanBackbone(model, Base(Path(), lambda: pair, BOUNDARY), str(GPU))


def _network(kind: type[nn.Module], sizes: dict[str, Any]) -> nn.Module:
    """On the CPU in bfloat16; what diffusers keeps in float32 is float32."""
    made = kind(**sizes).to(torch.bfloat16)
    whole = kind._keep_in_fp32_modules or ()
    for name, module in made.named_modules():
        if any(part in name for part in whole):
            module.float()
    return made


def main(settings: list[str]) -> None:
    """Print the bytes of a gradient pass of every model on a GPU, and what is planned."""
    given: dict[str, Any] = {}
    for setting in settings:
        given = merged(given, parse_set(setting))
    for name in CASES:
        found = rehearse(name, whole=True, **given)
        planned = found.planned
        print(
            f"{name}: peak {found.peak / 1e9:.1f} GB (planned {planned.step / 1e9:.1f}), kept for "
            f"backward {found.kept / 1e9:.2f} GB (planned {planned.activations / 1e9:.2f})"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
