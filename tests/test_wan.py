"""The Wan backbone against diffusers' own network and pipeline, and by closed forms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline
from diffusers.pipelines.wan import pipeline_wan
from tiny_wan import (
    BOUNDARY,
    FRAMES,
    HEIGHT,
    HIGH,
    LOW,
    TEXT_LEN,
    WIDTH,
    base,
    in_float64,
    latents,
    load,
    make_bank,
    text,
    velocity,
)
from torch import Tensor, nn

from byg_train.core.flow import integrate
from byg_train.models.wan.backbone import WanBackbone

TEXTS = ["a red fox runs over the snow", "", "turn video to cartoon style in the a red fox snow"]


def pipeline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> WanPipeline:
    """diffusers' own; its cleaning of prompts needs a package that nothing else does."""
    monkeypatch.setattr(pipeline_wan, "prompt_clean", lambda prompt: prompt)
    pipe = WanPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def plain(network: nn.Module, x: Tensor, t: Tensor, e: dict[str, Tensor]) -> Tensor:
    """A call with every argument written out."""
    return network(
        hidden_states=x, timestep=1000 * t, encoder_hidden_states=e["prompt_embeds"],
        return_dict=False,
    )[0]  # fmt: skip


class Positions(nn.Module):
    """Rotary tables of given (frame, row, column) positions, by RoPE's formula; head width 12."""

    def __init__(self, positions: list[tuple[int, int, int]]) -> None:
        super().__init__()
        angles = []
        for axis in range(3):  # each has 4 of 12 channels, 2 frequencies
            place = torch.tensor([p[axis] for p in positions], dtype=torch.float64)
            angles.append(place[:, None] * torch.tensor([1.0, 10000**-0.5], dtype=torch.float64))
        whole = torch.cat(angles, dim=1).repeat_interleave(2, dim=1)[None, :, None]
        self.tables = whole.cos().float(), whole.sin().float()

    def forward(self, _: Tensor) -> tuple[Tensor, Tensor]:
        return self.tables


def grid(frames: int) -> list[tuple[int, int, int]]:
    """Positions of the tiny clip's tokens: `frames` of 2 x 4."""
    return [(f, row, column) for f in range(frames) for row in range(2) for column in range(4)]


# ---------------------------------------------------------------- velocity


@pytest.mark.slow
@pytest.mark.parametrize(("t", "expert"), [(HIGH, "high"), (LOW, "low")])
def test_velocity_without_a_source_is_a_plain_call_of_the_expert(t: Tensor, expert: str) -> None:
    backbone, x, e = load(base()), latents(1), text(2)
    v = backbone.velocity(x, t, e)
    assert v.dtype == torch.float32
    assert torch.equal(v, plain(backbone.experts[expert], x, t, e))
    other = {"high": "low", "low": "high"}[expert]
    assert (v - plain(backbone.experts[other], x, t, e)).abs().max() > 0.1


def test_source_tokens_have_the_positions_of_the_target() -> None:
    backbone, x, y, e = load(base()), latents(1), latents(7), text(2)
    v, alone = backbone.velocity(x, HIGH, e, y), backbone.velocity(x, HIGH, e)
    network, both = backbone.experts["high"], torch.cat([x, y], dim=2)
    continued = plain(network, both, HIGH, e)[:, :, :2]
    network.rope = Positions(grid(4))
    torch.testing.assert_close(plain(network, both, HIGH, e)[:, :, :2], continued)
    network.rope = Positions([*grid(2), *grid(2)])
    torch.testing.assert_close(plain(network, both, HIGH, e)[:, :, :2], v)
    assert (v - continued).abs().max() > 1e-3
    assert (v - alone).abs().max() > 1e-2


def test_a_call_without_a_source_is_unchanged_after_one_with_it() -> None:
    backbone, x, e = load(base()), latents(1), text(2)
    before = backbone.velocity(x, HIGH, e)
    backbone.velocity(x, HIGH, e, latents(7))
    assert torch.equal(backbone.velocity(x, HIGH, e), before)
    with pytest.raises(KeyError):
        backbone.velocity(x, HIGH, {}, latents(7))
    assert torch.equal(backbone.velocity(x, HIGH, e), before)


