"""Train the tiny Wan pipeline of `base_wan/`: tokenizer, VAE, UMT5, two experts.

    python -m tools.world.train_wan --output byg_train/world/base_wan
    python -m tools.world.train_wan --output runs/base_wan --start byg_train/world/base_wan

Flow matching with caption dropout: one network for all times, together with its text encoder, on
the first pictures of clips and then on whole clips; then a copy of it for each expert goes on at
that expert's times alone. A start from a finished base goes on with its VAE, then with whole clips
and one network for all times, the low expert's; both experts are copied from that anew.

Only combinations of the base's share of the clips are ever drawn (`clips.withheld`), and no
held-out name; the VAE, which need not know what it sees, is trained on all other names.
"""

from __future__ import annotations

import argparse
import copy
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from torch import Tensor, nn
from transformers import T5TokenizerFast, UMT5Config, UMT5EncoderModel

from byg_train.core.flow import noised
from byg_train.core.schedule import Span, draw_t_within
from byg_train.media.pixels import to_batch
from byg_train.world.clips import EDIT_TYPES, caption, draw, random_edit

from .lots import base_clip
from .train_vae import mixed_precision, update_average
from .train_wan_vae import LATENT_CHANNELS, train_vae
from .words import TEXT_LEN, build_tokenizers, training_caption

# Wan2.2's boundary with a shift that suits 108 tokens, where Wan's 12 suits 30,000: with 5, the
# experts share a sampling of 20 steps 9 to 11, and four rollout steps two to two.
BOUNDARY, SHIFT = 0.875, 5.0
SPANS: dict[str, Span] = {"high": (BOUNDARY, 1.0), "low": (0.0, BOUNDARY)}
TEXT_WIDTH = 128


