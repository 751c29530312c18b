"""The source in ComfyUI's models: its tokens, positions and memory, and masks.

Models of pictures take it as `reference_latents`, of clips as `time_dim_concat`: both append its
tokens to the target's and drop their output. A conditioning holds it in the VAE's space,
unnormalised.
"""

from __future__ import annotations

from typing import Any

import node_helpers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from . import guard
from .families import KEY, host_of
from .guard import CLIP, EXPERT, PICTURES, Expert
from .sealed import Sealed

Conditioning = list[list[Any]]


# ---------------------------------------------------------------- conditioning


def with_source(
    conditioning: Conditioning,
    latent: Tensor,
    guidance: float | None = None,
    mode: str | None = None,
) -> Conditioning:
    """Add a source (N, C, [F], h, w) to a conditioning, and a guidance unless it has its own.

    Args:
        conditioning: encoded text; stays as it is.
        latent: of the VAE, not normalised.
        guidance: for the guidance input of distilled models; None: leave it to ComfyUI.
        mode: where the source stood in training; None: not known. Where a stock model would put it
            elsewhere, it is sealed.
    """
    is_clip = latent.ndim == 5
    key = CLIP if is_clip else PICTURES
    if any(values.get(key) is not None for _, values in conditioning):
        raise ValueError(
            "the conditioning already holds a source, and a LoRA was trained with one; take the "
            "other Edit or ReferenceLatent node out of its way. To edit a result once more, give "
            "the pictures of ByG Finish to a second Edit node with a text of its own"
        )
    for tokens, _ in conditioning:
        if len(tokens) not in (1, len(latent)):
            raise ValueError(f"{len(tokens)} texts for {len(latent)} pictures; wanted one, or one "
                             f"for each")  # fmt: skip
    stock = mode == "index" or (mode is None and not is_clip)  # where a stock model puts it
    source = latent if stock else Sealed(latent, mode)
    value = source if is_clip else [source]
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
    model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, guard.prepare)
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, guard.sample)
    host_of(model).place_source(model, mode)


def set_expert(model: ModelPatcher, name: str, boundary: float) -> None:
    """Tell a clone which network of a pair it is: "high" runs at noise levels >= boundary."""
    model.set_attachments(EXPERT, Expert(name, boundary))


def leave_out_source(model: ModelPatcher) -> None:
    """Patch a clone of the expert that has no LoRA: the base, which has never seen a source."""
    model.add_wrapper_with_key(
        WrappersMP.OUTER_SAMPLE, KEY, guard.sample
    )  # masks over two samplers
    host_of(model).leave_out_source(model)
