"""The source in ComfyUI's models: its tokens, their positions, their memory, and masks around them.

FLUX takes it as `reference_latents`, Wan as `time_dim_concat`: both append its tokens to the
target's and drop their output. A conditioning holds it in the VAE's space, unnormalised.
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

from .lora import family

KEY = "byg"
SOURCE = {"flux": "reference_latents", "wan": "time_dim_concat"}
# ComfyUI's estimates may be so many times too high.
ESTIMATE_MARGIN = 4
Conditioning = list[list[Any]]

SMALLER = (
    "lower the size in ByG Image Edit (megapixels), or size and length in ByG Video Edit, "
    "or edit fewer pictures at once"
)


# ---------------------------------------------------------------- conditioning


def with_source(
    conditioning: Conditioning, kind: str, latent: Tensor, guidance: float | None = None
) -> Conditioning:
    """A conditioning with a source (N, C, [F], h, w), and with a guidance unless it has its own.

    Args:
        conditioning: encoded text; stays as it is.
        kind: family of the model.
        latent: of the VAE, not normalised.
        guidance: for FLUX's guidance embedding; None: leave it to ComfyUI.
    """
    key = SOURCE[kind]
    if any(values.get(key) is not None for _, values in conditioning):
        raise ValueError(
            "the conditioning already holds a source; take the other Edit or ReferenceLatent "
            "node out of its way"
        )
    for tokens, _ in conditioning:
        if len(tokens) not in (1, len(latent)):
            raise ValueError(f"{len(tokens)} texts for {len(latent)} pictures; wanted one, or one "
                             f"for each")  # fmt: skip
    value = [latent] if kind == "flux" else latent
    found = node_helpers.conditioning_set_values(conditioning, {key: value})
    for _, values in found:
        if guidance is not None:
            values.setdefault("guidance", guidance)
    return found


def zeroed(conditioning: Conditioning) -> Conditioning:
    """The same without words, as ConditioningZeroOut makes it."""
    found = []
    for tokens, values in conditioning:
        pooled = values.get("pooled_output")
        extra = {} if pooled is None else {"pooled_output": torch.zeros_like(pooled)}
        found.append([torch.zeros_like(tokens), {**values, **extra}])
    return found


def text_tokens(conditioning: Conditioning) -> int:
    """The length of the shortest text."""
    return min(tokens.shape[1] for tokens, _ in conditioning)


# ---------------------------------------------------------------- patches of a MODEL


def place_source(model: ModelPatcher, mode: str) -> None:
    """Patch a clone so that source tokens stand where they stood in training.

    `index`: FLUX gives a reference its own index, which is 1; nothing to do. Wan continues the
    time axis, nothing to do either. `shared`: the positions of the target.
    """
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
    if family(model) == "wan":
        forward = _wan_shared if mode == "shared" else _wan_checked
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, forward)
    elif mode == "shared":
        model.set_model_post_input_patch(_flux_shared)


def leave_out_source(model: ModelPatcher) -> None:
    """Patch a clone of the expert that has no LoRA: the base, which has never seen a source."""
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _sample)  # masks over two samplers
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, _wan_blind)


def _flux_shared(args: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first axis of the positions tells target from source; without it they share them."""
    ids = args["img_ids"].clone()
    ids[..., 0] = 0
    return {**args, "img_ids": ids}


# Wrappers hand on whatever arguments this or a later ComfyUI passes, so their signatures are open.


def _wan_checked(
    executor: WrapperExecutor, x: Tensor, timestep: Tensor, *args: Any, **kw: Any
) -> Tensor:
    """Wan 2.2 5B under a noise mask spreads its timesteps over target and source tokens."""
    if timestep.ndim > 1 and timestep.shape[1] > 1:
        raise ValueError(
            "ByG Loader: Wan 2.2 5B cannot sample inside a noise mask beside a source; take the "
            "mask off the latent and connect it to ByG Finish"
        )
    return executor(x, timestep, *args, **kw)


def _wan_blind(
    executor: WrapperExecutor,
    x: Tensor,
    timestep: Tensor,
    context: Tensor,
    clip_fea: Tensor | None = None,
    time_dim_concat: Tensor | None = None,
    *args: Any,
    **kw: Any,
) -> Tensor:
    return executor(x, timestep, context, clip_fea, None, *args, **kw)


def _wan_shared(
    executor: WrapperExecutor,
    x: Tensor,
    timestep: Tensor,
    context: Tensor,
    clip_fea: Tensor | None = None,
    time_dim_concat: Tensor | None = None,
    transformer_options: dict[str, Any] | None = None,
    **kw: Any,
) -> Tensor:
    """Source tokens at the target's positions (App. B.2), where stock Wan continues the time axis.

    Does nothing for a conditioning without a source.
    """
    options, source = transformer_options or {}, time_dim_concat
    window = options.get("context_window")
    if source is not None and window is not None and source.shape[2] != x.shape[2]:
        source = source[:, :, window.index_list]  # context windows cut the target alone

    def run() -> Tensor:
        rest = (context, clip_fea, source, options)
        return _wan_checked(executor, x, timestep, *rest, **kw)

    if source is None:
        return run()
    network, frames, more = executor.class_obj, x.shape[2], source.shape[2]
    rope_encode = network.rope_encode

    def shared(_frames: int, height: int, width: int, **kw: Any) -> Tensor:
        longest = max(frames, more)
        rope = rope_encode(longest, height, width, **kw)
        per_frame = rope.shape[1] // longest
        return torch.cat([rope[:, : frames * per_frame], rope[:, : more * per_frame]], dim=1)

    own = "rope_encode" in vars(network)
    network.rope_encode = shared
    try:
        return run()
    finally:
        if own:
            network.rope_encode = rope_encode
        else:
            del network.rope_encode


# ---------------------------------------------------------------- around sampling


def source_of(conds: list[dict[str, Any]]) -> Tensor | None:
    """The source of the first conditioning that has one."""
    for cond in conds:
        for key in SOURCE.values():
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
    if len(shape) == 5:  # for FLUX ComfyUI counts them itself
        # In the height: context windows cut the frames of a shape to their own length.
        shape[3] = math.ceil(shape[3] * (1 + source.shape[2] / shape[2]))
    _check_memory(model, shape, conds)
    return executor(model, shape, conds, *args, **kw)


def _check_memory(model: ModelPatcher, shape: list[int], conds: dict) -> None:
    """Minutes of loading before a certain failure are kinder spent elsewhere."""
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
    """Keep a mask right over two samplers, and say what to do when memory runs out."""
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
    """The noise and the clean picture whose mixture a second sampler starts from.

    It gets the first one's noisy result as if it were clean, and no noise. Outside of a mask it
    would keep that: noise in the result. The start, sigma noise + (1 - sigma) clean, stays.
    """
    if not 0 < sigma < 1 or source.shape[1:] != latent.shape[1:]:
        return torch.zeros_like(latent), latent
    source = source.to(latent).expand_as(latent)
    apart = model.process_latent_in(latent) - model.process_latent_in(source)
    return apart * ((1 - sigma) / sigma), source
