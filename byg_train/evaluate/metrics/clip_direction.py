"""CLIP directional similarity: did the picture move where the captions move? (Table 1, `CLIP dir`)

Gal et al. 2022; as an editing metric Brooks et al. 2023, arXiv 2211.09800, section 5.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..metric import Case, Measure, Metric, Truths, Values
from ..networks import Networks, unit


def clip_direction(
    source: NDArray, edited: NDArray, src_caption: NDArray, tgt_caption: NDArray
) -> float:
    """cos(I(edited) - I(source), T(tgt) - T(src)), every feature at length 1 before subtracting.

    In [-1, 1], higher is better; over a clip the mean over its frames. Unedited frames are 0, they
    went nowhere. Captions that are equal name no direction: NaN, for the caller to count.

    Args:
        source: CLIP features of the source's frames (F, D).
        edited: those of the result's frames, likewise.
        src_caption: CLIP features of the source caption (D,).
        tgt_caption: those of the target caption.
    """
    if source.shape != edited.shape:
        raise ValueError(f"source has features {source.shape}, the result {edited.shape}")
    caption_direction = unit(tgt_caption) - unit(src_caption)
    if not np.linalg.norm(caption_direction) > 1e-6:
        return math.nan
    return float(np.mean(unit(unit(edited) - unit(source)) @ unit(caption_direction)))


def _build(networks: Networks, truths: Truths) -> Measure:
    clip = networks.loaded_clip

    def measure(case: Case) -> Values:
        captions = case.task.src_caption, case.task.tgt_caption
        if not all(captions):
            return {"clip_dir": None}
        frames = clip.pictures(case.source.frames), clip.pictures(case.edited)
        return {"clip_dir": clip_direction(*frames, *clip.texts(captions))}

    return measure


METRIC = Metric(
    "clip",
    "CLIP directional similarity: edit success",
    ("clip_dir",),
    needs=frozenset({"captions"}),
    build=_build,
    usual=True,
    place=1,
)
