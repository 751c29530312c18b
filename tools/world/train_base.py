"""Train the tiny FLUX pipeline of `base/` from scratch: tokenizers, VAE, encoders, transformer.

    python -m tools.world.train_base --output byg_train/world/base
    python -m tools.world.train_base --output runs/wide/base --wide --start byg_train/world/base

Three phases: an AutoencoderKL on pictures; flow matching with caption dropout (guidance embedding
held at 1); guidance distillation, in which one pass learns what classifier-free guidance needs two
for, as in FLUX.1-dev. Only combinations of the base's share of the world are ever drawn
(`scenes.withheld`), and no held-out name. A base of the wide world starts from a finished one, and
keeps its VAE.
"""

from __future__ import annotations

import argparse
import copy
import random
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from safetensors.torch import load_model
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from byg_train.core.flow import noised
from byg_train.family import WORLD
from byg_train.world import scenes, wide

from .train_flow import Loss, Pool, descend, draw_t
from .train_vae import LATENT_CHANNELS, train_vae
from .words import CLIP_LEN, TEXT_LEN, build_tokenizers, corpus

BASE = WORLD / "base"
# Captions -> ids for CLIP and T5.
Tokenize = Callable[[list[str]], tuple[Tensor, Tensor]]


class Net(nn.Module):
    """Text encoders and transformer trained as one."""

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
        self, x_t: Tensor, t: Tensor, guidance: Tensor, texts: tuple[Tensor, Tensor]
    ) -> Tensor:
        """The packed velocity of latents (B, C, h, w)."""
        height, width = (side // 2 for side in x_t.shape[2:])
        ids = FluxPipeline._prepare_latent_image_ids(1, height, width, "cpu", torch.float32)
        return self.transformer(
            hidden_states=pack(x_t), timestep=t, guidance=guidance, pooled_projections=texts[0],
            encoder_hidden_states=texts[1], img_ids=ids,
            txt_ids=torch.zeros(texts[1].shape[1], 3), return_dict=False,
        )[0]  # fmt: skip


def pack(z: Tensor) -> Tensor:
    return FluxPipeline._pack_latents(z, *z.shape)


def flow_loss(net: Net, tokenize: Tokenize, g: torch.Generator) -> Loss:
    """Flow matching, v = eps - x, guidance embedding 1."""
    compiled = torch.compile(net)

    def loss(x: Tensor, captions: list[str]) -> Tensor:
        eps, t = torch.randn(x.shape, generator=g), draw_t(len(x), g)
        v = compiled(noised(x, eps, t), t, torch.ones(len(x)), net.texts(tokenize(captions)))
        return F.mse_loss(v.float(), pack(eps - x))

    return loss


def guidance_loss(student: Net, teacher: Net, tokenize: Tokenize, g: torch.Generator) -> Loss:
    """One pass with guidance embedding w learns v_empty + w (v_caption - v_empty), w in [1, 4]."""
    compiled, guide, empty = torch.compile(student), torch.compile(teacher), tokenize([""])

    def loss(x: Tensor, captions: list[str]) -> Tensor:
        b = len(x)
        t, w = draw_t(b, g), 1 + 3 * torch.rand(b, generator=g)
        x_t = noised(x, torch.randn(x.shape, generator=g), t)
        with torch.no_grad():
            texts = teacher.texts(tokenize(captions))
            nothing = tuple(e.expand(b, *e.shape[1:]) for e in teacher.texts(empty))
            v, v_empty = (guide(x_t, t, torch.ones(b), e).float() for e in (texts, nothing))
            wanted = v_empty + w[:, None, None] * (v - v_empty)
        return F.mse_loss(compiled(x_t, t, w, texts).float(), wanted)

    return loss


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


def carry_on(net: Net, tokenizers: tuple, base: FluxPipeline) -> None:
    """Take over the weights of a finished base, and of each word that it knows its embedding."""
    net.transformer.load_state_dict(base.transformer.state_dict())
    encoders = (net.clip, base.text_encoder), (net.t5, base.text_encoder_2)
    known = base.tokenizer, base.tokenizer_2
    for (mine, its), tokenizer, of_base in zip(encoders, tokenizers, known, strict=True):
        words, its_words = tokenizer.get_vocab(), of_base.get_vocab()
        shared = words.keys() & its_words.keys()
        table = mine.get_input_embeddings().weight.detach().clone()
        rows = its.get_input_embeddings().weight.detach()
        table[[words[w] for w in shared]] = rows[[its_words[w] for w in shared]]
        its.set_input_embeddings(nn.Embedding.from_pretrained(table))
        mine.load_state_dict(its.state_dict())


def open_vae(work: Path, base: FluxPipeline | None, minutes: float, seed: int) -> AutoencoderKL:
    """The VAE of an earlier call or of a finished base, or else a new one."""
    if (work / "vae").exists():
        return AutoencoderKL.from_pretrained(work / "vae").eval()
    vae = base.vae.eval() if base else train_vae(minutes, seed)
    vae.save_pretrained(work / "vae")
    return vae


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--wide", action="store_true", help="of the wide world (world/wide.py)")
    parser.add_argument("--vae-minutes", type=float, default=7)
    parser.add_argument("--flow-minutes", type=float, default=60)
    parser.add_argument("--distil-minutes", type=float, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pool", type=int, default=50_000, help="scenes encoded once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="a finished base to go on from, or a snapshot")
    return parser.parse_args()


def main() -> None:
    args = parse()
    world = wide if args.wide else scenes
    tokenizers = build_tokenizers(corpus(random.Random(args.seed), draw_lot=world.random_edit))

    def tokenize(texts: list[str]) -> tuple[Tensor, Tensor]:
        pad = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        clip = tokenizers[0](texts, max_length=CLIP_LEN, **pad).input_ids
        return clip, tokenizers[1](texts, max_length=TEXT_LEN, **pad).input_ids

    work = args.output.with_suffix(".work")
    work.mkdir(parents=True, exist_ok=True)
    finished = args.start and args.start.is_dir()
    base = FluxPipeline.from_pretrained(args.start, torch_dtype=torch.float32) if finished else None
    vae = open_vae(work, base, args.vae_minutes, args.seed)
    pool = Pool(vae, args.pool, args.seed + 1, world.random_scene)
    torch.manual_seed(args.seed + 2)
    g = torch.Generator().manual_seed(args.seed + 3)
    net = Net(len(tokenizers[0]), len(tokenizers[1]), tokenizers[0].eos_token_id)
    if base:
        carry_on(net, tokenizers, base)
    elif args.start:
        load_model(net, args.start)
    print(f"{sum(p.numel() for p in net.transformer.parameters()) / 1e6:.2f} M parameters")
    batches = pool.batches(args.batch)
    loss, snapshot = flow_loss(net, tokenize, g), work / "snapshot.safetensors"
    teacher = descend("flow", net, loss, batches, args.flow_minutes, 1.5e-3, snapshot)
    save(work / "flow", copy.deepcopy(vae), copy.deepcopy(teacher), tokenizers)
    student = copy.deepcopy(teacher.eval().requires_grad_(False))
    student.transformer.requires_grad_(True)
    loss = guidance_loss(student, teacher, tokenize, g)
    student = descend("distil", student, loss, batches, args.distil_minutes, 5e-4)
    save(args.output, vae, student, tokenizers)


if __name__ == "__main__":
    main()
