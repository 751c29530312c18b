"""A trained LoRA on its base, outside of ComfyUI; and editing a picture with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from ..config import ConfigError, LoraSettings, ModelConfig, build_config, load_preset, merged
from ..core.roles import Velocity
from ..data.items import Dataset
from ..family import family_of, is_embedded
from ..media.fit import Fit
from ..media.pixels import to_picture, to_pixels
from ..media.rgb import to_rgb
from ..models.backbone import Backbone, load_backbone, pixel_multiple
from ..models.lora import LoraBank
from ..models.lora_file import LoraFile, LoraInfo, expert_path, read_lora
from ..models.networks import network
from ..models.sampler import Sampling
from ..training.run_folder import lora_info

OTHER = {"high": "low", "low": "high"}


class Editor(NamedTuple):
    """A LoRA, what it says of itself, and the base it is to run on."""

    path: Path
    files: dict[str, LoraFile]  # expert -> its file: "transformer", or "high" and "low"; or none
    info: LoraInfo
    model: ModelConfig


@dataclass(frozen=True)
class Wishes:
    """What a person may want otherwise than the LoRA's metadata says; None: as it says."""

    steps: int | None = None
    sampler: str | None = None
    shift: float | None = None
    cfg: float | None = None
    cfg_low: float | None = None
    negative: str | None = None
    guidance: float | None = None  # of the guidance embedding
    resolution: int | None = None

    def sampling(self, info: LoraInfo) -> Sampling:
        """How to sample; a wish for `cfg` alone holds for both experts."""
        low = info.cfg_low if self.cfg is None else None
        return Sampling(
            steps=self.steps or info.sample_steps,
            shift=info.sample_shift if self.shift is None else self.shift,
            sampler=self.sampler or info.sampler or "euler",
            cfg=next(v for v in (self.cfg, info.cfg, 1.0) if v is not None),
            cfg_low=low if self.cfg_low is None else self.cfg_low,
            negative=next(v for v in (self.negative, info.negative, "") if v is not None),
        )


AS_TRAINED = Wishes()


def open_lora(
    lora: Path, model: str | None, components: str | None = None, *, single_expert: bool = False
) -> Editor:
    """Read a LoRA and check it against its base, as far as this goes without loading the base.

    Args:
        lora: the file; of two experts either one, or their common name without `_high_noise`.
        model: the base, and `components` of a single file; None: those that it was trained on.
        single_expert: the other expert has no LoRA, and runs without one and without the source.
    """
    pair = expert_path(lora, "high")
    path = pair if not lora.exists() and pair.exists() else lora
    file, info = _read(path)
    files = {info.expert or "transformer": file}
    if info.expert in OTHER and not single_expert:
        files[OTHER[info.expert]] = _partner(path, info)
    tables = {
        "family": info.family,
        "path": model or info.base,
        "components": components or info.components,
        # A revision is one of the names that it was recorded with.
        "revision": None if model or components else info.revision,
        "text_len": info.text_len,
        "reference_mode": info.reference_mode,
    }
    editor = Editor(path, files, info, build_config({"model": tables}).model)
    if why := wrong_width(file, editor.model):
        raise _misfit(editor, why)
    return editor


def open_base(model: str, components: str | None = None) -> Editor:
    """A base without a LoRA, for baselines, of the usual family; it samples as its preset says.

    Args:
        model: hub id, folder or file, or the embedded one; and `components` of a single file.
    """
    family = family_of(ModelConfig().family)
    name = family.embedded.preset if is_embedded(model) else family.usual.preset
    preset = load_preset(name)
    base = {"model": {"path": model, "components": components}}
    config = build_config(merged(preset, base))
    nothing = Dataset(train=[], test=[], problems=[], fingerprint="")
    info = lora_info(config, nothing, pixel_multiple(config.model), steps=0)
    return Editor(Path(model), {}, info, config.model)


def _read(path: Path) -> tuple[LoraFile, LoraInfo]:
    try:
        file = read_lora(path)
    except ValueError as error:  # it names the file
        raise ConfigError(f"--lora: {error}") from None
    try:
        return file, LoraInfo.from_metadata(file.metadata)
    except ValueError as error:
        raise ConfigError(f"--lora {path}: {error}") from None