def test_one_timestep_per_sample_is_the_5bs_timestep_per_token() -> None:
    backbone, e = load(base("one")), text(2)
    x, y = (latents(s)[..., :2, :4].contiguous() for s in (1, 7))
    network, t = backbone.experts["transformer"], torch.tensor([0.95, 0.3])
    for source, tokens in ((None, 4), (y, 8)):
        v = backbone.velocity(x, t, e, source)
        if source is not None:
            two = [(f, 0, column) for f in range(2) for column in range(2)]
            network.rope = Positions([*two, *two])
        both = x if source is None else torch.cat([x, y], dim=2)
        per_token = t[:, None].expand(-1, tokens)
        torch.testing.assert_close(plain(network, both, per_token, e)[:, :, :2], v)


def test_velocity_is_differentiable_in_target_and_source(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load(base())
    in_float64(backbone, monkeypatch)
    e, t = text(2, 1, torch.float64), HIGH[:1].double()
    x, y = (latents(s, 1, torch.float64).requires_grad_() for s in (1, 7))
    assert backbone.velocity(x, t, e, y).dtype == torch.float64
    assert torch.autograd.gradcheck(
        lambda x, y: backbone.velocity(x, t, e, y), (x, y), fast_mode=True
    )


def test_bf16_runs_over_float32_inputs_and_embeds_times_in_float32() -> None:
    full, half, seen = load(base()), load(base(), dtype="bfloat16"), []
    for backbone in (full, half):
        network = backbone.experts["low"]
        network.condition_embedder.time_embedder.register_forward_hook(
            lambda *args: seen.append(args[2])
        )
    assert half.experts["low"].blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    v, w = velocity(full, LOW), velocity(half, LOW)
    assert w.dtype == torch.float32
    assert 1e-4 < (v - w).norm() / v.norm() < 0.05
    assert seen[1].dtype == torch.float32 and torch.equal(*seen)


@pytest.mark.parametrize("expert", ["high", "low"])
def test_checkpointing_recomputes_without_train_mode(expert: str) -> None:
    passes, gradients = {}, {}
    for on in (False, True):
        backbone = load(base(), gradient_checkpointing=on)
        network, calls = backbone.experts[expert], []
        assert not network.training
        assert not any(p.requires_grad for p in backbone.experts.parameters())
        for block in network.blocks:
            block.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        y, t = latents(7).requires_grad_(), {"high": HIGH, "low": LOW}[expert]
        backbone.velocity(latents(1), t, text(2), y).square().sum().backward()
        passes[on], gradients[on] = len(calls), y.grad
    assert passes == {False: 2, True: 4}
    assert torch.equal(gradients[False], gradients[True])


def test_what_does_not_fit_is_said() -> None:
    pair, one = load(base()), load(base("one"))
    x, e, mixed = latents(1), text(2), torch.tensor([0.9, 0.8])
    calls = [
        ("on both sides of 0.875", lambda: pair.velocity(x, mixed, e)),
        ("shapes must be equal", lambda: pair.velocity(x, HIGH, e, x[:, :, :1])),
        ("even sizes", lambda: pair.velocity(x[..., :3], HIGH, e)),
        ("4k . 1 frames .such as 5.", lambda: pair.encode_pixels(torch.zeros(1, 3, 8, 32, 64))),
        ("such as 1", lambda: pair.encode_pixels(torch.zeros(1, 3, 3, 32, 64))),
        ("multiples of 16", lambda: pair.encode_pixels(torch.zeros(1, 3, 5, 40, 64))),
        ("multiples of 32", lambda: one.encode_pixels(torch.zeros(1, 3, 5, 48, 64))),
    ]
    for said, call in calls:
        with pytest.raises(ValueError, match=said):
            call()


# ---------------------------------------------------------------- clips, words, a whole sampling


@pytest.mark.parametrize("kind", ["pair", "one"])
def test_encode_and_decode_are_the_pipelines(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, pipe = load(base(kind)), pipeline(base(kind), monkeypatch)
    g = torch.Generator().manual_seed(3)
    pixels = torch.rand(2, 3, FRAMES, HEIGHT, WIDTH, generator=g) * 2 - 1
    z = backbone.encode_pixels(pixels)
    with torch.no_grad():
        mean = pipe.vae.encode(pixels).latent_dist.mean
        clip = pipe.vae.decode(mean).sample
    for channel, (m, s) in enumerate([(0.1, 1.5), (-0.2, 0.5), (0.3, 2.0), (0.0, 1.0)]):
        torch.testing.assert_close(z[:, channel], (mean[:, channel] - m) / s)
    assert z.shape == (2, 4, 2, *((4, 8) if kind == "pair" else (2, 4)))
    torch.testing.assert_close(backbone.decode_latents(z), clip)
    backbone.drop_encoders()
    torch.testing.assert_close(backbone.encode_pixels(pixels), z)


def test_encoded_text_is_the_pipelines(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, pipe = load(base()), pipeline(base(), monkeypatch)
    embeds = backbone.encode_text(TEXTS)["prompt_embeds"]
    with torch.no_grad():
        wanted, _ = pipe.encode_prompt(TEXTS, max_sequence_length=TEXT_LEN)
    assert torch.equal(embeds, wanted[: len(TEXTS)])
    assert not embeds[1, 1:].any() and embeds[2].abs().amin(-1).gt(0).all()
    backbone.drop_encoders()
    assert torch.equal(backbone.encode_text(TEXTS)["prompt_embeds"], embeds)


@pytest.mark.parametrize("kind", ["pair", "one"])
def test_sampling_is_the_pipelines_and_crosses_both_experts(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, pipe = load(base(kind)), pipeline(base(kind), monkeypatch)
    eps, e = latents(1), backbone.encode_text(TEXTS[:2])
    if kind == "one":
        eps = eps[..., :2, :4].contiguous()
    clip = pipe(
        prompt=TEXTS[:2], height=HEIGHT, width=WIDTH, num_frames=FRAMES, num_inference_steps=6,
        guidance_scale=1.0, latents=eps, max_sequence_length=TEXT_LEN, output_type="pt",
    ).frames  # fmt: skip
    times, asked = pipe.scheduler.sigmas, []

    def v(y: Tensor, t: Tensor) -> Tensor:
        asked.append(backbone.expert(t))
        return backbone.velocity(y, t, e)

    with torch.no_grad():
        y_0 = integrate(v, eps, times)
    ours = backbone.decode_latents(y_0).transpose(1, 2) / 2 + 0.5
    torch.testing.assert_close(ours.clamp(0, 1), clip, atol=1e-5, rtol=0)
    assert clip.std() > 0.01
    if kind == "pair":
        assert asked == ["high" if t >= BOUNDARY else "low" for t in times[:-1].tolist()]
        assert set(asked) == {"high", "low"} and backbone.swaps == 1


# ---------------------------------------------------------------- taking turns


def test_t_picks_the_expert() -> None:
    pair, one = load(base()), load(base("one"))
    assert pair.spans == {"high": (BOUNDARY, 1.0), "low": (0.0, BOUNDARY)}
    assert one.spans == {"transformer": (0.0, 1.0)}
    below = torch.nextafter(torch.tensor(BOUNDARY), torch.tensor(0.0))
    assert pair.expert(torch.tensor([BOUNDARY, 1.0])) == "high"
    assert pair.expert(torch.stack([below, torch.tensor(0.01)])) == "low"
    assert one.expert(torch.tensor([0.99, 0.01])) == "transformer"


def test_swaps_are_counted_and_weights_stay_the_same_objects() -> None:
    backbone = load(base())
    make_bank(backbone)
    weights = [(name, id(p), p.data_ptr()) for name, p in backbone.experts.named_parameters()]
    backbone.drop_encoders()
    counts = []
    for t in (HIGH, HIGH, LOW, LOW, HIGH, LOW):
        velocity(backbone, t)
        counts.append(backbone.swaps)
    assert counts == [0, 0, 1, 1, 2, 3]
    after = [(name, id(p), p.data_ptr()) for name, p in backbone.experts.named_parameters()]
    assert after == weights


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_only_one_expert_is_on_the_accelerator() -> None:
    backbone = WanBackbone.load(load(base()).config, "cuda")
    make_bank(backbone)
    e = {k: v.cuda() for k, v in text(2).items()}
    for t, expert in ((HIGH, "high"), (LOW, "low"), (HIGH, "high")):
        with torch.no_grad():
            v = backbone.velocity(latents(1).cuda(), t.cuda(), e, latents(7).cuda())
        torch.testing.assert_close(v.cpu(), velocity(load(base()), t), atol=1e-3, rtol=1e-3)
        for name, network in backbone.experts.items():
            for weight, p in network.named_parameters():
                assert p.is_cuda == (name == expert or "lora_" in weight), (name, weight)
    assert backbone.swaps == 2
