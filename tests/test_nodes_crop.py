"""A part of a picture or clip is edited around a mask and put back; other channels than RGB."""

from __future__ import annotations

import graphs_crop
import pytest
import torch
from comfy_host import in_host
from graphs import INFO
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

pytestmark = pytest.mark.host
RED = torch.tensor([1.0, 0.0, 0.0])


def _photo(height: int = 300, width: int = 400, count: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.rand(count, height, width, 3, generator=g)


def _mask(like: Tensor, left: int, top: int, width: int, height: int) -> Tensor:
    mask = torch.zeros(1, *like.shape[1:3])
    mask[:, top : top + height, left : left + width] = 1
    return mask


# ---------------------------------------------------------------- the part


@given(st.data())
def test_the_part_holds_the_mask_and_lies_in_the_picture(data: st.DataObject) -> None:
    width, height = (data.draw(st.integers(1, 60)) for _ in range(2))
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    wide = data.draw(st.integers(1, width - left))
    high = data.draw(st.integers(1, height - top))
    context, least = data.draw(st.floats(1, 4)), data.draw(st.integers(1, 80))
    mask = torch.zeros(1, height, width)
    mask[:, top : top + high, left : left + wide] = 1
    x, y, w, h = in_host(graphs_crop.box, mask, context, float(least))
    assert 0 <= x <= left and left + wide <= x + w <= width
    assert 0 <= y <= top and top + high <= y + h <= height
    assert w >= min(width, least, round(wide * context)) and h >= min(height, least)


def test_the_part_is_worked_on_at_the_trained_size_in_its_own_pixels() -> None:
    """A small mask in a large picture: nothing is scaled, and what is seen is the picture's own."""
    photo = _photo()
    mask = _mask(photo, 200, 100, 10, 10)
    seen, latent, soft = in_host(graphs_crop.sizes, photo, mask, INFO)
    assert seen.shape == (1, 48, 48, 3) and latent == (1, 8, 12, 12)
    assert torch.equal(seen, photo[:, 81:129, 181:229])
    assert soft.shape == (1, 1, 48, 48) and soft.sum() == 100
    more, *_ = in_host(graphs_crop.sizes, photo, _mask(photo, 100, 50, 100, 50), INFO)
    assert more.shape[1] < more.shape[2] and abs(more.shape[1] * more.shape[2] / 48**2 - 1) < 0.4


def test_all_else_keeps_its_pixels_to_the_bit() -> None:
    photo = _photo()
    mask = _mask(photo, 200, 100, 60, 30)
    result = in_host(graphs_crop.stitched, photo, mask, INFO, {}, {"feather": 0})
    white = mask[0] > 0
    assert result.shape == photo.shape and torch.equal(result[0][~white], photo[0][~white])
    assert torch.allclose(result[0][white], RED)
    soft = in_host(graphs_crop.stitched, photo, mask, INFO, {}, {"feather": 6})
    assert torch.equal(soft[0][~white], photo[0][~white])
    assert not torch.allclose(soft[0][white], RED)


def test_without_the_mask_the_whole_part_is_new() -> None:
    photo = _photo()
    mask, off = _mask(photo, 200, 100, 10, 10), {"keep_outside_mask": False}
    result = in_host(graphs_crop.stitched, photo, mask, INFO, {}, off)
    changed = (result[0] - photo[0]).abs().amax(-1) > 0
    assert changed[81:129, 181:229].all() and changed.sum() == 48 * 48


def test_variations_and_several_pictures() -> None:
    photos = _photo(count=2)
    mask = _mask(photos, 200, 100, 60, 30)
    result = in_host(graphs_crop.stitched, photos, mask, INFO, {"batch_size": 2}, {"feather": 0})
    white = mask[0] > 0
    for i, picture in enumerate(result):
        assert torch.equal(picture[~white], photos[i // 2][~white])
        assert torch.allclose(picture[white], RED)
    own = in_host(graphs_crop.stitched, photos, mask, INFO, {}, {"match_size": False, "feather": 0})
    assert own.shape[1:3] != photos.shape[1:3]


def test_a_part_of_a_clip() -> None:
    """The part is around the masks of all frames; every frame keeps the rest."""
    frames = torch.rand(6, 90, 120, 3, generator=torch.Generator().manual_seed(1))
    masks = torch.cat([_mask(frames, 20 + 4 * i, 30, 8, 8) for i in range(6)])
    result = in_host(graphs_crop.stitched_clip, frames, masks, {"feather": 0})
    assert result.shape == frames.shape
    for frame, source, mask in zip(result, frames, masks, strict=True):
        assert torch.equal(frame[mask == 0], source[mask == 0])
        assert torch.allclose(frame[mask == 1], RED)


# ---------------------------------------------------------------- channels


def test_transparency_stands_on_white() -> None:
    photo = _photo(48, 48)
    alpha = torch.linspace(0, 1, 48).expand(1, 48, 48)[..., None]
    found = in_host(graphs_crop.seen, torch.cat([photo, alpha], -1))
    assert (found - (photo * alpha + 1 - alpha)).abs().max() < 1e-6
    assert torch.equal(found[:, :, 0], torch.ones(1, 48, 3))


@pytest.mark.parametrize("channels", [1, 2])
def test_grey_pictures_have_three_equal_channels(channels: int) -> None:
    grey = _photo(48, 48)[..., :channels]
    found = in_host(graphs_crop.seen, grey)
    assert found.shape[-1] == 3 and torch.equal(found[..., 0], found[..., 2])
    if channels == 1:
        assert torch.equal(found[..., :1], grey)


def test_a_mask_is_a_share_whatever_its_values_and_its_channel_are() -> None:
    """Values beyond 1 would paint outside of the range of pictures."""
    images, mask = torch.zeros(1, 20, 30, 3), torch.zeros(1, 20, 30)
    mask[0, :5], mask[0, 5:10], mask[0, 10:12] = 5, -1, 0.5
    wanted = mask.clamp(0, 1)
    for shape in ((20, 30), (1, 20, 30), (1, 1, 20, 30), (1, 20, 30, 1)):
        found = in_host(graphs_crop.mask, mask.reshape(shape), images)
        assert torch.equal(found, wanted)
