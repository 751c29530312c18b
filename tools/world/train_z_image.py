"""Train the tiny Z-Image pipeline of `base_z_image/`: tokenizer, Qwen3 and transformer.

    python -m tools.world.train_z_image --output byg_train/world/base_z_image

The VAE is the tiny FLUX's and stays in its folder. So are the lessons: at every x_t the network
learns the velocity of the tiny FLUX at guidance 1, which has no noise of eps - x in it. Scenes and
captions are the same, so this base has never seen what that one has not (`scenes.withheld`).
"""

from __future__ import annotations

import argparse
import random
import shutil
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from safetensors.torch import load_model
from torch import Tensor, nn
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

from byg_train.core.flow import noised

from .train_base import BASE, CLIP_LEN, TEXT_LEN, pack
from .train_flow import Loss, Pool, descend, draw_t
from .train_vae import LATENT_CHANNELS
from .words import build_qwen_tokenizer, corpus

WIDTH = 128  # of the text


class Net(nn.Module):
    """Text encoder and transformer trained as one."""

    def __init__(self, tokenizer: Qwen2Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.qwen = Qwen3Model(
            Qwen3Config(
                vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=256,
                num_hidden_layers=3, num_attention_heads=1, num_key_value_heads=1, head_dim=128,
                rope_parameters={"rope_type": "default", "rope_theta": 1e6},
                pad_token_id=tokenizer.pad_token_id, use_cache=False,
            )
        )  # fmt: skip
        self.transformer = ZImageTransformer2DModel(
            in_channels=LATENT_CHANNELS, dim=192, n_layers=6, n_refiner_layers=1, n_heads=3,
            n_kv_heads=3, cap_feat_dim=WIDTH, axes_dims=[16, 24, 24], axes_lens=[512, 64, 64],
        )  # fmt: skip

    def texts(self, captions: list[str]) -> list[Tensor]:
        """The last state but one of the words of each caption."""
        chats = [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
            for text in captions
        ]
        tokens = self.tokenizer(chats, padding=True, return_tensors="pt")
        ids, mask = tokens.input_ids, tokens.attention_mask
        states = self.qwen(ids, mask, output_hidden_states=True).hidden_states[-2]
        return [state[real] for state, real in zip(states, mask.bool(), strict=True)]

    def forward(self, x_t: Tensor, t: Tensor, captions: list[str]) -> Tensor:
        """The velocity of latents (B, C, h, w); time runs backwards in the transformer."""
        images = list(x_t[:, :, None].unbind())
        outputs = self.transformer(images, 1 - t, self.texts(captions), return_dict=False)[0]
        return -torch.stack(outputs)[:, :, 0]


class Teacher:
    """The tiny FLUX at guidance 1."""

    def __init__(self, pipeline: FluxPipeline) -> None:
        self.pipeline = pipeline
        self.transformer = torch.compile(pipeline.transformer)

    @torch.no_grad()
    def __call__(self, x_t: Tensor, t: Tensor, captions: list[str]) -> Tensor:
        """Its velocity of latents (B, C, h, w)."""
        b, c, h, w = x_t.shape
        pipe = self.pipeline
        whole = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        clip = pipe.tokenizer(captions, max_length=CLIP_LEN, **whole).input_ids
        t5 = pipe.tokenizer_2(captions, max_length=TEXT_LEN, **whole).input_ids
        v = self.transformer(
            hidden_states=pack(x_t), timestep=t, guidance=torch.ones(b),
            pooled_projections=pipe.text_encoder(clip).pooler_output,
            encoder_hidden_states=pipe.text_encoder_2(t5).last_hidden_state,
            txt_ids=torch.zeros(TEXT_LEN, 3),
            img_ids=pipe._prepare_latent_image_ids(1, h // 2, w // 2, "cpu", torch.float32),
            return_dict=False,
        )[0]  # fmt: skip
        factor = pipe.vae_scale_factor
        return pipe._unpack_latents(v.float(), h * factor, w * factor, factor)


def lesson(net: Net, teacher: Teacher, g: torch.Generator) -> Loss:
    """The distance from the teacher's velocity."""

    def loss(x: Tensor, captions: list[str]) -> Tensor:
        t = draw_t(len(x), g)
        x_t = noised(x, torch.randn(x.shape, generator=g), t)
        return F.mse_loss(net(x_t, t, captions).float(), teacher(x_t, t, captions))

    return loss


def save(folder: Path, vae: AutoencoderKL, net: Net) -> None:
    """A diffusers folder in bf16, without the VAE: that of the tiny FLUX is shared."""
    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0, use_dynamic_shifting=False),
        vae=vae,
        text_encoder=net.qwen,
        tokenizer=net.tokenizer,
        transformer=net.transformer,
    )
    pipeline.to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)
    shutil.rmtree(folder / "vae")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pool", type=int, default=30_000, help="scenes encoded once")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="weights to go on from (a snapshot)")
    args = parser.parse_args()

    flux = FluxPipeline.from_pretrained(BASE, torch_dtype=torch.float32)
    tokenizer = build_qwen_tokenizer(corpus(random.Random(args.seed)))
    work = args.output.with_suffix(".work")
    work.mkdir(parents=True, exist_ok=True)
    pool = Pool(flux.vae, args.pool, args.seed + 1)
    torch.manual_seed(args.seed + 2)
    g = torch.Generator().manual_seed(args.seed + 3)
    net = Net(tokenizer)
    if args.start:
        load_model(net, args.start)
    print(f"{sum(p.numel() for p in net.transformer.parameters()) / 1e6:.2f} M parameters")
    loss, snapshot = lesson(net, Teacher(flux), g), work / "snapshot.safetensors"
    net = descend("flow", net, loss, pool.batches(args.batch), args.minutes, 1.5e-3, snapshot)
    save(args.output, flux.vae, net)


if __name__ == "__main__":
    main()
