"""The Z-Image backbone against diffusers' own pipeline, by hand-built calls and closed forms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImagePipeline
from safetensors.torch import load_file, save_file
from tiny_z_image import SENTENCES, TEXT_LEN, T, base, config, edit_batch, latents, load, text
from torch import Tensor, nn

from byg_train.config import ConfigError, LoraSettings, ModelConfig
from byg_train.core.flow import integrate
from byg_train.core.schedule import time_grid
from byg_train.family import family_of
from byg_train.models.lora import LoraBank
from byg_train.models.networks import network
from byg_train.models.picture_files import pixel_multiple, token_counts
from byg_train.models.z_image.layout import padded

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
SIZES = [(6, 4), (16, 16)]  # 6 tokens, and 64, two blocks without pads


@pytest.fixture(scope="module")
def pipeline() -> ZImagePipeline:
    pipe = ZImagePipeline.from_pretrained(base())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def words(e: dict[str, Tensor]) -> list[Tensor]:
    return [row[:n] for row, n in zip(e["prompt_embeds"], e["lengths"], strict=True)]


def test_velocity_without_a_source_is_the_basic_mode() -> None:
    backbone, x, e = load(), latents(1), text(2)
    v = backbone.velocity(x, T, e)
    wanted = backbone.experts["transformer"](list(x), 1 - T, words(e), return_dict=False)[0]
    assert v.dtype == torch.float32
    assert torch.equal(v, -torch.stack(wanted))
    assert not torch.allclose(v, backbone.velocity(x, 1 - T, e), atol=1e-3)


# ---------------------------------------------------------------- ComfyUI's ReferenceLatent


def reference(model: nn.Module, x: Tensor, y: Tensor, caption: Tensor, t: Tensor) -> Tensor:
    """v of one sample, from the sheet of what ComfyUI computes, over the same submodules.

    x and y (C, h, w); caption (L, D); t (1,). No line of it is shared with the backbone.
    """

    def tokens(image: Tensor) -> Tensor:
        c, h, w = image.shape
        patches = image.reshape(c, h // 2, 2, w // 2, 2).permute(1, 3, 2, 4, 0)
        return model.all_x_embedder["2-1"](patches.reshape(-1, 4 * c))

    def filled(values: Tensor, pads: Tensor) -> Tensor:
        return torch.cat([values, pads.expand(-len(values) % 32, -1)])

    def grid(image: Tensor, first: int) -> Tensor:
        h, w = (side // 2 for side in image.shape[1:])
        places = torch.cartesian_prod(torch.arange(h), torch.arange(w)).reshape(-1, 2)
        places = torch.cat([torch.full((h * w, 1), first), places], dim=1)
        return torch.cat([places, torch.zeros(-h * w % 32, 3)]).long()

    def line(first: int, count: int) -> Tensor:
        return torch.stack([torch.arange(first, first + count), *torch.zeros(2, count)], 1).long()

    source, target = (filled(tokens(image), model.x_pad_token) for image in (y, x))
    words = torch.cat([model.cap_pad_token.expand(32, -1)] + [
        filled(model.cap_embedder(caption), model.cap_pad_token)
    ])  # fmt: skip
    lp = len(words) - 32
    image_places = torch.cat([grid(y, 33), grid(x, lp + 35)])
    word_places = torch.cat([line(1, 32), line(35, lp)])
    clean, noisy = (model.t_embedder(1000 * time) for time in (torch.ones_like(t), 1 - t))

    def block(layer: nn.Module, x: Tensor, places: Tensor, is_noisy: Tensor | None) -> Tensor:
        freqs = model.rope_embedder(places)[None]
        noise = None if is_noisy is None else is_noisy.long()[None]
        return layer(x[None], None, freqs, None, noise, noisy, clean)[0]

    image = torch.cat([source, target])
    image_noise = torch.arange(len(image)) >= len(source)
    word_noise = torch.arange(len(words)) >= 32
    for layer in model.noise_refiner:
        image = block(layer, image, image_places, image_noise)
    for layer in model.context_refiner:
        words = block(layer, words, word_places, None)
    whole = torch.cat([words, image])
    places = torch.cat([word_places, image_places])
    noise = torch.cat([word_noise, image_noise])
    for layer in model.layers:
        whole = block(layer, whole, places, noise)
    last = model.all_final_layer["2-1"]
    out = last(whole[None], noise_mask=noise.long()[None], c_noisy=noisy, c_clean=clean)[0]
    c, h, w = x.shape
    first = len(words) + len(source)
    out = out[first : first + h * w // 4].reshape(h // 2, w // 2, 2, 2, c)
    return -out.permute(4, 0, 2, 1, 3).reshape(c, h, w)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lengths", [(12, 12), (12, 40), (32, 64), (1, 190)])
def test_velocity_with_a_source_is_comfyuis(
    size: tuple[int, int], lengths: tuple[int, int]
) -> None:
    backbone, x, y, e = load(), latents(1), latents(7, size=size), text(2, lengths)
    v = backbone.velocity(x, T, e, y)
    model = backbone.experts["transformer"]
    wanted = [reference(model, x[i, :, 0], y[i, :, 0], words(e)[i], T[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(v[:, :, 0], torch.stack(wanted), rtol=1e-4, atol=1e-5)
    assert (v - backbone.velocity(x, T, e)).norm() > 0.05 * v.norm()


def test_other_layouts_are_other_functions() -> None:
    """diffusers' own omni mode, two frames of the basic mode, a source that is called noisy."""
    backbone, x, y, e = load(), latents(1), latents(7), text(2)
    v, model, plain = backbone.velocity(x, T, e, y), backbone.experts["transformer"], load()
    untouched = type(model).from_pretrained(base(), subfolder="transformer").eval()
    pairs, captions = [[a, b] for a, b in zip(y, x, strict=True)], words(e)
    nothing = torch.zeros(32, captions[0].shape[1])

    def omni(net: nn.Module, noise: int) -> Tensor:
        return net(
            pairs, 1 - T, [[nothing, c] for c in captions], siglip_feats=[None] * 2,
            image_noise_mask=[[noise, 1]] * 2, return_dict=False,
        )[0]  # fmt: skip

    both = [torch.cat([b, a], dim=1) for a, b in pairs]
    frames = untouched(both, 1 - T, captions, return_dict=False)[0]
    assert torch.equal(v, -torch.stack(omni(plain.experts["transformer"], 0)))
    for other in (omni(untouched, 0), omni(model, 1), [f[:, :1] for f in frames]):
        assert (v + torch.stack(other)).norm() > 1e-2 * v.norm()


