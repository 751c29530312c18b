"""Train the tiny world's AutoencoderKL: 48 x 48 pictures become 12 x 12 latents of 8 channels."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from byg_train.machine import preferred_dtype
from byg_train.media.pixels import to_batch
from byg_train.world.scenes import Scene, draw, random_scene

from .lots import CANVASES, base_scene

LATENT_CHANNELS = 8
Canvas = tuple[int, int]


class Clock:
    """A budget of minutes; `done` runs from 0 to 1."""

    def __init__(self, minutes: float) -> None:
        self.start, self.seconds = time.monotonic(), minutes * 60

    @property
    def done(self) -> float:
        return min(1.0, (time.monotonic() - self.start) / self.seconds)


def update_average(shadow: nn.Module, live: nn.Module, step: int, decay: float = 0.999) -> None:
    rate = min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        for s, p in zip(shadow.parameters(), live.parameters(), strict=True):
            s.lerp_(p, 1 - rate)


def learning_rate(done: float, peak: float, step: int) -> float:
    """Linear warm-up over 200 steps, flat, then a linear fall over the last 40 % of the time."""
    return peak * min(1.0, (step + 1) / 200, max(0.02, (1 - done) / 0.4))


def mixed_precision() -> torch.autocast:
    """bfloat16 for the matrix products where the CPU computes it in hardware, else nothing."""
    fast = preferred_dtype("cpu").dtype == "bfloat16"
    return torch.autocast("cpu", torch.bfloat16, enabled=fast)


def scene_batch(
    rng: random.Random,
    size: int,
    canvas: Canvas,
    draw_lot: Callable[..., Scene] = random_scene,
) -> tuple[Tensor, list[Scene]]:
    scenes = [base_scene(rng, canvas, draw_lot) for _ in range(size)]
    return to_batch(draw(s)[None] for s in scenes)[:, :, 0], scenes


def train_vae(minutes: float, seed: int) -> AutoencoderKL:
    """Factor 4, 8 channels, no attention: 48 x 48 pictures become 12 x 12 latents, 6 x 6 tokens."""
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 48, 96),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=LATENT_CHANNELS,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).to(memory_format=torch.channels_last)
    shadow, clock, rng = copy.deepcopy(vae), Clock(minutes), random.Random(seed)
    optimizer = torch.optim.AdamW(vae.parameters(), weight_decay=1e-4, fused=True)
    step = 0

    def through(x: Tensor) -> tuple[Tensor, Tensor]:
        posterior = vae.encode(x).latent_dist
        z = posterior.sample()
        # The decoder must forgive what a sampler gets slightly wrong.
        z = z + 0.05 * torch.rand(len(z), 1, 1, 1) * torch.randn_like(z)
        return vae.decode(z).sample, posterior.kl()

    while clock.done < 1:
        x, _ = scene_batch(rng, 16, CANVASES[0])
        # Users' pictures are not centred: let no pixel have a place of its own.
        x = x.roll((rng.randint(-4, 4), rng.randint(-4, 4)), (2, 3))
        with mixed_precision():
            y, kl = through(x.to(memory_format=torch.channels_last))
        loss = F.l1_loss(y.float(), x) + F.mse_loss(y.float(), x) + 1e-6 * kl.float().mean()
        optimizer.param_groups[0]["lr"] = learning_rate(clock.done, 1.5e-3, step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        update_average(shadow, vae, step)
        step += 1
        if step % 50 == 0:
            mse = F.mse_loss(y.float(), x).item()
            psnr = 10 * np.log10(4 / mse)
            print(f"vae {step} {clock.done:.0%} loss {loss:.4f} psnr {psnr:.1f}", flush=True)
    with torch.no_grad():
        x, _ = scene_batch(rng, 256, CANVASES[0])
        z = shadow.encode(x).latent_dist.mean
        mse = F.mse_loss(shadow.decode(z).sample, x).item()
    print(f"vae done: {step} steps, psnr {10 * np.log10(4 / mse):.2f}", flush=True)
    shadow.register_to_config(
        shift_factor=round(z.mean().item(), 4), scaling_factor=round(1 / z.std().item(), 4)
    )
    return shadow.eval()
