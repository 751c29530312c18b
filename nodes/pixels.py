"""Check ComfyUI's pictures and masks, bring them to a model's size and back, and to Pillow.

IMAGE is (N, H, W, 3) in [0, 1], N pictures or frames; MASK is (N, H, W), 1 = may change.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..byg_train.media.fit import Fit, Size
from ..byg_train.media.pixels import from_unit, to_unit

# The size of the black mask that Load Image gives for a picture without transparency.
NO_MASK = (64, 64)


class Box(NamedTuple):
    """A part of a picture, in pixels."""

    left: int
    top: int
    width: int
    height: int

    def of(self, images: Tensor) -> Tensor:
        """The part of IMAGE (N, H, W, 3) or MASK (N, H, W)."""
        rows = slice(self.top, self.top + self.height)
        return images[:, rows, self.left : self.left + self.width]

    def into(self, images: Tensor, part: Tensor) -> Tensor:
        """A copy of IMAGE with the part in its place."""
        whole = images.to(part).clone()
        self.of(whole).copy_(part)
        return whole


def box_around(mask: Tensor, context: float, least: float) -> Box:
    """The part of a picture around the white of MASK, of all masks if there are several.

    Args:
        mask: (N, H, W), not all black.
        context: how many times as wide and high as the white.
        least: pixels per side below which the part is not narrowed.
    """
    white = mask.amax(0) > 0
    ends = []
    for line in (white.any(0), white.any(1)):  # along the width, along the height
        (at,) = line.nonzero(as_tuple=True)
        first, last, size = int(at[0]), int(at[-1]) + 1, len(line)
        side = min(size, max(round((last - first) * context), round(least), last - first))
        start = min(max(0, (first + last - side) // 2), size - side)
        ends.append((start, side))
    (left, width), (top, height) = ends
    return Box(left, top, width, height)


def checked_images(images: Tensor, what: str) -> Tensor:
    """Return RGB pictures, transparency on white as in training; ValueError if they are none."""
    if images.ndim != 4 or images.shape[-1] not in (1, 2, 3, 4):
        raise ValueError(f"{what}: got the shape {tuple(images.shape)}, wanted pictures (IMAGE)")
    if not images.numel():
        raise ValueError(f"{what}: an empty batch; check the loader in front, it found no pictures")
    channels = images.shape[-1]
    if channels in (2, 4):
        images, alpha = images[..., :-1], images[..., -1:]
        images = images * alpha + (1 - alpha)
    return images.expand(-1, -1, -1, 3) if channels < 3 else images


def checked_mask(mask: Tensor | None, images: Tensor, what: str) -> Tensor | None:
    """Return the mask, or None for Load Image's placeholder; ValueError if it cannot apply."""
    if mask is None:
        return None
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.ndim == 4 and 1 in (mask.shape[1], mask.shape[-1]):  # with a channel
        mask = mask.squeeze(1) if mask.shape[1] == 1 else mask.squeeze(-1)
    if mask.ndim != 3:
        raise ValueError(f"mask: got the shape {tuple(mask.shape)}, wanted a MASK")
    (height, width), size = images.shape[1:3], tuple(mask.shape[-2:])
    empty = not mask.any()
    if empty and size == NO_MASK and size != (height, width):
        return None
    if size != (height, width):
        raise ValueError(
            f"mask: {size[1]} x {size[0]} pixels, the {what} has {width} x {height}; draw it on "
            f"this {what}, or put a mask resize in front"
        )
    if len(mask) not in (1, len(images)):
        raise ValueError(
            f"mask: {len(mask)} masks for {len(images)} {what}s; wanted one, or one for each"
        )
    if empty:
        raise ValueError("mask: all black, so nothing may change; white marks what to edit")
    return mask.float().clamp(0, 1)


def planned(
    images: Tensor, multiple: int, *, resolution: float | None, exact: Size | None = None
) -> Fit:
    """Plan the fit: exactly `exact` pixels, or about resolution squared. Nothing is cropped."""
    height, width = images.shape[1:3]
    if exact is None:
        return Fit.of(width, height, resolution, multiple)
    if exact.width % multiple or exact.height % multiple:
        raise ValueError(
            f"width x height: {exact.width} x {exact.height}, wanted multiples of {multiple}"
        )
    return Fit.within(width, height, exact)


def fitted(fit: Fit, images: Tensor) -> Tensor:
    """Resize and pad IMAGE to the model's size."""
    return _images(fit.apply(_pixels(images))).clamp(0, 1)


def restored(fit: Fit, images: Tensor) -> Tensor:
    """Undo `fitted`: remove the padding and restore exactly the source's size."""
    width, height = fit.outer
    if tuple(images.shape[1:3]) != (height, width):
        raise ValueError(
            f"images: {images.shape[2]} x {images.shape[1]} pixels, the edit worked at {width} x "
            f"{height}; connect VAE Decode directly, and upscale after this node"
        )
    return _images(fit.undo(_pixels(images))).clamp(0, 1)


def fitted_mask(fit: Fit, mask: Tensor) -> Tensor:
    """Resize and pad MASK to the model's size."""
    return fit.apply(mask[:, None, None]).clamp(0, 1)[:, 0, 0]


def feathered(mask: Tensor, pixels: int) -> Tensor:
    """Feather the edge `pixels` wide inside the white; black areas stay 0."""
    if not pixels:
        return mask
    weights = torch.ones(1, 1, 2 * pixels + 1, device=mask.device) / (2 * pixels + 1)
    soft = mask[:, None]
    for _ in range(2):  # along rows, then along columns; twice a box is a triangle
        for kernel in (weights[..., None], weights[:, :, None]):
            ahead = (kernel.shape[-1] // 2,) * 2 + (kernel.shape[-2] // 2,) * 2
            soft = F.conv2d(F.pad(soft, ahead, mode="replicate"), kernel)
    # Half way through the blurred edge is where white ends.
    return mask * (2 * soft[:, 0] - 1).clamp(0, 1)


def colour_matched(images: Tensor, source: Tensor) -> Tensor:
    """Match the mean and spread of every channel to the source's."""
    axes = (1, 2)
    mean, spread = images.mean(axes, keepdim=True), images.std(axes, keepdim=True)
    wanted, wide = source.mean(axes, keepdim=True), source.std(axes, keepdim=True)
    return ((images - mean) / spread.clamp(min=1e-4) * wide + wanted).clamp(0, 1)


def even_sized(images: Tensor) -> Tensor:
    """Repeat the last row or column where a side is odd, since Save Video wants even sides."""
    odd_width, odd_height = images.shape[2] % 2, images.shape[1] % 2
    if not odd_width and not odd_height:
        return images
    return F.pad(images.movedim(-1, 1), (0, odd_width, 0, odd_height), "replicate").movedim(1, -1)


def _pixels(images: Tensor) -> Tensor:
    """(N, H, W, 3) -> (N, 3, 1, H, W)."""
    return images.movedim(-1, 1)[:, :, None]


def _images(pixels: Tensor) -> Tensor:
    return pixels[:, :, 0].movedim(1, -1).contiguous()


def to_picture(image: Tensor) -> Image.Image:
    """Convert (H, W, 3) in [0, 1] to a Pillow image."""
    return Image.fromarray(from_unit(image.float().cpu().numpy()))


def to_image(picture: Image.Image) -> Tensor:
    """Convert a Pillow image to IMAGE (1, H, W, 3)."""
    return torch.from_numpy(to_unit(np.asarray(picture.convert("RGB"))))[None]
