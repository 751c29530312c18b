"""A small FLUX pipeline in diffusers' layout as ComfyUI's own MODEL, CLIP and VAE.

ComfyUI's loaders know FLUX.1's sizes alone, so the parts are built here, of its classes, in
float32, which no machine emulates. Everything comes from the folder's JSON and safetensors files;
diffusers is not needed.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.diffusers_convert
import comfy.latent_formats
import comfy.ldm.flux.model
import comfy.ops
import comfy.sd
import comfy.supported_models
import comfy.utils
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.model_patcher import ModelPatcher
from comfy.text_encoders.flux import FluxClipModel, FluxTokenizer
from torch import Tensor, nn

from .tiny_files import Config, fill, read_config, read_weights, unfilled, words

# Widths of ComfyUI's VAE are multiples of this.
STOCK_GROUPS = 32


# ---------------------------------------------------------------- MODEL


def load_model(folder: Path) -> ModelPatcher:
    """Load the transformer."""
    c, vae = read_config(folder, "transformer"), read_config(folder, "vae")
    shape = {
        "image_model": "flux",
        "in_channels": c["in_channels"] // 4,
        "out_channels": c["in_channels"] // 4,
        "vec_in_dim": c["pooled_projection_dim"],
        "context_in_dim": c["joint_attention_dim"],
        "hidden_size": c["attention_head_dim"] * c["num_attention_heads"],
        "mlp_ratio": 4.0,
        "num_heads": c["num_attention_heads"],
        "depth": c["num_layers"],
        "depth_single_blocks": c["num_single_layers"],
        "axes_dim": c["axes_dims_rope"],
        "theta": 10000,
        "patch_size": 2,
        "qkv_bias": True,
        "guidance_embed": c["guidance_embeds"],
    }
    if "txt_ids_dims" in comfy.ldm.flux.model.FluxParams.__dataclass_fields__:
        shape["txt_ids_dims"] = []  # of later hosts
    model = unfilled(comfy.supported_models.Flux(shape), latent_format(vae))
    table = comfy.utils.flux_to_diffusers(shape)
    fill(model.model.diffusion_model, original(read_weights(folder, "transformer"), table))
    return model


def latent_format(vae: Config) -> comfy.latent_formats.LatentFormat:
    """Return the normalisation of the transformer's latents."""
    normalised = comfy.latent_formats.Flux()
    normalised.latent_channels = vae["latent_channels"]
    normalised.scale_factor = vae["scaling_factor"]
    normalised.shift_factor = vae["shift_factor"]
    normalised.latent_rgb_factors = normalised.taesd_decoder_name = None  # no live previews
    return normalised


def original(weights: dict[str, Tensor], table: dict[str, str | tuple]) -> dict[str, Tensor]:
    """Rename weights from diffusers' names by ComfyUI's table, which joins q, k and v."""
    originals: dict[str, dict[int, Tensor]] = {}
    for name, weight in weights.items():
        place = table[name]
        key, part, change = (*((place,) if isinstance(place, str) else place), None, None)[:3]
        rows = part[1] if part else 0
        originals.setdefault(key, {})[rows] = change(weight) if change else weight
    return {key: torch.cat([rows[i] for i in sorted(rows)]) for key, rows in originals.items()}


# ---------------------------------------------------------------- CLIP


