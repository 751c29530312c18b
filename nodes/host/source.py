"""The source in ComfyUI's models: its tokens, positions and memory, and masks.

Models of pictures take it as `reference_latents`, of clips as `time_dim_concat`: both append its
tokens to the target's and drop their output. A conditioning holds it in the VAE's space,
unnormalised.
"""

from __future__ import annotations

import math
from typing import Any

import comfy.model_management
import node_helpers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrapperExecutor, WrappersMP
from torch import Tensor

from .families import KEY, host_of

# Where ComfyUI's models look for a source: a list of pictures, or a clip.
PICTURES, CLIP = "reference_latents", "time_dim_concat"
# ComfyUI's estimates may be so many times too high.
ESTIMATE_MARGIN = 4
Conditioning = list[list[Any]]

SMALLER = (
    "lower the size in ByG Image Edit (megapixels), or size and length in ByG Video Edit, "
    "or edit fewer pictures at once"
)


# ---------------------------------------------------------------- conditioning


def with_source(
    conditioning: Conditioning, latent: Tensor, guidance: float | None = None
) -> Conditioning:
    """Add a source (N, C, [F], h, w) to a conditioning, and a guidance unless it has its own.

    Args:
        conditioning: encoded text; stays as it is.
        latent: of the VAE, not normalised.
        guidance: for the guidance input of distilled models; None: leave it to ComfyUI.
    """
    is_clip = latent.ndim == 5
    key = CLIP if is_clip else PICTURES
    if any(values.get(key) is not None for _, values in conditioning):
        raise ValueError(
            "the conditioning already holds a source; take the other Edit or ReferenceLatent "
            "node out of its way"
        )
    for tokens, _ in conditioning:
        if len(tokens) not in (1, len(latent)):
            raise ValueError(f"{len(tokens)} texts for {len(latent)} pictures; wanted one, or one "
                             f"for each")  # fmt: skip
    value = latent if is_clip else [latent]
    extended = node_helpers.conditioning_set_values(conditioning, {key: value})
    for _, values in extended:
        if guidance is not None:
            values.setdefault("guidance", guidance)
    return extended


def zeroed(conditioning: Conditioning) -> Conditioning:
    """Zero the text of a conditioning, as ConditioningZeroOut does."""
    empty = []
    for tokens, values in conditioning:
        pooled = values.get("pooled_output")
        extra = {} if pooled is None else {"pooled_output": torch.zeros_like(pooled)}
        empty.append([torch.zeros_like(tokens), {**values, **extra}])
    return empty


def text_tokens(conditioning: Conditioning) -> int:
    """The length of the shortest text."""
    return min(tokens.shape[1] for tokens, _ in conditioning)


# ---------------------------------------------------------------- patches of a MODEL


def place_source(model: ModelPatcher, mode: str) -> None:
    """Patch a clone so that source tokens stand where they stood in training."""
    before = model.get_attachment(KEY)
    if before is not None:
        if before != mode:
            raise ValueError(
                f"the model already carries a ByG LoRA whose source positions are {before!r}, this "
                f"one wants {mode!r}; use one of the two"
            )
        return
    model.set_attachments(KEY, mode)
    model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, _prepare)
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _sample)
    host_of(model).place_source(model, mode)


def leave_out_source(model: ModelPatcher) -> None:
    """Patch a clone of the expert that has no LoRA: the base, which has never seen a source."""
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _sample)  # masks over two samplers
    host_of(model).leave_out_source(model)


# ---------------------------------------------------------------- around sampling


def source_of(conds: list[dict[str, Any]]) -> Tensor | None:
    """The source of the first conditioning that has one."""
    for cond in conds:
        for key in (PICTURES, CLIP):
            if (found := cond.get(key)) is not None:
                return found[0] if isinstance(found, list) else found
    return None


def _prepare(
    executor: WrapperExecutor, model: ModelPatcher, shape: Any, conds: dict, *args: Any, **kw: Any
) -> Any:
    """Refuse to sample without a source; make ComfyUI free memory for the source's tokens too."""
    source = source_of(conds.get("positive", []))
    if source is None:
        raise ValueError(
            "ByG Loader: no source picture reaches the sampler, so its LoRA has nothing to edit; "
            "connect ByG Image Edit or ByG Video Edit (or ReferenceLatent) to `positive`"
        )
    shape = list(shape)
    if len(shape) == 5:  # of pictures ComfyUI counts them itself
        # In the height: context windows cut the frames of a shape to their own length.
        shape[3] = math.ceil(shape[3] * (1 + source.shape[2] / shape[2]))
    _check_memory(model, shape, conds)
    return executor(model, shape, conds, *args, **kw)


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


def _sample(
    executor: WrapperExecutor,
    noise: Tensor,
    latent: Tensor,
    sampler: Any,
    sigmas: Tensor,
    mask: Tensor | None = None,
    *args: Any,
    **kw: Any,
) -> Tensor:
    """Keep a mask correct across two samplers, and explain what to do when memory runs out."""
    guider = executor.class_obj
    source = source_of(guider.conds.get("positive", []))
    if mask is not None and source is not None and not noise.any():
        noise, latent = _resumed(guider.model_patcher.model, latent, source, float(sigmas[0]))
    try:
        return executor(noise, latent, sampler, sigmas, mask, *args, **kw)
    except comfy.model_management.OOM_EXCEPTION as error:
        raise type(error)(
            f"ByG Loader: {error}. Source tokens double the work: {SMALLER}"
        ) from None


def _resumed(model: Any, latent: Tensor, source: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Return the noise and the clean picture whose mixture a second sampler starts from.

    It gets the first one's noisy result as if it were clean, and no noise. Outside of a mask it
    would keep that: noise in the result. The start, sigma noise + (1 - sigma) clean, stays.
    """
    if not 0 < sigma < 1 or source.shape[1:] != latent.shape[1:]:
        return torch.zeros_like(latent), latent
    source = source.to(latent).expand_as(latent)
    apart = model.process_latent_in(latent) - model.process_latent_in(source)
    return apart * ((1 - sigma) / sigma), source