def test_a_sample_does_not_depend_on_its_batch() -> None:
    backbone, x, y, e = load(), latents(1), latents(7), text(2, (12, 40))
    whole = backbone.velocity(x, T, e, y)
    for i in range(2):
        part = {name: tensor[i : i + 1] for name, tensor in e.items()}
        alone = backbone.velocity(x[i : i + 1], T[i : i + 1], part, y[i : i + 1])
        torch.testing.assert_close(whole[i : i + 1], alone, rtol=1e-4, atol=1e-5)


def test_bf16_runs_over_float32_inputs() -> None:
    full, half, x, e = load(), load(dtype="bfloat16"), latents(1), text(2)
    for source in (None, latents(7)):
        v, w = (backbone.velocity(x, T, e, source) for backbone in (full, half))
        assert w.dtype == torch.float32
        assert 1e-4 < (v - w).norm() / v.norm() < 0.1


def test_only_images_of_even_latents() -> None:
    backbone, clip = load(), torch.zeros(2, 4, 2, 6, 4)
    calls = [
        lambda: backbone.velocity(clip, T, text(2)),
        lambda: backbone.velocity(latents(1), T, text(2), clip),
        lambda: backbone.velocity(latents(1), T, text(2), latents(7, size=(5, 4))),
        lambda: backbone.encode_pixels(torch.zeros(1, 3, 5, 16, 16)),
        lambda: backbone.velocity(latents(1, size=(5, 4)), T, text(2)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="Z-Image"):
            call()


def test_it_knows_one_reference_mode() -> None:
    with pytest.raises(ValueError, match="'shared', which family 'z_image' does not know.*'index'"):
        ModelConfig(family="z_image", reference_mode="shared")


# ---------------------------------------------------------------- texts and sampling


def test_encoded_text_is_the_pipelines(pipeline: ZImagePipeline) -> None:
    backbone = load()
    texts = [*SENTENCES, "", "an unknown owl {} 東京", "word " * 80]
    e = backbone.encode_text(texts)
    with torch.no_grad():
        wanted, _ = pipeline.encode_prompt(list(texts), max_sequence_length=TEXT_LEN)
    assert e["prompt_embeds"].shape[1] == TEXT_LEN
    assert e["lengths"].tolist() == [len(w) for w in wanted]
    assert e["lengths"][-1] == TEXT_LEN > e["lengths"][3] == family_of("z_image").chat_tokens
    for row, n, w in zip(e["prompt_embeds"], e["lengths"], wanted, strict=True):
        torch.testing.assert_close(row[:n], w)
        assert not row[n:].any()
    backbone.drop_encoders()
    assert torch.equal(backbone.encode_text(texts[:1])["lengths"], e["lengths"][:1])


@pytest.mark.slow
@pytest.mark.parametrize("shift", [1.0, 6.0])
def test_sampling_is_the_pipelines(shift: float) -> None:
    pipe = ZImagePipeline.from_pretrained(base())
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=shift, use_dynamic_shifting=False)
    backbone, eps = load(), latents(1)
    e, nothing = backbone.encode_text(SENTENCES[:2]), backbone.encode_text(["", ""])
    image = pipe(
        prompt=SENTENCES[:2], height=24, width=16, num_inference_steps=4, guidance_scale=2.0,
        latents=eps[:, :, 0], max_sequence_length=TEXT_LEN, output_type="pt",
    ).images  # fmt: skip

    def guided(y: Tensor, s: Tensor) -> Tensor:
        """diffusers' guidance 2 is classifier-free guidance 3."""
        v, v_neg = backbone.velocity(y, s, e), backbone.velocity(y, s, nothing)
        return v_neg + 3 * (v - v_neg)

    with torch.no_grad():
        y_0 = integrate(guided, eps, time_grid(4, shift))
    ours = backbone.decode_latents(y_0)[:, :, 0] / 2 + 0.5
    torch.testing.assert_close(ours.clamp(0, 1), image, atol=1e-4, rtol=0)
    assert image.std() > 0.01


