"""Point tracks and optical flow through the code that loads the real networks."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from edit_folders import evaluate

from byg_train.evaluate.metrics.motion_fidelity import motion_fidelity
from byg_train.evaluate.trackers import GRID, load_cotracker, load_raft
from byg_train.media.writer import write_clip

# A repository as torch.hub wants it, with a tracker whose tracks are known: everything moves by the
# brightness of the frame.
HUB = """
dependencies = ["torch"]
import torch

class Tracker(torch.nn.Module):
    def forward(self, clip, grid_size):
        assert clip.dtype == torch.float32 and clip.max() > 1 and clip.shape[2] == 3
        frames = clip.shape[1]
        points = torch.cartesian_prod(*[torch.arange(float(grid_size))] * 2)
        moved = clip.mean((2, 3, 4))[0, :, None, None] * torch.tensor([1.0, 0.5])
        tracks = points[None] + moved
        return tracks[None], torch.ones(1, frames, grid_size**2)

def cotracker3_offline(pretrained=True):
    return Tracker()
"""


@pytest.fixture
def checkout(tmp_path: Path) -> str:
    (tmp_path / "hubconf.py").write_text(HUB)
    return str(tmp_path)


def brightening(step: int) -> np.ndarray:
    return np.stack([np.full((8, 12, 3), 40 + step * i, np.uint8) for i in range(5)])


@pytest.mark.slow
def test_tracks_of_a_checkout(checkout: str) -> None:
    track = load_cotracker(checkout)
    tracks = track(brightening(10))
    assert tracks.shape == (GRID**2, 5, 2)
    steps = np.diff(tracks, axis=1)
    assert steps == pytest.approx(np.broadcast_to([10.0, 5.0], steps.shape), abs=1e-3)
    there, back = track(brightening(10)), track(brightening(-5))
    assert motion_fidelity(there, tracks).score == pytest.approx(1)
    assert motion_fidelity(there, back).score == pytest.approx(-1)


@pytest.mark.slow
def test_motion_from_the_command_line(checkout: str, tmp_path: Path) -> None:
    """A result that moves as its source does, and one that stands still: that has no value."""
    for folder, step in (("tasks", 10), ("moving", 6), ("frozen", 0)):
        frames = brightening(step).repeat(4, 1).repeat(4, 2)
        write_clip(tmp_path / folder / "clip.mp4", iter(frames), fps=Fraction(8))
    done = evaluate(
        "score", tmp_path / "moving", tmp_path / "frozen", "--sources", tmp_path / "tasks",
        "--instruction", "x", "--metrics", "motion", "--cotracker", checkout,
        "--json", tmp_path / "o.json", "--device", "cpu",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    told = json.loads((tmp_path / "o.json").read_text())
    assert told["moving"]["all"]["motion"]["mean"] == pytest.approx(1)
    assert told["moving"]["all"]["still"]["mean"] == 0
    assert told["frozen"]["all"]["motion"]["missing"] == 1
    assert told["frozen"]["all"]["still"]["mean"] == 1
    assert "frozen: of 1 edits without a value: motion 1" in done.output


def test_a_missing_checkout_is_an_error_that_can_be_explained(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="hubconf.py"):
        load_cotracker(str(tmp_path))


def test_flow_of_any_size(tmp_path: Path) -> None:
    """torchvision's network with random weights, through a safetensors file."""
    optical_flow = pytest.importorskip("torchvision.models.optical_flow")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    weights = {name: t.clone() for name, t in optical_flow.raft_large().state_dict().items()}
    save_file(weights, tmp_path / "raft.safetensors")
    flow = load_raft(tmp_path / "raft.safetensors")
    a, b = np.random.default_rng(0).integers(0, 255, (2, 45, 133, 3), np.uint8)
    field = flow(a, b)
    assert field.shape == (45, 133, 2) and np.isfinite(field).all()
    assert not np.allclose(field, flow(b, a), atol=1e-3)


def test_flow_needs_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchvision.models.optical_flow", None)
    with pytest.raises(ValueError, match="pip install torchvision"):
        load_raft(None)
