"""Aesthetic quality: LAION's linear predictor on CLIP features. (Table 1, `Aesthetic`)

Huang et al. 2024, VBench, arXiv 2311.17982, with LAION's `sa_0_4_vit_l_14_linear`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..metric import Measure, Metric, Truths
from ..networks import Networks, explained, unit


class Head(NamedTuple):
    """A linear layer from CLIP ViT-L/14 features to a mark of about 0 to 10."""

    weight: NDArray  # (D,)
    bias: float


def read_head(path: Path) -> Head:
    """Read the predictor from a safetensors file with `weight` (1, D) and `bias` (1,).

    LAION publishes a .pth; `torch.load(file, weights_only=True)` and `safetensors.torch.save_file`
    make the file from it.
    """
    from safetensors.numpy import load_file

    tensors = load_file(path)
    if set(tensors) != {"weight", "bias"}:
        raise ValueError(f"{path} holds {', '.join(sorted(tensors))}; wanted weight and bias")
    return Head(tensors["weight"].reshape(-1).astype(np.float64), float(tensors["bias"].item()))


def aesthetic(features: NDArray, head: Head) -> float:
    """The mean over frames of (w . f / |f| + b) / 10; about 0 to 1, higher is better.

    `features` are those of CLIP ViT-L/14 (F, D), of frames resized without antialiasing.
    """
    if features.shape[-1] != len(head.weight):
        raise ValueError(f"{features.shape[-1]} features for a head of {len(head.weight)}")
    return float(np.mean(unit(features) @ head.weight + head.bias) / 10)


def _build(networks: Networks, truths: Truths) -> Measure:
    clip = networks.loaded_clip
    wanted = "LAION's head for this CLIP"
    with explained("aesthetic_head", wanted, networks.aesthetic_head, wanted):
        head = read_head(networks.aesthetic_head)
        aesthetic(np.zeros((1, clip.model.config.projection_dim)), head)  # checks the size
    return lambda case: {"aesthetic": aesthetic(clip.pictures_vbench(case.edited), head)}


METRIC = Metric(
    "aesthetic",
    "VBench's aesthetic quality",
    needs=frozenset({"aesthetic_head"}),
    build=_build,
    place=5,
)
