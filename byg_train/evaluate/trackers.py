"""Motion in clips, from networks that this package does not ship: CoTracker and RAFT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..media.pixels import Frames, to_pixels

# A clip (F, H, W, 3) -> tracks (N, F, 2) in pixels, of points on a grid in its first frame.
Tracker = Callable[[Frames], NDArray]
# Two frames (H, W, 3) -> the flow from the first to the second (H, W, 2), pixels.
Flow = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray]
COTRACKER = "facebookresearch/co-tracker"
GRID = 55  # points along either side, in the first frame
ITERATIONS = 20  # VBench's
# RAFT takes sides that are multiples of 8, of at least 128 pixels.
RAFT_STEP, RAFT_LEAST = 8, 128


def load_cotracker(where: str, device: str = "cpu") -> Tracker:
    """Load CoTracker 3 (offline mode) from a checkout of its repository, or from GitHub (`hub`).

    Its weights are CC-BY-NC. torch.hub runs the repository's own code.
    """
    repository, source = (COTRACKER, "github") if where == "hub" else (where, "local")
    model = torch.hub.load(
        repository, "cotracker3_offline", source=source, trust_repo=True, skip_validation=True
    )
    model = model.eval().to(device)

    @torch.no_grad()
    def track(frames: Frames) -> NDArray:
        clip = torch.from_numpy(frames).permute(0, 3, 1, 2).float()[None].to(device)  # 0 to 255
        tracks, _ = model(clip, grid_size=GRID)  # (1, F, N, 2), pixels
        return tracks[0].permute(1, 0, 2).cpu().numpy()

    return track


def load_raft(file: Path | None, device: str = "cpu") -> Flow:
    """Load torchvision's RAFT, trained on FlyingChairs and FlyingThings like VBench's.

    VBench's own weights (RAFT-things) are those of another implementation, so a clip on the
    threshold may fall to the other side.

    Args:
        file: the weights as safetensors; None: torchvision downloads them, and checks their hash.
        device: cpu or cuda.
    """
    try:
        from torchvision.models.optical_flow import Raft_Large_Weights, raft_large
    except ImportError:
        raise ValueError("the torchvision package is missing: pip install torchvision") from None
    if file is None:
        weights = torch.hub.load_state_dict_from_url(
            Raft_Large_Weights.C_T_V2.url, map_location="cpu", check_hash=True, weights_only=True
        )
    else:
        from safetensors.torch import load_file

        weights = load_file(file)
    model = raft_large()
    model.load_state_dict(weights)
    model.eval().to(device)

    @torch.no_grad()
    def flow(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray:
        height, width = a.shape[:2]
        right, below = (_padded(side) - side for side in (width, height))
        pixels = to_pixels(np.stack([a, b])).transpose(0, 1)  # (2, 3, H, W)
        pixels = torch.nn.functional.pad(pixels, (0, right, 0, below), mode="replicate")
        field = model(*pixels.to(device).split(1), num_flow_updates=ITERATIONS)[-1]
        return field[0, :, :height, :width].permute(1, 2, 0).cpu().numpy()

    return flow


def _padded(side: int) -> int:
    return max(RAFT_LEAST, -(-side // RAFT_STEP) * RAFT_STEP)
