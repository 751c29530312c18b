"""ByG Finish brings back the source's size; ByG Compare and ByG Expert Split."""

from __future__ import annotations

import graphs
import graphs_wan
import numpy as np
import pytest
import torch
from comfy_host import in_host
from torch import Tensor

pytestmark = pytest.mark.host
SMALL = {"size_mode": "megapixels", "megapixels": 0.01}


def _smooth(count: int = 1, height: int = 50, width: int = 77) -> Tensor:
    """Pictures without fine detail, each with its own slope."""
    y = torch.linspace(0, 1, height)[:, None].expand(height, width)
    x = torch.linspace(0, 1, width).expand(height, width)
    slopes = [torch.stack([y, x, (x + y * i) / (1 + i)], -1) for i in range(1, count + 1)]
    return torch.stack(slopes)


# ---------------------------------------------------------------- ByG Finish


def test_the_size_comes_back_without_a_shift() -> None:
    image = _smooth(2)
    found = in_host(graphs.finish, image, None, SMALL, {})
    assert found.shape == image.shape
    error = (found - image).abs().mean()
    assert error < 2e-3
    # A shift by a pixel would be seen.
    assert (found[:, :, 1:] - image[:, :, :-1]).abs().mean() > 2 * error


def test_the_models_own_size_on_demand() -> None:
    found = in_host(graphs.finish, _smooth(), None, SMALL, {"match_size": False})
    assert found.shape == (1, 88, 128, 3)


def test_black_stays_the_source_and_white_gets_the_edit() -> None:
    image, mask = _smooth(), torch.zeros(1, 50, 77)
    mask[:, 10:40, 20:60] = 1
    edit = {**SMALL, "mask": mask}
    hard = in_host(graphs.finish_white, image, edit, {"feather": 0})
    soft = in_host(graphs.finish_white, image, edit, {"feather": 6})
    for found in (hard, soft):
        assert torch.equal(found[0][mask[0] == 0], image[0][mask[0] == 0])
        assert found[0, 25, 40].min() == 1
    assert hard[0][mask[0] == 1].min() == 1
    edge = (soft - image)[0, 25, 20:30, 2]
    assert edge[0] < 0.2 * edge[-1] and (edge.diff() > -1e-3).all()
    all_white = in_host(graphs.finish_white, image, edit, {"keep_outside_mask": False})
    assert all_white.min() == 1


def test_a_mask_can_come_late() -> None:
    image, mask = _smooth(), torch.zeros(1, 50, 77)
    mask[:, :25] = 1
    found = in_host(graphs.finish_white, image, SMALL, {"mask": mask, "feather": 0})
    assert torch.equal(found[:, 25:], image[:, 25:]) and found[:, :25].min() == 1


