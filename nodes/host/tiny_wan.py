"""A small Wan 2.2 pair in diffusers' layout as ComfyUI's own two MODELs, CLIP and VAE.

ComfyUI's loaders know Wan's sizes alone; here the same classes are built at other ones, in float32.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.latent_formats
import comfy.ldm.wan.vae
import comfy.sd
import comfy.supported_models
import torch
from comfy.model_patcher import ModelPatcher
from comfy.text_encoders.wan import WanT5Model, WanT5Tokenizer
from torch import Tensor

from .tiny_files import Config, fill, read_config, read_weights, token_limit, unfilled, words

# diffusers' names -> Wan's own, in this order.
NETWORK = (
    (r"attn1\.", "self_attn."),
    (r"attn2\.", "cross_attn."),
    (r"\.to_([qkv])\.", r".\1."),
    (r"\.to_out\.0\.", ".o."),
    (r"\.norm2\.", ".norm3."),
    (r"ffn\.net\.0\.proj", "ffn.0"),
    (r"ffn\.net\.2", "ffn.2"),
    (r"(blocks.*)scale_shift_table", r"\1modulation"),
    (r"^scale_shift_table", "head.modulation"),
    (r"^proj_out", "head.head"),
    (r"condition_embedder\.text_embedder\.linear_1", "text_embedding.0"),
    (r"condition_embedder\.text_embedder\.linear_2", "text_embedding.2"),
    (r"condition_embedder\.time_embedder\.linear_1", "time_embedding.0"),
    (r"condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
    (r"condition_embedder\.time_proj", "time_projection.1"),
)
AUTOENCODER = (
    (r"^quant_conv", "conv1"),
    (r"^post_quant_conv", "conv2"),
    (r"\.conv_in\.", ".conv1."),
    (r"\.norm_out\.", ".head.0."),
    (r"\.conv_out\.", ".head.2."),
    (r"mid_block\.resnets\.0", "middle.0"),
    (r"mid_block\.attentions\.0", "middle.1"),
    (r"mid_block\.resnets\.1", "middle.2"),
    (r"down_blocks", "downsamples"),
    (r"(downsamples|upsamples|middle)(\.\d+)\.norm1\.", r"\1\2.residual.0."),
    (r"(downsamples|upsamples|middle)(\.\d+)\.conv1\.", r"\1\2.residual.2."),
    (r"(downsamples|upsamples|middle)(\.\d+)\.norm2\.", r"\1\2.residual.3."),
    (r"(downsamples|upsamples|middle)(\.\d+)\.conv2\.", r"\1\2.residual.6."),
    (r"conv_shortcut", "shortcut"),
)


def _renamed(weights: dict[str, Tensor], table: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    renamed = {}
    for name, weight in weights.items():
        for pattern, to in table:
            name = re.sub(pattern, to, name)
        renamed[name] = weight
    return renamed


# ---------------------------------------------------------------- MODEL


def load_models(folder: Path) -> tuple[ModelPatcher, ModelPatcher]:
    """Load both transformers: of high noise and of low."""
    return tuple(_load_model(folder, part) for part in ("transformer", "transformer_2"))


def network_shape(folder: Path, part: str) -> Config:
    """Return a transformer's sizes under ComfyUI's names."""
    c = read_config(folder, part)
    return {
        "image_model": "wan2.1",
        "model_type": "t2v",
        "dim": c["num_attention_heads"] * c["attention_head_dim"],
        "in_dim": c["in_channels"],
        "out_dim": c["out_channels"],
        "num_heads": c["num_attention_heads"],
        "ffn_dim": c["ffn_dim"],
        "num_layers": c["num_layers"],
        "patch_size": tuple(c["patch_size"]),
        "freq_dim": c["freq_dim"],
        "window_size": (-1, -1),
        "qk_norm": True,
        "cross_attn_norm": c["cross_attn_norm"],
        "eps": c["eps"],
        "text_dim": c["text_dim"],
        "text_len": token_limit(folder, "tokenizer"),
    }


def _load_model(folder: Path, part: str) -> ModelPatcher:
    config = comfy.supported_models.WAN21_T2V(network_shape(folder, part))
    model = unfilled(config, _latent_format(read_config(folder, "vae")))
    fill(model.model.diffusion_model, _renamed(read_weights(folder, part), NETWORK))
    return model


def _latent_format(vae: Config) -> comfy.latent_formats.LatentFormat:
    """Return the normalisation of the transformers' latents."""
    latent_format = comfy.latent_formats.Wan21()
    latent_format.latent_channels = vae["z_dim"]
    latent_format.latents_mean, latent_format.latents_std = (
        torch.tensor(vae[name]).view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std")
    )
    latent_format.latent_rgb_factors = latent_format.taesd_decoder_name = None  # no live previews
    return latent_format


