"""What the tiny pipelines for pictures are trained with: scenes, times, and one loop of descent."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_model
from torch import Tensor, nn

from byg_train.world.scenes import Scene, caption, random_scene

from .lots import CANVASES
from .train_vae import Clock, learning_rate, mixed_precision, scene_batch, update_average
from .words import training_caption

# Normalised latents (B, C, h, w) and captions -> the loss.
Loss = Callable[[Tensor, list[str]], Tensor]


class Pool:
    """Scenes encoded once, told anew every time; batches keep to one canvas."""

    def __init__(
        self,
        vae: AutoencoderKL,
        size: int,
        seed: int,
        draw_lot: Callable[..., Scene] = random_scene,
    ) -> None:
        self.rng = random.Random(seed)
        self.parts: list[tuple[Tensor, list]] = []
        for canvas, share in zip(CANVASES, (0.8, 0.1, 0.1), strict=True):
            latents, scenes = [], []
            for _ in range(int(size * share) // 256):
                x, batch = scene_batch(self.rng, 256, canvas, draw_lot)
                with torch.no_grad():
                    z = vae.encode(x).latent_dist.mean
                z = (z - vae.config.shift_factor) * vae.config.scaling_factor
                latents.append(z.to(torch.bfloat16))
                scenes += batch
            self.parts.append((torch.cat(latents), scenes))

    def batches(self, size: int) -> Iterator[tuple[Tensor, list[str]]]:
        weights = [len(scenes) for _, scenes in self.parts]
        while True:
            latents, scenes = self.rng.choices(self.parts, weights)[0]
            rows = self.rng.sample(range(len(scenes)), size)
            yield (
                latents[rows].float(),
                [training_caption(caption, scenes[r], self.rng) for r in rows],
            )


def draw_t(size: int, g: torch.Generator) -> Tensor:
    """Half uniform, half logit-normal; (B,) in (0, 1]."""
    uniform, normal = 1 - torch.rand(size, generator=g), torch.randn(size, generator=g).sigmoid()
    return torch.where(torch.rand(size, generator=g) < 0.5, uniform, normal)


def descend(
    name: str,
    net: nn.Module,
    loss_of: Loss,
    batches: Iterator[tuple[Tensor, list[str]]],
    minutes: float,
    peak: float,
    snapshot: Path | None = None,
) -> nn.Module:
    """AdamW on the weights of `net` that take gradients; returns the moving average of them all.

    `peak` is the highest learning rate; the average is saved every 500 steps, to go on from.
    """
    parameters = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, weight_decay=1e-2, betas=(0.9, 0.98), fused=True)
    shadow, clock, running = copy.deepcopy(net), Clock(minutes), 0.0
    for step, (x, captions) in enumerate(batches):
        if clock.done >= 1:
            break
        with mixed_precision():
            loss = loss_of(x, captions)
        optimizer.param_groups[0]["lr"] = learning_rate(clock.done, peak, step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        update_average(shadow, net, step)
        running += 0.02 * (loss.item() - running) if step else loss.item()
        if step % 50 == 0:
            print(f"{name} {step} {clock.done:.0%} loss {running:.4f}", flush=True)
        if snapshot and step % 500 == 499:
            save_model(shadow, snapshot)
    return shadow
