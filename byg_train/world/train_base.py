"""Train the tiny FLUX pipeline of `base/` from scratch: tokenizers, VAE, encoders, transformer.

    python -m byg_train.world.train_base --output byg_train/world/base

Three phases: an AutoencoderKL on pictures; flow matching with caption dropout (guidance embedding
held at 1); guidance distillation, in which one pass learns what classifier-free guidance needs two
for, as in FLUX.1-dev. Only combinations of the base's share of the world are ever drawn
(`scenes.withheld`), and no held-out name.
"""

from __future__ import annotations

import argparse
import copy
import random
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from .scenes import CANVASES, caption
from .train_vae import (
    LATENT_CHANNELS,
    Canvas,
    Clock,
    learning_rate,
    mixed_precision,
    scene_batch,
    train_vae,
    update_average,
)
from .words import CLIP_LEN, TEXT_LEN, build_tokenizers, corpus


class Net(nn.Module):
    """Text encoders and transformer trained as one, on packed latents (B, N, 4C)."""

    def __init__(self, clip_vocab: int, t5_vocab: int, eos: int) -> None:
        super().__init__()
        self.clip = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=clip_vocab, hidden_size=128, intermediate_size=256,
                num_hidden_layers=2, num_attention_heads=4, projection_dim=128,
                bos_token_id=eos - 1, eos_token_id=eos, pad_token_id=eos,
            )
        )  # fmt: skip
        self.t5 = T5EncoderModel(
            T5Config(
                vocab_size=t5_vocab, d_model=128, d_ff=256, d_kv=32, num_heads=4, num_layers=2,
                dropout_rate=0.0, feed_forward_proj="gated-gelu",
            )
        )  # fmt: skip
        self.transformer = FluxTransformer2DModel(
            patch_size=1, in_channels=4 * LATENT_CHANNELS, num_layers=2, num_single_layers=8,
            attention_head_dim=64, num_attention_heads=3, joint_attention_dim=128,
            pooled_projection_dim=128, guidance_embeds=True, axes_dims_rope=(16, 24, 24),
        )  # fmt: skip

    def texts(self, tokens: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return self.clip(tokens[0]).pooler_output, self.t5(tokens[1]).last_hidden_state

    def forward(
        self, x_t: Tensor, t: Tensor, guidance: Tensor, texts: tuple[Tensor, Tensor], ids: Tensor
    ) -> Tensor:
        return self.transformer(
            hidden_states=x_t, timestep=t, guidance=guidance, pooled_projections=texts[0],
            encoder_hidden_states=texts[1], img_ids=ids,
            txt_ids=torch.zeros(texts[1].shape[1], 3), return_dict=False,
        )[0]  # fmt: skip


def _pack(z: Tensor) -> Tensor:
    b, c, h, w = z.shape
    return FluxPipeline._pack_latents(z, b, c, h, w)


def _ids(canvas: Canvas) -> Tensor:
    width, height = (side // 8 for side in canvas)
    return FluxPipeline._prepare_latent_image_ids(1, height, width, "cpu", torch.float32)


class Pool:
    """Scenes encoded once; batches keep to one canvas."""

    def __init__(self, vae: AutoencoderKL, tokenize, size: int, seed: int) -> None:  # noqa: ANN001
        self.rng, self.tokenize = random.Random(seed), tokenize
        self.parts: list[tuple[Canvas, Tensor, list]] = []
        for canvas, share in zip(CANVASES, (0.8, 0.1, 0.1), strict=True):
            latents, scenes = [], []
            for _ in range(int(size * share) // 256):
                x, batch = scene_batch(self.rng, 256, canvas)
                with torch.no_grad():
                    z = vae.encode(x).latent_dist.mean
                z = (z - vae.config.shift_factor) * vae.config.scaling_factor
                latents.append(_pack(z).to(torch.bfloat16))
                scenes += batch
            self.parts.append((canvas, torch.cat(latents), scenes))

    def _caption(self, scene: object) -> str:
        lot = self.rng.random()
        if lot < 0.1:  # the empty caption, for classifier-free guidance
            return ""
        if lot < 0.15:  # names the base has no word for: "object", or letters
            return caption(scene, "object")
        if lot < 0.2:
            return caption(scene, "".join(self.rng.choices("abcdefghiklmnoprstuvw", k=5)))
        return caption(scene)

    def batches(self, size: int) -> Iterator[tuple[Canvas, Tensor, tuple[Tensor, Tensor]]]:
        weights = [len(scenes) for _, _, scenes in self.parts]
        while True:
            canvas, latents, scenes = self.rng.choices(self.parts, weights)[0]
            rows = self.rng.sample(range(len(scenes)), size)
            yield (
                canvas,
                latents[rows].float(),
                self.tokenize([self._caption(scenes[r]) for r in rows]),
            )


def _draw_t(size: int, g: torch.Generator) -> Tensor:
    """Half uniform, half logit-normal; (B,) in (0, 1]."""
    uniform, normal = 1 - torch.rand(size, generator=g), torch.randn(size, generator=g).sigmoid()
    return torch.where(torch.rand(size, generator=g) < 0.5, uniform, normal)


def _adamw(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, weight_decay=1e-2, betas=(0.9, 0.98), fused=True)


def train_flow(
    net: Net, pool: Pool, minutes: float, g: torch.Generator, batch: int, snapshot: Path
) -> Net:
    """Flow matching, v = eps - x, guidance embedding 1. Returns the EMA."""
    shadow, clock, running = copy.deepcopy(net), Clock(minutes), 0.0
    optimizer = _adamw(list(net.parameters()))
    compiled = torch.compile(net)
    for step, (canvas, x, tokens) in enumerate(pool.batches(batch)):
        if clock.done >= 1:
            break
        eps, t = torch.randn(x.shape, generator=g), _draw_t(batch, g)
        x_t = (1 - t)[:, None, None] * x + t[:, None, None] * eps
        with mixed_precision():
            v = compiled(x_t, t, torch.ones(batch), net.texts(tokens), _ids(canvas)).float()
        loss = F.mse_loss(v, eps - x)
        optimizer.param_groups[0]["lr"] = learning_rate(clock.done, 1.5e-3, step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        update_average(shadow, net, step)
        running += 0.02 * (loss.item() - running) if step else loss.item()
        if step % 100 == 0:
            print(f"flow {step} {clock.done:.0%} loss {running:.4f}", flush=True)
        if step % 1000 == 999:
            save_model(shadow, snapshot)
    return shadow


def distil_guidance(net: Net, pool: Pool, minutes: float, g: torch.Generator, batch: int) -> Net:
    """One pass with guidance embedding w learns v_empty + w (v_caption - v_empty), w in [1, 4]."""
    teacher, student = net.eval().requires_grad_(False), copy.deepcopy(net)
    parameters = list(student.transformer.requires_grad_(True).parameters())
    shadow, clock, running = copy.deepcopy(student), Clock(minutes), 0.0
    optimizer = _adamw(parameters)
    compiled, empty = torch.compile(student), pool.tokenize([""])
    guide = torch.compile(teacher)
    for step, (canvas, x, tokens) in enumerate(pool.batches(batch)):
        if clock.done >= 1:
            break
        eps, t = torch.randn(x.shape, generator=g), _draw_t(batch, g)
        w, ids = 1 + 3 * torch.rand(batch, generator=g), _ids(canvas)
        x_t = (1 - t)[:, None, None] * x + t[:, None, None] * eps
        with mixed_precision():
            with torch.no_grad():
                texts = teacher.texts(tokens)
                nothing = tuple(e.expand(batch, *e.shape[1:]) for e in teacher.texts(empty))
                one = torch.ones(batch)
                v, v_empty = (guide(x_t, t, one, e, ids).float() for e in (texts, nothing))
                wanted = v_empty + w[:, None, None] * (v - v_empty)
            loss = F.mse_loss(compiled(x_t, t, w, texts, ids).float(), wanted)
        optimizer.param_groups[0]["lr"] = learning_rate(clock.done, 5e-4, step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        update_average(shadow, student, step)
        running += 0.02 * (loss.item() - running) if step else loss.item()
        if step % 50 == 0:
            print(f"distil {step} {clock.done:.0%} loss {running:.4f}", flush=True)
    return shadow


def save(folder: Path, vae: AutoencoderKL, net: Net, tokenizers: tuple) -> None:
    """A diffusers folder in bf16 that `FluxPipeline.from_pretrained` opens."""
    clip_tokenizer, t5_tokenizer = tokenizers
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False),
        vae=vae.to(memory_format=torch.contiguous_format),
        text_encoder=net.clip,
        tokenizer=clip_tokenizer,
        text_encoder_2=net.t5,
        tokenizer_2=t5_tokenizer,
        transformer=net.transformer,
    ).to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--vae-minutes", type=float, default=7)
    parser.add_argument("--flow-minutes", type=float, default=60)
    parser.add_argument("--distil-minutes", type=float, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pool", type=int, default=50_000, help="scenes encoded once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="weights to go on from (a snapshot)")
    args = parser.parse_args()

    tokenizers = build_tokenizers(corpus(random.Random(args.seed)))

    def tokenize(texts: list[str]) -> tuple[Tensor, Tensor]:
        pad = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        clip = tokenizers[0](texts, max_length=CLIP_LEN, **pad).input_ids
        return clip, tokenizers[1](texts, max_length=TEXT_LEN, **pad).input_ids

    work = args.output.with_suffix(".work")
    work.mkdir(parents=True, exist_ok=True)
    if (work / "vae").exists():
        vae = AutoencoderKL.from_pretrained(work / "vae").eval()
    else:
        vae = train_vae(args.vae_minutes, args.seed)
        vae.save_pretrained(work / "vae")
    pool = Pool(vae, tokenize, args.pool, args.seed + 1)
    torch.manual_seed(args.seed + 2)
    g = torch.Generator().manual_seed(args.seed + 3)
    net = Net(len(tokenizers[0]), len(tokenizers[1]), tokenizers[0].eos_token_id)
    if args.start:
        load_model(net, args.start)
    print(f"{sum(p.numel() for p in net.transformer.parameters()) / 1e6:.2f} M parameters")
    net = train_flow(net, pool, args.flow_minutes, g, args.batch, work / "snapshot.safetensors")
    save(work / "flow", copy.deepcopy(vae), copy.deepcopy(net), tokenizers)
    net = distil_guidance(net, pool, args.distil_minutes, g, args.batch)
    save(args.output, vae, net, tokenizers)


if __name__ == "__main__":
    main()