class Words(nn.Module):
    """UMT5, zero behind the words, as Wan's pipeline has it."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.umt5 = UMT5EncoderModel(
            UMT5Config(
                vocab_size=vocabulary, d_model=TEXT_WIDTH, d_ff=256, d_kv=32, num_heads=4,
                num_layers=2, dropout_rate=0.0, feed_forward_proj="gated-gelu",
            )
        )  # fmt: skip

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.umt5(ids, mask).last_hidden_state.float() * mask[..., None]


def build_transformer() -> WanTransformer3DModel:
    """2.1 million parameters; embeds times in float32, as Wan does."""
    network = WanTransformer3DModel(
        num_layers=6, num_attention_heads=5, attention_head_dim=32, ffn_dim=320,
        in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS, text_dim=TEXT_WIDTH,
    )  # fmt: skip
    return network


class Pool:
    """Clips encoded once, told anew every time."""

    def __init__(
        self, vae: AutoencoderKLWan, tokenizer: T5TokenizerFast, size: int, seed: int
    ) -> None:
        self.rng, self.tokenizer = random.Random(seed), tokenizer
        self.clips = [base_clip(self.rng) for _ in range(size)]
        mean, std = (
            torch.tensor(v).view(1, -1, 1, 1, 1)
            for v in (vae.config.latents_mean, vae.config.latents_std)
        )
        parts = []
        for first in range(0, size, 32):
            x = to_batch(draw(clip) for clip in self.clips[first : first + 32])
            with torch.no_grad():
                z = vae.encode(x).latent_dist.mean
            parts.append(((z - mean) / std).to(torch.bfloat16))
        self.latents = torch.cat(parts)

    def batches(self, size: int) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
        """Latents (B, C, 3, 12, 12), and ids and mask (B, L) of their captions."""
        while True:
            rows = self.rng.sample(range(len(self.clips)), size)
            texts = [training_caption(caption, self.clips[r], self.rng) for r in rows]
            tokens = self.tokenizer(
                texts, max_length=TEXT_LEN, padding="max_length", truncation=True,
                return_tensors="pt",
            )  # fmt: skip
            yield self.latents[rows].float(), (tokens.input_ids, tokens.attention_mask)


class Phase(NamedTuple):
    """What is trained at which times, for how long and how fast."""

    name: str
    steps: int
    batch: int
    peak: float
    fall: float  # the share of the steps, at the end, in which the rate falls to 0
    span: Span = (0.0, 1.0)
    frames: int = 3  # of the latents; 1 is the first picture, a third of the tokens


PICTURES = Phase("pictures", 2400, 32, 1.5e-3, 0.2, frames=1)
CLIPS = Phase("clips", 900, 24, 1.5e-3, 0.2)
EXPERTS = (
    Phase("high", 200, 24, 7e-4, 1.0, SPANS["high"]),
    Phase("low", 350, 24, 7e-4, 1.0, SPANS["low"]),
)


def _draw_t(span: Span, size: int, g: torch.Generator) -> Tensor:
    """Half uniform, half as a sampling visits them; (B,) within the span."""
    halves = (draw_t_within(span, size // 2, g, "uniform", shift) for shift in (1.0, SHIFT))
    return torch.cat(list(halves))


def train_flow(
    words: Words,
    transformer: WanTransformer3DModel,
    pool: Pool,
    phase: Phase,
    g: torch.Generator,
) -> tuple[Words, WanTransformer3DModel]:
    """Flow matching, v = eps - x; a frozen `words` stays as it is. Returns the moving averages."""
    live = nn.ModuleDict({"words": words, "transformer": transformer})
    shadow = copy.deepcopy(live)
    parameters = [p for p in live.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, weight_decay=1e-2, betas=(0.9, 0.98), fused=True)
    running = 0.0
    for step, (clips, tokens) in zip(range(phase.steps), pool.batches(phase.batch), strict=False):
        x = clips[:, :, : phase.frames]
        eps, t = torch.randn(x.shape, generator=g), _draw_t(phase.span, phase.batch, g)
        with mixed_precision():
            v = transformer(noised(x, eps, t), 1000 * t, words(*tokens), return_dict=False)[0]
        loss = F.mse_loss(v.float(), eps - x)
        left = (1 - step / phase.steps) / phase.fall
        optimizer.param_groups[0]["lr"] = phase.peak * min(1.0, (step + 1) / 100, left)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        update_average(shadow, live, step, decay=0.995)
        running += 0.02 * (loss.item() - running) if step else loss.item()
        if step % 50 == 0:
            print(f"{phase.name} {step} loss {running:.4f}", flush=True)
    return shadow["words"], shadow["transformer"]


def save(
    folder: Path,
    vae: AutoencoderKLWan,
    tokenizer: T5TokenizerFast,
    words: Words,
    experts: dict[str, WanTransformer3DModel],
) -> None:
    """A diffusers folder in bf16 that `WanPipeline.from_pretrained` opens."""
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=SHIFT
    )
    WanPipeline(
        tokenizer=tokenizer,
        text_encoder=words.umt5,
        vae=vae,
        scheduler=scheduler,
        transformer=experts["high"],
        transformer_2=experts["low"],
        boundary_ratio=BOUNDARY,
    ).to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)


def corpus(rng: random.Random, lines: int = 10_000) -> list[str]:
    """Captions and instructions about known subjects; held-out names stay unknown words."""
    texts = []
    for i in range(lines):
        edit = random_edit(rng, EDIT_TYPES[i % len(EDIT_TYPES)])
        texts += [caption(edit.source), edit.instruction, edit.reverse_instruction]
    return [*texts, "a 3d render of an object rising on a blue ground"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--vae-steps", type=int, default=2100)
    parser.add_argument("--steps", type=float, default=1.0, help="times the usual number")
    parser.add_argument("--pool", type=int, default=3000, help="clips encoded once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vae", type=Path, help="a trained VAE to take")
    parser.add_argument("--start", type=Path, help="a finished base to go on from")
    args = parser.parse_args()

    start = args.start
    base = WanPipeline.from_pretrained(start, torch_dtype=torch.float32) if start else None
    tokenizer = base.tokenizer if base else build_tokenizers(corpus(random.Random(args.seed)))[1]
    if args.vae:
        vae = AutoencoderKLWan.from_pretrained(args.vae).eval()
    else:
        vae = train_vae(args.vae_steps, args.seed, base and base.vae)
    pool = Pool(vae, tokenizer, args.pool, args.seed + 1)
    torch.manual_seed(args.seed + 2)
    g = torch.Generator().manual_seed(args.seed + 3)
    words, network = Words(len(tokenizer)), build_transformer()
    if base:
        words.umt5, network = base.text_encoder, base.transformer_2
    print(f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters", flush=True)
    for phase in (CLIPS,) if base else (PICTURES, CLIPS):
        phase = phase._replace(steps=round(phase.steps * args.steps))
        words, network = train_flow(words, network, pool, phase, g)
    words.requires_grad_(False)  # both experts read the same words
    experts = {}
    for phase in EXPERTS:
        phase = phase._replace(steps=round(phase.steps * args.steps))
        _, experts[phase.name] = train_flow(words, copy.deepcopy(network), pool, phase, g)
    save(args.output, vae, tokenizer, words, experts)


if __name__ == "__main__":
    main()
