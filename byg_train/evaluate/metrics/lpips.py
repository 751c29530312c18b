"""LPIPS, the learned perceptual distance to the true target, in its VGG form, version 0.1.

Zhang et al. 2018, arXiv 1801.03924, Eq. 1. The trunk is torchvision's VGG-16 as the hub holds it in
safetensors; the heads are those that torchmetrics ships.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...media.pixels import Frames, to_pixels
from ..metric import Measure, Metric, Truths, against_truth
from ..networks import Networks, explained, normalised

VGG = "timm/vgg16.tv_in1k"
# Convolutions of each of the five blocks; features are taken after each block, before its pooling.
BLOCKS = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512,) * 4)
# ImageNet's mean and deviation for pixels in [-1, 1], as the authors rounded them.
NORM = ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))

# Pixels (N, 3, H, W) in [-1, 1] -> the features of every layer, (N, C_l, H_l, W_l).
Trunk = Callable[[Tensor], Sequence[Tensor]]


@torch.no_grad()
def lpips(edited: Frames, target: Frames, trunk: Trunk, heads: Sequence[Tensor]) -> float:
    """The sum over layers of mean_hw w_l . (f_l(edited) - f_l(target))^2, features at length 1.

    The mean over frames (F, H, W, 3); from 0 for equal clips to about 1, lower is nearer.

    Args:
        edited: the result.
        target: the true target, of the same shape.
        trunk: the network that sees.
        heads: w_l (C_l,) for every layer, not negative.
    """
    if edited.shape != target.shape:
        raise ValueError(f"the result is {edited.shape}, the target {target.shape}")
    per_frame = [_distance(a, b, trunk, heads) for a, b in zip(edited, target, strict=True)]
    return sum(per_frame) / len(per_frame)


def _distance(edited: Frames, target: Frames, trunk: Trunk, heads: Sequence[Tensor]) -> float:
    pair = to_pixels(np.stack([edited, target])).transpose(0, 1)  # (2, 3, H, W)
    total = 0.0
    for features, w in zip(trunk(pair), heads, strict=True):
        a, b = F.normalize(features, dim=1, eps=1e-8)
        total += torch.einsum("c,chw->hw", w, (a - b) ** 2).mean().item()
    return total


class Vgg16(nn.Module):
    """The convolutions of VGG-16, named as in torchvision."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for widths in BLOCKS:
            for c_in, c_out in zip(widths[:-1], widths[1:], strict=True):
                layers += [nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Pixels (N, 3, H, W) in [-1, 1] -> the features of the five blocks."""
        x, features = normalised(pixels, NORM), []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                features.append(x)
            x = layer(x)
        return features


def load_vgg(file: Path | None = None) -> Vgg16:
    """Load the trunk from a safetensors file, or from the hub."""
    from huggingface_hub import hf_hub_download
    from safetensors.torch import load_file

    tensors = load_file(file or hf_hub_download(VGG, "model.safetensors"))
    trunk = Vgg16()
    trunk.load_state_dict({k: v for k, v in tensors.items() if k.startswith("features.")})
    return trunk.eval().requires_grad_(False)


def load_heads() -> list[Tensor]:
    """Load the five learned weightings.

    torchmetrics has them as a .pth alone. It comes with the installed package, and `weights_only`
    reads tensors and runs nothing of it.
    """
    import torchmetrics

    folder = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models"
    tensors = torch.load(folder / "vgg.pth", map_location="cpu", weights_only=True)
    return [tensors[f"lin{i}.model.1.weight"].flatten() for i in range(len(BLOCKS))]


def _build(networks: Networks, truths: Truths) -> Measure:
    with explained("vgg", VGG, networks.vgg, f"model.safetensors of {VGG}"):
        trunk, heads = load_vgg(networks.vgg), load_heads()
    return against_truth("lpips", lambda edited, truth: lpips(edited, truth, trunk, heads))


METRIC = Metric(
    "lpips",
    "LPIPS to the true target, lower is nearer",
    needs=frozenset({"truths"}),
    build=_build,
    lower_is_better=True,
    place=9,
)
