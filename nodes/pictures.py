"""Convert between Pillow's images and ComfyUI's."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_picture(image: Tensor) -> Image.Image:
    """Convert (H, W, 3) in [0, 1] to a Pillow image."""
    levels = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(levels.cpu().numpy())


def to_image(picture: Image.Image) -> Tensor:
    """Convert a Pillow image to IMAGE (1, H, W, 3)."""
    return torch.from_numpy(np.asarray(picture.convert("RGB"), np.float32) / 255)[None]
