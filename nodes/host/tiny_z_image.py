"""A small Z-Image pipeline in diffusers' layout as ComfyUI's own MODEL and CLIP.

ComfyUI's loaders know the sizes of the 6 B model alone. The VAE is of FLUX's kind: `tiny.load_vae`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import comfy.ops
import comfy.sd
import comfy.supported_models
import comfy.utils
import torch
from comfy import sd1_clip
from comfy.ldm.modules.diffusionmodules.mmdit import TimestepEmbedder
from comfy.model_patcher import ModelPatcher
from comfy.text_encoders.z_image import ZImageTEModel, ZImageTokenizer

from .tiny import latent_format, original
from .tiny_files import Config, FromJson, fill, read_config, read_weights, unfilled

# What diffusers does not say: fixed in its class, or another name in ComfyUI.
FIXED = {
    "image_model": "lumina2",
    "patch_size": 2,
    "ffn_dim_multiplier": 8 / 3,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}
SAME = ("in_channels", "dim", "n_layers", "n_refiner_layers", "n_heads", "n_kv_heads")
SAME += ("cap_feat_dim", "qk_norm", "axes_dims", "axes_lens", "rope_theta")
TIMES, MODULATION = 1024, 256  # widths: inside of the embedder of times, and at most behind it
# The fields of ComfyUI's configuration of Qwen3; its heads are always 128 wide.
QWEN = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
QWEN += ("num_attention_heads", "num_key_value_heads", "rms_norm_eps")


def load_model(folder: Path) -> ModelPatcher:
    """Load the transformer."""
    c = read_config(folder, "transformer")
    shape: Config = FIXED | {name: c[name] for name in SAME}
    config = comfy.supported_models.ZImage(shape)
    model = unfilled(config, latent_format(read_config(folder, "vae")))
    network = model.model.diffusion_model
    # Of a network less wide than these, diffusers and ComfyUI shrink different ones.
    sizes = {"hidden_size": TIMES, "output_size": min(c["dim"], MODULATION)}
    network.t_embedder = TimestepEmbedder(**sizes, operations=comfy.ops.disable_weight_init)
    table = comfy.utils.z_image_to_diffusers(shape)
    weights = original(read_weights(folder, "transformer"), table)
    fill(network, weights, spare=("norm_final.",))  # of earlier hosts, which do not use it
    return model


def load_clip(folder: Path) -> comfy.sd.CLIP:
    """Qwen3 with the pipeline's own tokenizer."""
    c = read_config(folder, "text_encoder")
    if c["head_dim"] != 128:
        raise ValueError(f"{folder}: heads of Qwen3 {c['head_dim']} wide; ComfyUI's are 128")
    options = {"qwen3_4b_model_config": {name: c[name] for name in QWEN}, "dtype": torch.float32}
    words = partial(_Words, folder / "tokenizer", c["pad_token_id"])
    found = comfy.sd.CLIP(
        SimpleNamespace(params={}, clip=ZImageTEModel, tokenizer=ZImageTokenizer),
        tokenizer_data={"qwen3_4b_tokenizer_class": words},
        model_options=options,
    )
    encoder = found.cond_stage_model.qwen3_4b
    encoder.special_tokens = {"pad": c["pad_token_id"]}
    weights = read_weights(folder, "text_encoder")
    fill(encoder.transformer.model, {n.removeprefix("model."): w for n, w in weights.items()})
    return found


class _Words(sd1_clip.SDTokenizer):
    """A tokenizer like ComfyUI's own of Qwen3, of the tiny pipeline's file."""

    def __init__(
        self,
        folder: Path,
        padding: int,
        embedding_directory: str | None = None,
        tokenizer_data: Config | None = None,
    ) -> None:
        super().__init__(
            folder,
            tokenizer_class=FromJson,
            embedding_directory=embedding_directory,
            embedding_key="qwen3_4b",
            has_start_token=False,
            has_end_token=False,
            pad_with_end=False,
            pad_to_max_length=False,
            max_length=99999999,
            min_length=1,
            pad_token=padding,
        )
