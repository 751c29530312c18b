"""Around sampling in ComfyUI: what would go wrong without a word stops here, and says what to do.

Wrappers hand on whatever arguments this or a later ComfyUI passes, so their signatures are open.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import comfy.model_management
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor
from torch import Tensor

from .families import KEY
from .sealed import CURE, mode_of, opened

# Where ComfyUI's models look for a source: a list of pictures, or a clip.
PICTURES, CLIP = "reference_latents", "time_dim_concat"
# Under these names of ComfyUI the one source stands where training had it.
METHODS = (None, "offset", "index")
# The attachment of a MODEL that is one network of a pair.
EXPERT = f"{KEY}_expert"
# ComfyUI's estimates may be so many times too high.
ESTIMATE_MARGIN = 4
# Noise levels so near to the boundary count for either side: schedules are computed in float32.
NEAR = 1e-4
EDIT = "ByG Image Edit or ByG Video Edit"
SMALLER = (
    "lower the size in ByG Image Edit (megapixels), or size and length in ByG Video Edit, "
    "or edit fewer pictures at once"
)


class Expert(NamedTuple):
    """Which network of a pair a MODEL is."""

    name: str  # "high" or "low"
    boundary: float  # "high" runs at noise levels from here on


def source_of(conds: list[dict[str, Any]]) -> Tensor | None:
    """The source of the first conditioning that has one."""
    for cond in conds:
        for key in (PICTURES, CLIP):
            if (found := opened(cond.get(key))) is not None:
                return found[0] if isinstance(found, list) else found
    return None


# ---------------------------------------------------------------- wrappers


def prepare(
    executor: WrapperExecutor, model: ModelPatcher, shape: Any, conds: dict, *args: Any, **kw: Any
) -> Any:
    """Refuse to sample without a source; make ComfyUI free memory for the source's tokens too."""
    source = source_of(conds.get("positive", []))
    if source is None:
        raise ValueError(
            f"ByG Loader: no source picture reaches the sampler, so its LoRA has nothing to edit; "
            f"connect {EDIT} (or ReferenceLatent) to `positive`"
        )
    shape = list(shape)
    if len(shape) == 5:  # of pictures ComfyUI counts them itself
        # In the height: context windows cut the frames of a shape to their own length.
        shape[3] = math.ceil(shape[3] * (1 + source.shape[2] / shape[2]))
    _check_memory(model, shape, conds)
    return executor(model, shape, conds, *args, **kw)


def sample(
    executor: WrapperExecutor,
    noise: Tensor,
    latent: Tensor,
    sampler: Any,
    sigmas: Tensor,
    mask: Tensor | None = None,
    *args: Any,
    **kw: Any,
) -> Tensor:
    """Open and check the source, keep a mask right over two samplers, help when memory runs out."""
    guider = executor.class_obj
    mode = guider.model_patcher.get_attachment(KEY)
    _check_levels(sigmas)
    _check_expert(guider.model_patcher.get_attachment(EXPERT), sigmas)
    _check_other_model(guider, mode)
    source = _opened_source(guider, mode)
    if source is not None and mode is not None:
        _check_source(guider, source, noise)
    if mask is not None and source is not None and not noise.any():
        noise, latent = _resumed(guider.model_patcher.model, latent, source, float(sigmas[0]))
    try:
        return executor(noise, latent, sampler, sigmas, mask, *args, **kw)
    except comfy.model_management.OOM_EXCEPTION as error:
        raise type(error)(
            f"ByG Loader: {error}. Source tokens double the work: {SMALLER}"
        ) from None


# ---------------------------------------------------------------- checks


def _opened_source(guider: Any, mode: str | None) -> Tensor | None:
    """Put plain sources in place of sealed ones; the one of `positive`. `mode`: the model's."""
    for cond in (cond for conds in guider.conds.values() for cond in conds):
        for key in {PICTURES, CLIP} & cond.keys():
            wanted = mode_of(cond[key])
            if None not in (wanted, mode) and wanted != mode:
                raise ValueError(
                    f"ByG Loader: the source was prepared for a LoRA with {wanted!r} positions, "
                    f"this model's has {mode!r}; connect `info` and `model` of the same ByG Loader"
                )
            cond[key] = opened(cond[key])
    return source_of(guider.conds.get("positive", []))


def _check_other_model(guider: Any, mode: str | None) -> None:
    """Later ComfyUIs have a guider that asks a second MODEL for the negative side."""
    other = getattr(guider, "uncond_model_patcher", None)
    if other is not None and other.get_attachment(KEY) != mode:
        raise ValueError(CURE)


def _unused_sides(guider: Any) -> set[str]:
    """The sides of which a plain guider makes no use at cfg 1; others mix theirs in other ways."""
    plain = type(guider).predict_noise is comfy.samplers.CFGGuider.predict_noise
    return {"negative"} if plain and math.isclose(guider.cfg, 1.0) else set()


