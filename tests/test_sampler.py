"""Samplers against diffusers' pipeline and closed forms, and classifier-free guidance."""

from __future__ import annotations

import pytest
import torch
from diffusers import UniPCMultistepScheduler, WanPipeline
from diffusers.pipelines.wan import pipeline_wan
from tiny_wan import BOUNDARY, FRAMES, HEIGHT, TEXT_LEN, WIDTH, base, latents, load
from torch import Tensor

from byg_train.core.flow import Field, integrate
from byg_train.core.schedule import time_grid
from byg_train.models.flux.record import sampling_shift
from byg_train.models.sampler import Sampling, sampling_grid

TEXTS = ["a red fox runs over the snow", "turn video to cartoon style in the a red fox snow"]
NEGATIVE = "the snow"


def library(kind: str, shift: float, monkeypatch: pytest.MonkeyPatch) -> WanPipeline:
    """diffusers' own, with Wan2.2's default scheduler; cleaning prompts needs another package."""
    monkeypatch.setattr(pipeline_wan, "prompt_clean", lambda prompt: prompt)
    pipe = WanPipeline.from_pretrained(base(kind))
    pipe.scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("shift", [3.0, 12.0])
@pytest.mark.parametrize("cfg", [(1.0, None), (4.0, 3.0)])
@pytest.mark.parametrize("kind", ["pair", "one"])
def test_unipc_is_the_librarys(
    kind: str, cfg: tuple[float, float | None], shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole pipeline, from noise to frames: times, solver, experts, guidance of either."""
    backbone, pipe = load(base(kind)), library(kind, shift, monkeypatch)
    eps = latents(1)
    if kind == "one":
        eps, cfg = eps[..., :2, :4].contiguous(), (cfg[0], None)
    clip = pipe(
        prompt=TEXTS, negative_prompt=NEGATIVE, height=HEIGHT, width=WIDTH, num_frames=FRAMES,
        num_inference_steps=7, guidance_scale=cfg[0], guidance_scale_2=cfg[1], latents=eps,
        max_sequence_length=TEXT_LEN, output_type="pt",
    ).frames  # fmt: skip
    sampling = Sampling(7, shift, "unipc", *cfg, NEGATIVE)
    text, negative = backbone.encode_text(TEXTS), backbone.encode_text([NEGATIVE] * 2)
    done: list[tuple[int, int]] = []
    field = sampling.guided_field(backbone.velocity, text, None, negative, BOUNDARY)
    with torch.no_grad():
        y_0 = sampling.solve(field, eps, lambda *at: done.append(at))
    ours = backbone.decode_latents(y_0).transpose(1, 2) / 2 + 0.5
    torch.testing.assert_close(ours.clamp(0, 1), clip, atol=5e-5, rtol=0)
    assert clip.std() > 0.01
    assert done == [(i + 1, 7) for i in range(7)]
    assert backbone.swaps == (1 if kind == "pair" else 0)


def gaussian(mean: float, deviation: float) -> Field:
    """The flow from noise to data of N(mean, deviation^2); it takes eps to mean + deviation eps."""

    def velocity(y: Tensor, t: Tensor) -> Tensor:
        t = t.view(-1, 1)
        variance = (1 - t) ** 2 * deviation**2 + t**2
        score = (y - (1 - t) * mean) / variance
        return t * score - (mean + (1 - t) * deviation**2 * score)

    return velocity


def test_unipc_needs_fewer_steps() -> None:
    """Against a flow whose end is known: of second order, and so far nearer at 20 steps."""
    eps = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    errors = {
        name: (Sampling(20, 1.0, name).solve(gaussian(0.5, 0.3), eps) - (0.5 + 0.3 * eps))
        .abs().max().item()
        for name in ("euler", "unipc")
    }  # fmt: skip
    assert errors["unipc"] < errors["euler"] / 5 < 0.02


@pytest.mark.parametrize("steps", [1, 2, 3, 20])
@pytest.mark.parametrize("sampler", ["euler", "unipc"])
def test_a_straight_flow_is_exact(sampler: str, steps: int) -> None:
    eps, x = latents(1), latents(2)
    y_0 = Sampling(steps, 12.0, sampler).solve(lambda y, t: eps - x, eps)
    torch.testing.assert_close(y_0, x, atol=1e-5, rtol=0)


def test_euler_is_what_it_was() -> None:
    eps, field = latents(1).double(), lambda y, t: y * t.view(-1, 1, 1, 1, 1)
    y_0 = Sampling(5, 3.0).solve(field, eps)
    assert torch.equal(y_0, integrate(field, eps, time_grid(5, 3.0)))
    wanted = time_grid(4, sampling_shift(2 * 4 * 8 // 4))
    assert torch.equal(sampling_grid(4, "flux", latents(1)), wanted)


# ---------------------------------------------------------------- guidance


def velocity(y: Tensor, t: Tensor, text: dict, source: Tensor | None = None) -> Tensor:
    ASKED.append(text["prompt_embeds"].item())
    return text["prompt_embeds"] + source


ASKED: list[float] = []
YES, NO = ({"prompt_embeds": torch.tensor(value)} for value in (3.0, 1.0))


@pytest.mark.parametrize(
    ("cfg", "low", "t", "wanted", "asked"),
    [
        (1.0, None, 0.9, 3.0, [3.0]),
        (4.0, None, 0.9, 9.0, [3.0, 1.0]),
        (4.0, None, 0.1, 9.0, [3.0, 1.0]),
        (4.0, 2.0, 0.9, 9.0, [3.0, 1.0]),
        (4.0, 2.0, 0.875, 9.0, [3.0, 1.0]),  # the boundary belongs to high noise
        (4.0, 2.0, 0.1, 5.0, [3.0, 1.0]),
        (4.0, 1.0, 0.1, 3.0, [3.0]),
        (1.0, 2.0, 0.9, 3.0, [3.0]),
        (0.0, None, 0.9, 1.0, [3.0, 1.0]),
    ],
)
def test_guidance(
    cfg: float, low: float | None, t: float, wanted: float, asked: list[float]
) -> None:
    """no + w (yes - no) with the source on both sides, and no question whose answer is not used."""
    ASKED.clear()
    y, source = torch.zeros(2, 1), torch.full((2, 1), 10.0)
    field = Sampling(4, 1.0, "euler", cfg, low).guided_field(velocity, YES, source, NO, BOUNDARY)
    assert torch.equal(field(y, torch.full((2,), t)), torch.full((2, 1), 10.0 + wanted))
    assert asked == ASKED


def test_when_the_negative_text_is_needed() -> None:
    found = [Sampling(4, 1.0, "euler", *cfg).guided for cfg in ((1.0,), (1.0, 1.0), (2.0,))]
    assert found == [False, False, True]
    assert Sampling(4, 1.0, "euler", 1.0, 3.0).guided