def _partner(path: Path, info: LoraInfo) -> LoraFile:
    """The other file of a pair, which lies beside the one that was named."""
    mine, other = (f"_{expert}_noise" for expert in (info.expert, OTHER[info.expert]))
    alone = f"--lora {path} edits with the {info.expert}-noise expert alone"
    if mine not in path.stem:
        raise ConfigError(
            f"{alone}, and its name does not tell that of the other file: call the two "
            f"NAME{mine}{path.suffix} and NAME{other}{path.suffix}, in one folder"
        )
    partner = path.with_stem(other.join(path.stem.rsplit(mine, 1)))
    if not partner.is_file():
        raise ConfigError(
            f"{alone}, and {partner.name} is not beside it: put both files of the pair into one "
            f"folder; if only this expert was trained, pass --single-expert"
        )
    file, its = _read(partner)
    if (its.family, its.expert, its.base) != (info.family, OTHER[info.expert], info.base):
        raise ConfigError(
            f"--lora {path} and {partner.name} are no pair: the one is for the {info.expert}-noise "
            f"expert of {info.base}, the other for {its.expert or 'the one network'} of {its.base}"
        )
    return file


def wrong_width(file: LoraFile, model: ModelConfig) -> str | None:
    """Why a LoRA cannot fit a base by the width of its layers; None if it may fit."""
    width = network(model).width
    inner = f"{family_of(model.family).lora.width_of}.lora_A.weight"
    for name, tensor in file.by_diffusers_names().items():
        if name.endswith(inner) and tensor.shape[1] != width:
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
    wishes: Wishes = AS_TRAINED,
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
        wishes: what is to be otherwise than in the metadata.
        on_progress: called with (done, of) after every evaluation of the model.
        on_result: called with every result as soon as it is finished.
    """
    editor, image = open_lora(lora, model, components), ImageOps.exif_transpose(image)
    fit = fitted(editor.info, *image.size, wishes)
    backbone = load_backbone(editor.model, device)
    attach(editor, backbone, strength)
    results = []
    for pixels in edited(
        editor, backbone, fit.apply(_pixels(image)), instruction, seeds, wishes, on_progress
    ):
        results.append(finished(to_picture(fit.undo(pixels)[0]), image))
        on_result(results[-1])
    return results


def fitted(info: LoraInfo, width: int, height: int, wishes: Wishes) -> Fit:
    """How pictures of a size go through the model and come back."""
    return Fit.of(width, height, wishes.resolution or info.resolution, info.multiple)


def edited(
    editor: Editor,
    backbone: Backbone,
    pixels: Tensor,
    instruction: str,
    seeds: list[int],
    wishes: Wishes,
    on_progress: Callable[[int, int], None],
) -> Iterator[Tensor]:
    """Edits of pixels (1, 3, F, H, W), of the same shape, in [-1, 1], on the CPU; one per seed."""
    sampling = wishes.sampling(editor.info)
    source = backbone.encode_pixels(pixels)
    text = backbone.encode_text([instruction])
    negative = backbone.encode_text([sampling.negative]) if sampling.guided else None
    backbone.drop_encoders()
    w = editor.info.guidance_sample if wishes.guidance is None else wishes.guidance
    velocity: Velocity = partial(backbone.velocity, guidance=w)
    field = sampling.field(velocity, text, source, negative, editor.info.boundary or 0.0)
    for i, seed in enumerate(seeds):

        def each(done: int, of: int, i: int = i) -> None:
            on_progress(i * of + done, len(seeds) * of)

        with torch.no_grad():
            y_0 = sampling.solve(field, _noise(source, seed), each)
            yield backbone.decode_latents(y_0).cpu().clamp(-1, 1)


def attach(editor: Editor, backbone: Backbone, strength: float) -> LoraBank:
    """Put the LoRA into the loaded base; raises when it does not fit."""
    files = {expert: file.by_diffusers_names() for expert, file in editor.files.items()}
    if unknown := files.keys() - backbone.experts.keys():
        has = " and ".join(backbone.experts)
        raise _misfit(editor, f"for {' and '.join(sorted(unknown))}, and this base has {has}")
    if bare := backbone.experts.keys() - files.keys():
        backbone.blind = bare
    names = {name for tensors in files.values() for name in tensors}
    modules = sorted({name.rsplit(".lora_", 1)[0] for name in names})
    settings = LoraSettings(rank=editor.info.rank, targets=modules)
    try:
        experts = nn.ModuleDict({expert: backbone.experts[expert] for expert in files})
        bank = LoraBank(experts, settings, None, 0)
        for expert, tensors in files.items():
            scaled = {k: v.float() * strength if "lora_B" in k else v for k, v in tensors.items()}
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
    return to_pixels(np.asarray(to_rgb(image))[None])[None]


def finished(result: Image.Image, source: Image.Image) -> Image.Image:
    """With what a picture has besides colours: the source's transparency and colour profile.

    The profile of a grey or CMYK source says nothing about the result, which is RGB.
    """
    if source.has_transparency_data:
        result.putalpha(source.convert("RGBA").getchannel("A"))
    if "icc_profile" in source.info and source.mode in ("RGB", "RGBA", "P"):
        result.info["icc_profile"] = source.info["icc_profile"]
    return result
