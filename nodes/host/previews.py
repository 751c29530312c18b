"""Files that the frontend shows while it is open, in ComfyUI's temporary folder."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.v0_0_2 import InputImpl, Types, io, ui
from torch import Tensor

TEMPORARY = io.FolderType.temp


def save_pictures(images: Tensor, name: str) -> list[dict[str, Any]]:
    """Save (N, H, W, 3) as PNGs; returns how the frontend asks for each."""
    return list(ui.ImageSaveHelper.save_images(images, name, TEMPORARY, None, compress_level=1))


def save_clip(images: Tensor, name: str, fps: float) -> dict[str, Any]:
    """Save frames (N, H, W, 3) of even sides as one clip; returns how the frontend asks for it."""
    temp, (_, height, width, _) = folder_paths.get_temp_directory(), images.shape
    given = folder_paths.get_save_image_path(name, temp, width, height)
    folder, stem, counter, subfolder, _ = given
    file = f"{stem}_{counter:05}_.mp4"
    parts = Types.VideoComponents(images=images, frame_rate=Fraction(fps).limit_denominator(1001))
    InputImpl.VideoFromComponents(parts).save_to(str(Path(folder) / file))
    return {"filename": file, "subfolder": subfolder, "type": TEMPORARY.value}