def _check_source(guider: Any, source: Tensor, noise: Tensor) -> None:
    """The source is on all sides that guide, and as large as what is sampled."""
    unused = _unused_sides(guider)
    for side in guider.conds.keys() - unused:
        for cond in guider.conds[side]:
            _check_side(side, cond, noise)
    if len(noise) % len(source):
        raise ValueError(
            f"ByG Loader: {len(noise)} latents for {len(source)} sources, so that they would not "
            f"pair; sample the whole batch, or choose the picture in front of {EDIT}"
        )


def _check_side(side: str, cond: dict[str, Any], noise: Tensor) -> None:
    source = source_of([cond])
    if source is None:
        raise ValueError(
            f"ByG Loader: `{side}` went past the Edit node, so that its part of the guidance "
            f"does not see the source; connect the text to `{side}` of {EDIT}, and that node's "
            f"`{side}` to the sampler, or set cfg to 1"
        )
    if noise.shape[1:] != source.shape[1:]:
        raise ValueError(
            f"ByG Loader: the latent at this sampler is {_size(noise)}, the source "
            f"{_size(source)}; take `latent` from {EDIT}, whose size modes set both. To enlarge a "
            f"result, upscale the pictures behind ByG Finish, and edit those once more if you like"
        )
    if (method := cond.get("reference_latents_method")) not in METHODS:
        raise ValueError(
            f"ByG Loader: a node behind {EDIT} puts the source in another place ({method!r}) than "
            f"training did, which would not edit; take that node out"
        )


def _size(latent: Tensor) -> str:
    *frames, height, width = latent.shape[2:]
    clip = f"{frames[0]} frames of " if frames else ""
    return f"{clip}{width} x {height} with {latent.shape[1]} channels"


def _check_levels(sigmas: Tensor) -> None:
    """Schedulers of other kinds of models begin at noise levels such as 14.6."""
    if len(sigmas) and float(sigmas.max()) > 1 + NEAR:
        raise ValueError(
            f"ByG Loader: the schedule begins at noise level {float(sigmas.max()):.3g}, and this "
            f"model knows 0 to 1, so that the result would be noise; take Basic Scheduler with "
            f"`simple`, or ByG Expert Split, in place of a scheduler for other models"
        )


def _check_expert(expert: Expert | None, sigmas: Tensor) -> None:
    """No step of a pair's schedule runs on the network that was not trained for it."""
    if expert is None:
        return
    is_high, levels = expert.name == "high", [float(sigma) for sigma in sigmas[:-1]]
    wrong = [
        level
        for level in levels
        if (level < expert.boundary - NEAR if is_high else level > expert.boundary + NEAR)
    ]
    if not wrong:
        return
    other, side = ("low", "below") if is_high else ("high", "above")
    if len(wrong) == len(levels):
        cure = "the models are swapped: `model` of ByG Loader samples first, `model_low` behind it"
    else:
        cure = (
            "split the steps at `split_step` of ByG Expert Split (or take its sigmas), with this "
            "model and these steps, sampler_name and scheduler"
        )
    raise ValueError(
        f"ByG Loader: the {expert.name}-noise model would run at noise level {wrong[0]:.3f}, "
        f"{side} the boundary {expert.boundary:g}, where the {other}-noise model belongs "
        f"({len(wrong)} of this sampler's {len(levels)} steps); {cure}"
    )


def _check_memory(model: ModelPatcher, shape: list[int], conds: dict) -> None:
    """Raise before loading if memory is certain to run out."""
    sizes: dict[str, list] = {}
    for cond in conds.get("positive", []):
        for key, size in model.model.extra_conds_shapes(**cond).items():
            sizes[key] = [size]
    needed = model.model.memory_required(shape, cond_shapes=sizes)
    limit = comfy.model_management.get_total_memory(model.load_device)
    if needed > ESTIMATE_MARGIN * limit:
        width, height = 8 * shape[-1], 8 * shape[-2]
        raise ValueError(
            f"ByG Loader: about {width} x {height} pixels with their source need some "
            f"{needed / 2**30:.0f} GB, this device has {limit / 2**30:.1f} GB; {SMALLER}"
        )


def _resumed(model: Any, latent: Tensor, source: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """The noise and the clean picture whose mixture a second sampler starts from.

    It gets the first one's noisy result as if it were clean, and no noise. Outside of a mask it
    would keep that: noise in the result. The start, sigma noise + (1 - sigma) clean, stays.
    """
    if not 0 < sigma < 1 or source.shape[1:] != latent.shape[1:]:
        return torch.zeros_like(latent), latent
    source = source.to(latent).expand_as(latent)
    apart = model.process_latent_in(latent) - model.process_latent_in(source)
    return apart * ((1 - sigma) / sigma), source
