"""Editing a picture with a trained LoRA, outside of ComfyUI."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .backbones import Backbone, load_backbone
from .config import ConfigError, LoraSettings, ModelConfig, build_config
from .cost import network
from .data.pictures import rgb
from .fit import Fit
from .flow import integrate
from .lora import LoraBank
from .lora_file import LoraFile, LoraInfo, read_lora
from .samples import sampling_grid, to_pictures


class Editor(NamedTuple):
    """A LoRA file, what it says of itself, and the base it is to run on."""

    path: Path
    file: LoraFile
    info: LoraInfo
    model: ModelConfig


def open_lora(lora: Path, model: str | None, components: str | None = None) -> Editor:
    """Read a LoRA and check it against its base, as far as this goes without loading the base.

    `model` and `components` None: those that the LoRA was trained on.
    """
    try:
        file = read_lora(lora)
        info = LoraInfo.from_metadata(file.metadata)
    except ValueError as error:
        raise ConfigError(f"--lora {lora}: {error}") from None
    tables = {
        "family": info.family,
        "path": model or info.base,
        "components": components or info.components,
        # A revision is one of the names that it was recorded with.
        "revision": None if model or components else info.revision,
        "text_len": info.text_len,
        "reference_mode": info.reference_mode,
    }
    editor = Editor(lora, file, info, build_config({"model": tables}).model)
    if why := wrong_width(file, editor.model):
        raise _misfit(editor, why)
    return editor


def wrong_width(file: LoraFile, model: ModelConfig) -> str | None:
    """Why a LoRA cannot fit a base by the width of its layers; None if it may fit."""
    width = network(model).width
    for name, tensor in file.tensors.items():
        if name.endswith("attn.to_q.lora_A.weight") and tensor.shape[1] != width:
            return f"its layers are {tensor.shape[1]} wide, the model's {width}"
    return None


def edit_image(
    lora: Path,
    image: Image.Image,
    instruction: str,
    *,
    model: str | None,
    strength: float,
    seeds: list[int],
    device: str,
    components: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
    on_result: Callable[[Image.Image], None] = lambda result: None,
) -> list[Image.Image]:
    """Edit a picture once per seed; every result has exactly the upright source's size.

    Args:
        lora: a file that byg_train wrote; its metadata says how it is to be sampled.
        image: any mode and size; an alpha channel is put back on the results.
        instruction: what to change.
        model: hub id, folder or file of the base; None: the one the LoRA was trained on.
        strength: of the LoRA; 1 as trained, 0 the bare base.
        seeds: of the noise, which is drawn on the CPU and so the same on every device.
        device: cpu or cuda.
        components: for a single-file base, where its VAE and text encoders are; None: as trained.
        steps: Euler steps; None: as in the metadata.
        guidance: of the guidance embedding; None: as in the metadata.
        on_progress: called with (done, of) after every evaluation of the model.
        on_result: called with every result as soon as it is finished.
    """
    editor = open_lora(lora, model, components)
    info, image = editor.info, ImageOps.exif_transpose(image)
    fit = Fit.of(*image.size, info.resolution, info.multiple)
    backbone = load_backbone(editor.model, device)
    attach(editor, backbone, strength)
    source = backbone.encode_pixels(fit.apply(_pixels(image)).to(device))
    text = backbone.encode_text([instruction])
    backbone.drop_encoders()
    w = info.guidance_sample if guidance is None else guidance
    velocity = partial(backbone.velocity, text=text, source=source, guidance=w)
    grid = sampling_grid(steps or info.sample_steps, info.sample_shift, source)
    results = []
    for i, seed in enumerate(seeds):

        def each(done: int, of: int, i: int = i) -> None:
            on_progress(i * of + done, len(seeds) * of)

        with torch.no_grad():
            y_0 = integrate(velocity, _noise(source, seed), grid, each)
            pixels = fit.undo(backbone.decode_latents(y_0).cpu().clamp(-1, 1))
        results.append(_finished(to_pictures(pixels)[0], image))
        on_result(results[-1])
    return results


def attach(editor: Editor, backbone: Backbone, strength: float) -> LoraBank:
    """Put the LoRA into the loaded base; raises when it does not fit."""
    modules = sorted({name.rsplit(".lora_", 1)[0] for name in editor.file.tensors})
    settings = LoraSettings(rank=editor.info.rank, targets=modules)
    scaled = {
        name: tensor.float() * strength if name.endswith(".lora_B.weight") else tensor
        for name, tensor in editor.file.tensors.items()
    }
    try:
        bank = LoraBank(backbone.experts, settings, None, 0)
        for expert in backbone.experts:
            bank.load_tensors(expert, scaled)
    except ConfigError as error:
        raise _misfit(editor, str(error)) from None
    return bank


def _misfit(editor: Editor, why: str) -> ConfigError:
    return ConfigError(
        f"{editor.path} does not fit {editor.model.path}: it was trained on {editor.info.base} "
        f"({why}). Pass --model with that base, or choose a LoRA of this one"
    )


def _noise(source: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(source.shape, generator=generator).to(source)


def _pixels(image: Image.Image) -> Tensor:
    """An upright picture -> (1, 3, 1, H, W) in [-1, 1]."""
    array = np.array(rgb(image))
    return torch.from_numpy(array).permute(2, 0, 1)[None, :, None].float() / 127.5 - 1


def _finished(result: Image.Image, source: Image.Image) -> Image.Image:
    """With what a picture has besides colours: the source's transparency and colour profile.

    The profile of a grey or CMYK source says nothing about the result, which is RGB.
    """
    if source.has_transparency_data:
        result.putalpha(source.convert("RGBA").getchannel("A"))
    if "icc_profile" in source.info and source.mode in ("RGB", "RGBA", "P"):
        result.info["icc_profile"] = source.info["icc_profile"]
    return result
