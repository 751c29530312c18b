"""Convert between Pillow's images and ComfyUI's."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..byg_train.media.pixels import from_unit, to_unit


def to_picture(image: Tensor) -> Image.Image:
    """Convert (H, W, 3) in [0, 1] to a Pillow image."""
    return Image.fromarray(from_unit(image.float().cpu().numpy()))


def to_image(picture: Image.Image) -> Tensor:
    """Convert a Pillow image to IMAGE (1, H, W, 3)."""
    return torch.from_numpy(to_unit(np.asarray(picture.convert("RGB"))))[None]
