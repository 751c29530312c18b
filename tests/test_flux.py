"""The FLUX backbone against diffusers' own pipeline, by hand-built calls and closed forms."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from safetensors.torch import load_file, save_file
from tiny_flux import HEIGHT, TEXT_LEN, WIDTH, T, exact_rotary, latents, load, text
from torch import Tensor, nn

from byg_train.config import ConfigError
from byg_train.core.flow import integrate
from byg_train.core.schedule import time_grid
from byg_train.models.flux.record import sampling_shift

WORDS = ["a red fox on a blue ground", "an owl on a green ground", "change the ground to red"]
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def pipeline(tiny_base: Path) -> FluxPipeline:
    pipe = FluxPipeline.from_pretrained(tiny_base)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _direct(model: nn.Module, tokens: Tensor, e: dict[str, Tensor], ids: list[list[int]]) -> Tensor:
    """A transformer call with every argument written out."""
    return model(
        hidden_states=tokens, timestep=T, guidance=torch.tensor([3.5, 3.5]),
        pooled_projections=e["pooled"], encoder_hidden_states=e["prompt_embeds"],
        img_ids=torch.tensor(ids).float(), txt_ids=torch.zeros(TEXT_LEN, 3), return_dict=False,
    )[0]  # fmt: skip


def _packed(x: Tensor) -> Tensor:
    return FluxPipeline._pack_latents(x[:, :, 0], 2, 4, 6, 4)


def _unpacked(tokens: Tensor) -> Tensor:
    return FluxPipeline._unpack_latents(tokens, HEIGHT, WIDTH, 4)[:, :, None]


IDS = [[0, row, column] for row in range(3) for column in range(2)]


def test_velocity_without_a_source_is_a_plain_transformer_call(tiny_base: Path) -> None:
    backbone, x, e = load(tiny_base), latents(1), text(2)
    v = backbone.velocity(x, T, e, guidance=3.5)
    wanted = _unpacked(_direct(backbone.experts["transformer"], _packed(x), e, IDS))
    assert v.dtype == torch.float32
    assert torch.equal(v, wanted)
    assert not torch.allclose(v, backbone.velocity(x, T, e, guidance=1.0), atol=1e-4)


@pytest.mark.parametrize(("mode", "first"), [("index", 1), ("shared", 0)])
def test_velocity_with_a_source_is_a_hand_built_call(
    tiny_base: Path, mode: str, first: int
) -> None:
    backbone, x, y, e = load(tiny_base, reference_mode=mode), latents(1), latents(7), text(2)
    v = backbone.velocity(x, T, e, y, guidance=3.5)
    ids = [*IDS, *([first, row, column] for _, row, column in IDS)]
    tokens = torch.cat([_packed(x), _packed(y)], dim=1)
    wanted = _unpacked(_direct(backbone.experts["transformer"], tokens, e, ids)[:, :6])
    assert torch.equal(v, wanted)
    without = backbone.velocity(x, T, e, guidance=3.5)
    assert (v - without).abs().max() > 1e-3
    other = load(tiny_base, reference_mode={"index": "shared", "shared": "index"}[mode])
    assert (v - other.velocity(x, T, e, y, guidance=3.5)).abs().max() > 1e-3


def test_velocity_is_differentiable_in_target_and_source(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact_rotary(monkeypatch)
    backbone = load(tiny_base)
    backbone.experts.double()
    e, t = text(2, 1, torch.float64), T[:1].double()
    x, y = (latents(s, 1, torch.float64).requires_grad_() for s in (1, 7))

    def velocity(x: Tensor, y: Tensor) -> Tensor:
        return backbone.velocity(x, t, e, y, guidance=3.5)

    assert velocity(x, y).dtype == torch.float64
    assert torch.autograd.gradcheck(velocity, (x, y), fast_mode=True)


def test_bf16_runs_over_float32_inputs(tiny_base: Path) -> None:
    full, half, x, e = load(tiny_base), load(tiny_base, dtype="bfloat16"), latents(1), text(2)
    assert half.experts["transformer"].x_embedder.weight.dtype == torch.bfloat16
    # diffusers rounds 1000 t to the type of the tokens, as FluxPipeline does in bf16.
    t = torch.tensor([0.7312, 0.1234])
    seen = (t.bfloat16() * 1000).float() / 1000
    v = full.velocity(x, seen, e, latents(7), guidance=4.0)
    w = half.velocity(x, t, e, latents(7), guidance=4.0)
    assert w.dtype == torch.float32
    assert 1e-4 < (v - w).norm() / v.norm() < 0.05


def test_only_images_of_even_latents(tiny_base: Path) -> None:
    backbone = load(tiny_base)
    clip = torch.zeros(2, 4, 2, 6, 4)
    calls = [
        lambda: backbone.velocity(clip, T, text(2), guidance=1.0),
        lambda: backbone.velocity(latents(1), T, text(2), clip, guidance=1.0),
        lambda: backbone.encode_pixels(torch.zeros(1, 3, 5, 16, 16)),
        lambda: backbone.decode_latents(clip),
        lambda: backbone.velocity(torch.zeros(2, 4, 1, 5, 4), T, text(2), guidance=1.0),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="FLUX"):
            call()


def test_a_guidance_embedding_needs_a_number(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="guidance.train"):
        load(tiny_base).velocity(latents(1), T, text(2))
    plain = shutil.copytree(tiny_base, tmp_path / "plain")
    weights = load_file(plain / WEIGHTS)
    save_file({k: v for k, v in weights.items() if "guidance" not in k}, plain / WEIGHTS)
    changed = (
        (plain / "transformer/config.json")
        .read_text()
        .replace('"guidance_embeds": true', '"guidance_embeds": false')
    )
    (plain / "transformer/config.json").write_text(changed)
    backbone = load(plain)
    v = [backbone.velocity(latents(1), T, text(2), guidance=g) for g in (None, 2.0)]
    assert torch.equal(*v)


def test_encode_and_decode_are_the_pipelines(tiny_base: Path, pipeline: FluxPipeline) -> None:
    backbone = load(tiny_base)
    pixels = torch.rand(2, 3, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(3)) * 2 - 1
    z = backbone.encode_pixels(pixels)
    with torch.no_grad():
        mean = pipeline.vae.encode(pixels[:, :, 0]).latent_dist.mean
        wanted = pipeline.vae.decode(mean).sample
    assert z.shape == (2, 4, 1, 6, 4)
    torch.testing.assert_close(z[:, :, 0], (mean - 0.2) * 1.3)
    torch.testing.assert_close(backbone.decode_latents(z)[:, :, 0], wanted)
    assert torch.equal(z, backbone.encode_pixels(pixels))


def test_encoded_text_is_the_pipelines(tiny_base: Path, pipeline: FluxPipeline) -> None:
    backbone = load(tiny_base)
    texts = [*WORDS, "", "a red fox on a blue ground on a blue ground"]
    e = backbone.encode_text(texts)
    with torch.no_grad():
        embeds, pooled, _ = pipeline.encode_prompt(texts, max_sequence_length=TEXT_LEN)
    assert torch.equal(e["prompt_embeds"], embeds)
    assert torch.equal(e["pooled"], pooled)
    backbone.drop_encoders()
    assert torch.equal(backbone.encode_text(texts)["pooled"], pooled)


@pytest.mark.parametrize("dynamic", [False, True])
def test_sampling_is_the_pipelines(tiny_base: Path, dynamic: bool) -> None:
    pipe = FluxPipeline.from_pretrained(tiny_base)
    pipe.set_progress_bar_config(disable=True)
    if dynamic:  # FLUX.1-dev's scheduler
        pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    backbone, eps = load(tiny_base), latents(1)
    e = backbone.encode_text(WORDS[:2])
    image = pipe(
        prompt=WORDS[:2], height=HEIGHT, width=WIDTH, num_inference_steps=5, guidance_scale=2.5,
        latents=_packed(eps), max_sequence_length=TEXT_LEN, output_type="pt",
    ).images  # fmt: skip
    grid = time_grid(5, sampling_shift(6) if dynamic else 1.0)
    with torch.no_grad():
        y_0 = integrate(lambda y, s: backbone.velocity(y, s, e, guidance=2.5), eps, grid)
    ours = backbone.decode_latents(y_0)[:, :, 0] / 2 + 0.5
    torch.testing.assert_close(ours.clamp(0, 1), image, atol=1e-5, rtol=0)
    assert image.std() > 0.01


def test_checkpointing_recomputes_without_train_mode(tiny_base: Path) -> None:
    passes, gradients = {}, {}
    for on in (False, True):
        backbone = load(tiny_base, gradient_checkpointing=on)
        transformer, calls = backbone.experts["transformer"], []
        assert not transformer.training
        assert not any(p.requires_grad for p in backbone.experts.parameters())
        for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
            block.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        y = latents(7).requires_grad_()
        backbone.velocity(latents(1), T, text(2), y, guidance=1.0).square().sum().backward()
        passes[on], gradients[on] = len(calls), y.grad
    assert passes == {False: 3, True: 6}
    assert torch.equal(gradients[False], gradients[True])