def test_encode_and_decode_are_the_pipelines(pipeline: ZImagePipeline) -> None:
    backbone = load()
    pixels = torch.rand(2, 3, 1, 24, 16, generator=torch.Generator().manual_seed(3)) * 2 - 1
    z = backbone.encode_pixels(pixels)
    with torch.no_grad():
        mean = pipeline.vae.encode(pixels[:, :, 0]).latent_dist.mean
        wanted = pipeline.vae.decode(mean).sample
    torch.testing.assert_close(z[:, :, 0], (mean - 0.2) * 1.3)
    torch.testing.assert_close(backbone.decode_latents(z)[:, :, 0], wanted)


# ---------------------------------------------------------------- gradients and LoRA


@pytest.mark.parametrize("inference_first", [False, True])
def test_checkpointing_recomputes_without_train_mode(inference_first: bool) -> None:
    passes, gradients = {}, {}
    for on in (False, True):
        backbone = load(gradient_checkpointing=on)
        transformer, calls = backbone.experts["transformer"], []
        if inference_first:
            with torch.inference_mode():
                backbone.velocity(latents(1), T, text(2), latents(7))
        for block in (*transformer.layers, *transformer.noise_refiner):
            block.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        y = latents(7).requires_grad_()
        backbone.velocity(latents(1), T, text(2), y).square().sum().backward()
        passes[on], gradients[on] = len(calls), y.grad
    assert passes == {False: 3, True: 6}
    assert torch.equal(gradients[False], gradients[True])


def bank(backbone: object, targets: list[str] | None = None) -> LoraBank:
    return LoraBank(backbone.experts, LoraSettings(rank=2, targets=targets), 0.9, seed=0)


def test_lora_targets() -> None:
    usual = set(bank(load()).named_parameters())
    inside = ("attention.to_q", "attention.to_out.0", "feed_forward.w1", "feed_forward.w2")
    for module in inside:
        assert f"transformer.layers.1.{module}.lora_A.weight" in usual
    assert len(usual) == 2 * 2 * 7
    assert all(name.startswith("transformer.layers.") for name in usual)
    more = set(bank(load(), ["usual", "noise_refiner"]).named_parameters())
    assert len(more - usual) == 2 * 7 and usual < more
    assert all(name.startswith("transformer.noise_refiner.") for name in more - usual)
    with pytest.raises(ConfigError, match="did you mean 'noise_refiner'"):
        bank(load(), ["noise_refine"])