def test_variations_find_their_sources() -> None:
    image, mask = _smooth(2), torch.zeros(1, 50, 77)
    mask[:, :25] = 1
    found = in_host(graphs.finish, image, None, {**SMALL, "batch_size": 2, "mask": mask}, {})
    assert len(found) == 4
    for i in range(4):
        assert torch.equal(found[i, 25:], image[i // 2, 25:])


def test_colours_of_the_source() -> None:
    image = _smooth()
    g = torch.Generator().manual_seed(0)
    result = torch.rand(1, 88, 128, 3, generator=g) * 0.2
    found = in_host(graphs.finish, image, result, SMALL, {"color_match": "mean/std"})
    assert (found.mean((1, 2)) - image.mean((1, 2))).abs().max() < 0.05


@pytest.mark.parametrize(
    ("result", "edit", "words"),
    [
        (torch.rand(1, 50, 77, 3), {}, r"images: 77 x 50 pixels, the edit worked at 128 x 88"),
        (torch.rand(3, 88, 128, 3), {}, r"images: 3, wanted 1"),
        (torch.rand(2, 88, 128, 3), {"batch_size": 3}, r"images: 2, wanted 3 \(1 sources, 3 var"),
        (torch.rand(0, 88, 128, 3), {}, r"images: an empty batch"),
    ],
)
def test_results_that_do_not_fit(result: Tensor, edit: dict, words: str) -> None:
    with pytest.raises(ValueError, match=rf"ByG Finish: {words}"):
        in_host(graphs.finish, _smooth(), result, {**SMALL, **edit}, {})


# ---------------------------------------------------------------- ByG Compare


def test_side_by_side_holds_both() -> None:
    a, b = _smooth(3), _smooth(3).flip(2)
    found = in_host(graphs.compare, a, b, "side by side")
    assert len(found) == 3 and found.shape[2] > 2 * 192
    assert found.shape[1] % 2 == found.shape[2] % 2 == 0  # else no clip of it could be saved
    assert found[0].std() > 0.05


def test_a_difference_is_black_where_nothing_changed() -> None:
    a = _smooth()
    b = a.clone()
    b[:, 10, 20] += 0.1
    found = in_host(graphs.compare, a, b, "difference x4")
    assert torch.allclose(found[0, 10, 20], torch.tensor(0.4)) and found.count_nonzero() == 3


@pytest.mark.parametrize("frames", [1, 9])
def test_a_wipe_runs_from_b_to_a(frames: int) -> None:
    a, b = torch.zeros(frames, 8, 64, 3), torch.full((frames, 8, 64, 3), 0.5)
    found = in_host(graphs.compare, a, b, "wipe")
    assert len(found) == (25 if frames == 1 else 9)
    assert (found[0] == 0.5).float().mean() > 0.95 and (found[-1] == 0).float().mean() > 0.95
    middle = found[len(found) // 2]
    assert middle[:, :30].max() == 0 and (middle[:, 34:] == 0.5).all()
    assert middle[:, 31:33].max() == 1  # the edge


def test_one_goes_with_all_and_sizes_are_made_equal() -> None:
    found = in_host(graphs.compare, _smooth(1), _smooth(4, 25, 38), "difference x4")
    assert found.shape == (4, 50, 78, 3) and torch.equal(found[:, :, 76], found[:, :, 77])
    with pytest.raises(ValueError, match=r"ByG Compare: a has 2 pictures and b 3"):
        in_host(graphs.compare, _smooth(2), _smooth(3), "wipe")


def test_the_slider_gets_both_halves() -> None:
    a, b = _smooth(2), _smooth(2).flip(2)
    pictures, _, labels = in_host(graphs.under_the_slider, a, b, 0.0)
    assert labels == ["before", "after"] and len(pictures) == 2
    whole = (torch.cat([a, b], dim=2) * 255).byte().numpy()
    height, width = a.shape[1] + a.shape[1] % 2, a.shape[2] + a.shape[2] % 2
    assert pictures[1].shape == (height, 2 * width, 3)
    assert np.array_equal(pictures[1][: a.shape[1], : a.shape[2]], whole[1][:, : a.shape[2]])
    assert np.array_equal(pictures[1][: a.shape[1], width:][:, : a.shape[2]], whole[1][:, -77:])


def test_the_slider_gets_large_pictures_smaller() -> None:
    large = torch.zeros(1, 100, 5000, 3)
    ((picture,), _, _) = in_host(graphs.under_the_slider, large, large[:, :50], 0.0)
    assert picture.shape == (42, 4096, 3)


@pytest.mark.parametrize(("frames", "fps", "rate"), [(17, 0.0, 16.0), (5, 24.0, 24.0)])
def test_the_slider_plays_clips(frames: int, fps: float, rate: float) -> None:
    a, b = torch.zeros(frames, 32, 48, 3), torch.ones(frames, 32, 48, 3)
    found, played, _ = in_host(graphs.under_the_slider, a, b, fps)
    assert len(found) == frames and played == rate
    assert found[-1][:, :44].mean() < 30 < 225 < found[-1][:, 52:].mean()


# ---------------------------------------------------------------- ByG Expert Split


@pytest.mark.parametrize(("shift", "step"), [(12.0, 13), (8.0, 11), (5.0, 9)])
def test_the_second_expert_takes_over_at_the_boundary(shift: float, step: int) -> None:
    high, low, found = in_host(graphs_wan.split, shift)
    assert found == step and len(high) == step + 1 and len(low) == 21 - step
    assert high[-1] == low[0] < 0.875 <= high[-2]
    assert in_host(graphs_wan.split, 0.0, shift)[2] == step  # the model's own


def test_a_late_start_may_need_one_expert_alone() -> None:
    from functools import partial

    high, low, step = in_host(partial(graphs_wan.split, 5.0, denoise=0.3, steps=6))
    assert step == 0 and len(high) == 1 and len(low) == 7 and low[0] < 0.875