# ---------------------------------------------------------------- CLIP


def load_clip(folder: Path) -> comfy.sd.CLIP:
    """Load UMT5 with the pipeline's own tokenizer."""
    umt5 = read_config(folder, "text_encoder")
    umt5 |= {"dense_act_fn": "gelu_pytorch_tanh"}  # ComfyUI's name of "gelu_new"
    options = {"umt5xxl_model_config": umt5, "dtype": torch.float32}
    target = SimpleNamespace(params={}, clip=WanT5Model, tokenizer=partial(WanWords, folder))
    loaded = comfy.sd.CLIP(target, model_options=options)
    weights = read_weights(folder, "text_encoder")
    weights.pop("encoder.embed_tokens.weight", None)  # the same as `shared`
    fill(loaded.cond_stage_model.umt5xxl.transformer, weights)
    return loaded


class WanWords(WanT5Tokenizer):
    """Wan's tokenizer with the tiny pipeline's file and length."""

    def __init__(self, folder: Path, embedding_directory: Any = None, **_: Any) -> None:
        self.clip_name, self.clip = "umt5xxl", "clip_umt5xxl"
        self.clip_umt5xxl = words(folder, "tokenizer", "umt5xxl", embedding_directory)


# ---------------------------------------------------------------- VAE


def load_vae(folder: Path) -> comfy.sd.VAE:
    """Load the autoencoder of clips in place of a stock VAE's."""
    c = read_config(folder, "vae")
    # ComfyUI tells the kind of a VAE by its weights; these are of the stock sizes, which ComfyUI
    # 0.3.64 takes for granted, and without memory: what they make is swapped for ours.
    shape = {"num_res_blocks": 2, "attn_scales": [], "temperal_downsample": [False, True, True]}
    with torch.device("meta"):
        stock = comfy.ldm.wan.vae.WanVAE(dim=96, z_dim=16, dim_mult=[1, 2, 4, 4], **shape)
        vae = comfy.sd.VAE(sd=stock.state_dict(), dtype=torch.float32)
    own = {name: c[name] for name in ("z_dim", "dim_mult", *shape)}
    network = comfy.ldm.wan.vae.WanVAE(dim=c["base_dim"], **own)
    weights = _flat(read_weights(folder, "vae"), c["num_res_blocks"])
    fill(network, _renamed(weights, AUTOENCODER))
    vae.first_stage_model = network.eval()
    vae.patcher = ModelPatcher(network, vae.patcher.load_device, vae.patcher.offload_device)
    vae.latent_channels, side = c["z_dim"], 2 ** (len(c["dim_mult"]) - 1)
    vae.upscale_ratio, vae.downscale_ratio = (
        (ratio[0], side, side) for ratio in (vae.upscale_ratio, vae.downscale_ratio)
    )
    vae.upscale_index_formula = vae.downscale_index_formula = (4, side, side)
    return vae


def _flat(weights: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Rename the decoder's blocks, which diffusers counts by level and Wan continuously."""

    def counted(match: re.Match) -> str:
        level, kind, number = int(match[1]), match[2], int(match[3])
        inside = number if kind == "resnets" else blocks + 1
        return f"upsamples.{level * (blocks + 2) + inside}"

    level = re.compile(r"up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)")
    return {level.sub(counted, name): weight for name, weight in weights.items()}
