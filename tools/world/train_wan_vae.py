"""Train the tiny world's AutoencoderKLWan: 9 frames of 48 x 48 become 3 of 12 x 12, 16 channels."""

from __future__ import annotations

import copy
import random
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from byg_train.media.pixels import to_batch
from byg_train.world.clips import FRAMES, SIZE, draw, random_clip
from byg_train.world.names import HELD_OUT, SUBJECTS

from .train_vae import update_average

LATENT_CHANNELS = 16  # as in Wan, whose hosts expect no other number
# Every picture but those of held-out names: a VAE need not know what it shows.
SEEN = tuple(name for name in SUBJECTS if name not in HELD_OUT)


class Stage(NamedTuple):
    """What a batch holds; a share of all steps. Crops are cheaper than whole clips."""

    share: float
    batch: int
    frames: int
    side: int


# Single frames first: they teach colours and shapes, and a batch of them is a varied one.
STAGES = (Stage(0.3, 32, 1, 32), Stage(0.6, 8, 5, 32), Stage(0.1, 4, FRAMES, SIZE))
# Of a trained one that goes on: more of what it is used for.
FURTHER = (Stage(0.2, 32, 1, 32), Stage(0.6, 8, 5, 32), Stage(0.2, 4, FRAMES, SIZE))


def build_vae() -> AutoencoderKLWan:
    """Wan 2.1's VAE with two halvings of the sides for three: a 48 px clip would leave 6 x 6."""
    vae = AutoencoderKLWan(
        base_dim=12,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[True, True],
        scale_factor_spatial=4,
        z_dim=LATENT_CHANNELS,
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
    )
    for name, layer in vae.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
            _start(layer, over_time="time_conv" in name)
    # Nearly no noise in the posterior: with as much as there is signal nothing is learned at first.
    nn.init.zeros_(vae.quant_conv.weight[LATENT_CHANNELS:])
    nn.init.constant_(vae.quant_conv.bias[LATENT_CHANNELS:], -6.0)
    return vae


def _start(layer: nn.Module, *, over_time: bool) -> None:
    """Outputs as large as inputs; what is not for time sees one frame until it learns of others.

    With torch's own start, outputs a third as large, 100 steps reached 13 dB instead of 17.
    """
    seen = layer.weight if over_time or layer.weight.ndim == 4 else layer.weight[:, :, -1]
    nn.init.zeros_(layer.weight)
    nn.init.normal_(seen, std=seen[0].numel() ** -0.5)
    nn.init.zeros_(layer.bias)


def _pieces(rng: random.Random, stage: Stage) -> Tensor:
    """A batch of pieces of random clips: no pixel has a place of its own."""

    def piece() -> np.ndarray:
        clip = draw(random_clip(rng, SEEN))
        first = rng.randint(0, FRAMES - stage.frames)
        top, left = (rng.randint(0, SIZE - stage.side) for _ in range(2))
        return clip[first:, top:, left:][: stage.frames, : stage.side, : stage.side]

    return to_batch(piece() for _ in range(stage.batch))


def train_vae(steps: int, seed: int, start: AutoencoderKLWan | None = None) -> AutoencoderKLWan:
    """Reconstruction (L1 and squared) and a little KL; `start` is a trained one to go on from.

    Returns the weights' moving average, its latents' statistics in the configuration.
    """
    torch.manual_seed(seed)
    vae, rng = start or build_vae(), random.Random(seed)
    stages, peak = (FURTHER, 1.5e-3) if start else (STAGES, 2e-3)
    shadow = copy.deepcopy(vae)
    optimizer = torch.optim.AdamW(vae.parameters(), weight_decay=1e-4, fused=True)
    for step in range(steps):
        x = _pieces(rng, _stage(stages, step / steps))
        posterior = vae.encode(x).latent_dist
        z = posterior.sample()
        # The decoder must forgive what a sampler gets slightly wrong.
        z = z + 0.05 * torch.rand(len(z), 1, 1, 1, 1) * torch.randn_like(z)
        y = vae.decode(z).sample
        loss = F.l1_loss(y, x) + F.mse_loss(y, x) + 1e-6 * posterior.kl().mean()
        left = (1 - step / steps) / 0.5
        optimizer.param_groups[0]["lr"] = peak * min(1.0, (step + 1) / 30, left)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        update_average(shadow, vae, step, decay=0.99)
        if step % 25 == 0:
            print(f"vae {step} loss {loss:.4f} psnr {_psnr(y, x):.1f}", flush=True)
    return _with_statistics(shadow.eval(), _pieces(rng, STAGES[-1]._replace(batch=64)))


def _stage(stages: tuple[Stage, ...], done: float) -> Stage:
    for stage in stages:
        if done < stage.share:
            break
        done -= stage.share
    return stage


def _psnr(y: Tensor, x: Tensor) -> float:
    return 10 * np.log10(4 / F.mse_loss(y, x).item())


@torch.no_grad()
def _with_statistics(vae: AutoencoderKLWan, x: Tensor) -> AutoencoderKLWan:
    z = vae.encode(x).latent_dist.mean
    print(f"vae done: psnr {_psnr(vae.decode(z).sample, x):.2f}", flush=True)
    by_channel = z.transpose(0, 1).flatten(1)
    vae.register_to_config(
        latents_mean=[round(v, 4) for v in by_channel.mean(1).tolist()],
        latents_std=[round(v, 4) for v in by_channel.std(1).tolist()],
    )
    return vae