def test_gradients_reach_every_lora_weight() -> None:
    backbone = load(gradient_checkpointing=True)
    weights = bank(backbone, ["usual", "noise_refiner"]).named_parameters()
    for name, weight in weights.items():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1)
    batch = edit_batch()
    backbone.velocity(latents(3), T, batch.c, batch.x).square().sum().backward()
    assert not [name for name, weight in weights.items() if not weight.grad.abs().max() > 0]


@pytest.mark.parametrize("storage", ["fp8", "int8"])
def test_a_base_in_8_bits_trains(storage: str) -> None:
    if storage == "int8":
        pytest.importorskip("torchao")
    exact = load(dtype="bfloat16")
    backbone = load(dtype="bfloat16", storage=storage, gradient_checkpointing=True)
    weights = bank(backbone, ["usual", "noise_refiner"]).named_parameters()
    x, e, y = latents(1), text(2), latents(7)
    v, wanted = backbone.velocity(x, T, e, y), exact.velocity(x, T, e, y)
    assert 1e-4 < (v - wanted).norm() / wanted.norm() < 0.3
    v.square().sum().backward()
    assert all(w.grad.abs().max() > 0 for name, w in weights.items() if "lora_B" in name)


# ---------------------------------------------------------------- files and sizes


def test_a_single_file_of_either_layout(tmp_path: Path) -> None:
    weights, v = load_file(base() / WEIGHTS), load().velocity(latents(1), T, text(2), latents(7))
    save_file(weights, tmp_path / "diffusers.safetensors")
    save_file(comfyui(weights), tmp_path / "z_image_bf16.safetensors")
    for name in ("diffusers", "z_image_bf16"):
        file = tmp_path / f"{name}.safetensors"
        with pytest.raises(ConfigError, match="model.components .*Tongyi-MAI/Z-Image"):
            load(file)
        loaded = load(file, components=str(base()))
        assert torch.equal(v, loaded.velocity(latents(1), T, text(2), latents(7))), name
    del weights["layers.1.attention.to_q.weight"]
    save_file(weights, tmp_path / "cut.safetensors")
    with pytest.raises(ConfigError, match="cut.safetensors .*Z-Image transformer"):
        load(tmp_path / "cut.safetensors", components=str(base()))


def comfyui(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """diffusers' names -> those of ComfyUI's file."""
    found = {}
    for name, weight in weights.items():
        if name.endswith("to_q.weight"):
            qkv = [weights[name.replace("to_q", f"to_{x}")] for x in "qkv"]
            found[name.replace("to_q", "qkv")] = torch.cat(qkv)
            continue
        if ".to_k." in name or ".to_v." in name:
            continue
        for old, new in (
            ("all_x_embedder.2-1", "x_embedder"), ("all_final_layer.2-1", "final_layer"),
            ("to_out.0", "out"), ("norm_q", "q_norm"), ("norm_k", "k_norm"),
        ):  # fmt: skip
            name = name.replace(old, new)
        found[name] = weight
    return {f"model.diffusion_model.{name}": weight for name, weight in found.items()}


def test_sizes_of_a_folder_and_of_the_known_model() -> None:
    tiny, model = config(base()), load().experts["transformer"]
    assert (pixel_multiple(tiny), token_counts(tiny, 24, 16)) == (8, (TEXT_LEN, 6))
    net = network(tiny)
    counted = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 2 and "pad_" not in n)
    assert net.parameters == counted
    weights = bank(load()).named_parameters().values()
    assert net.lora_parameters(2) == sum(w.numel() for w in weights)
    assert net.sequence(40, 6, source=False) == 64 + 32
    assert net.sequence(40, 6, source=True) == 64 + 32 + 32 + 32
    assert [padded(n) for n in (0, 1, 32, 33.5)] == [0, 32, 32, 64]
    known = network(ModelConfig(family="z_image", path="Tongyi-MAI/Z-Image"))
    assert abs(known.parameters / 6.155e9 - 1) < 0.001
    assert abs(known.lora_parameters(32) / 70.0e6 - 1) < 0.001
    size = family_of("z_image").bases.download_size("Tongyi-MAI/Z-Image", transformer=True)
    assert 20e9 < size < 21.5e9


def test_the_encoder_is_counted_by_its_configuration() -> None:
    qwen = load()._load_encoders().model
    counted = sum(p.numel() for p in qwen.parameters() if p.ndim == 2)
    assert network(config(base())).encoder == counted