def load_clip(folder: Path) -> comfy.sd.CLIP:
    """Load CLIP for the pooled embedding and T5 for the tokens, with the pipeline's tokenizers."""
    clip, t5 = read_config(folder, "text_encoder"), read_config(folder, "text_encoder_2")
    t5 |= {"dense_act_fn": "gelu_pytorch_tanh"}  # ComfyUI's name of "gelu_new"
    options = {
        "clip_l_model_config": clip,
        "t5xxl_model_config": t5,
        "dtype": torch.float32,
    }
    target = SimpleNamespace(params={}, clip=FluxClipModel, tokenizer=partial(FluxWords, folder))
    loaded = comfy.sd.CLIP(target, model_options=options)
    encoder = loaded.cond_stage_model.clip_l
    embedding = comfy.ops.manual_cast.Embedding(clip["vocab_size"], clip["hidden_size"])
    encoder.transformer.set_input_embeddings(embedding)  # ComfyUI's has CLIP's own number of words
    ends = {"start": clip["bos_token_id"], "end": clip["eos_token_id"], "pad": clip["eos_token_id"]}
    encoder.special_tokens = ends
    weights = {
        f"text_model.{name.removeprefix('text_model.')}": weight
        for name, weight in read_weights(folder, "text_encoder").items()
    }
    fill(encoder.transformer, weights, spare=("text_projection",))
    encoder.transformer.text_projection = nn.Identity()  # FLUX takes what comes before it
    fill(loaded.cond_stage_model.t5xxl.transformer, read_weights(folder, "text_encoder_2"))
    return loaded


class FluxWords(FluxTokenizer):
    """FLUX's pair of tokenizers with the tiny pipeline's files and lengths."""

    def __init__(self, folder: Path, embedding_directory: Any = None, **_: Any) -> None:
        # ComfyUI adds all positions to CLIP's tokens; what follows the end is never seen.
        positions = read_config(folder, "text_encoder")["max_position_embeddings"]
        self.clip_l = words(folder, "tokenizer", "clip_l", embedding_directory, positions)
        self.t5xxl = words(folder, "tokenizer_2", "t5xxl", embedding_directory)


# ---------------------------------------------------------------- VAE


def load_vae(folder: Path) -> comfy.sd.VAE:
    """Load the autoencoder into a stock VAE whose layers are replaced by smaller ones.

    ComfyUI's own always has 32 groups in its norms, attention in the middle, and a 1 x 1
    convolution on either side of the latents.
    """
    c = read_config(folder, "vae")
    widths, z = c["block_out_channels"], c["latent_channels"]
    shape = {
        "ch": STOCK_GROUPS,
        "ch_mult": [width // widths[0] for width in widths],
        "num_res_blocks": c["layers_per_block"],
        "z_channels": z,
        "in_channels": 3,
        "out_ch": 3,
        "resolution": 256,
        "attn_resolutions": [],
        "double_z": True,
    }
    params = {"ddconfig": shape, "embed_dim": z}
    stock = AutoencoderKL(**params).state_dict()
    vae = comfy.sd.VAE(sd=stock, config={"params": params}, dtype=torch.float32)
    weights = comfy.diffusers_convert.convert_vae_state_dict(read_weights(folder, "vae"))
    # Its table counts the levels of the decoder down from the four of FLUX.1's.
    weights = {_recounted(name, 4 - len(widths)): weight for name, weight in weights.items()}
    for name, size in (("quant_conv", 2 * z), ("post_quant_conv", z)):
        weights[f"{name}.weight"] = torch.eye(size)[..., None, None]
        weights[f"{name}.bias"] = torch.zeros(size)
    network = vae.first_stage_model
    for half in (network.encoder, network.decoder):
        half.mid.attn_1 = nn.Identity()
    _resize(network, weights, c["norm_num_groups"])
    fill(network, weights)
    vae.latent_channels = z
    vae.downscale_ratio = vae.upscale_ratio = 2 ** (len(widths) - 1)
    vae.size, vae.patcher.size = None, 0  # counted again when asked for
    return vae


def _recounted(name: str, fewer: int) -> str:
    parts = name.split(".")
    if parts[:2] == ["decoder", "up"]:
        parts[2] = str(int(parts[2]) - fewer)
    return ".".join(parts)


def _resize(network: nn.Module, weights: dict[str, Tensor], groups: int) -> None:
    """Replace convolutions and norms by ones that have the sizes of their weights."""
    for name, layer in list(network.named_modules()):
        size = weights[f"{name}.weight"].shape if f"{name}.weight" in weights else ()
        if isinstance(layer, nn.Conv2d):
            other = type(layer)(size[1], size[0], size[2:], layer.stride, layer.padding)
        elif isinstance(layer, nn.GroupNorm):
            other = type(layer)(groups, size[0], eps=layer.eps)
        else:
            continue
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, other)
