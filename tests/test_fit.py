"""Sizes and back: inverses, invariances and the rules of the buckets."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from byg_train.media.fit import Fit, Size, buckets, cover, nearest_bucket

sides = st.integers(1, 47)
multiples = st.sampled_from([1, 2, 8, 16])
resolutions = st.integers(8, 64)


def noise(width: int, height: int, frames: int = 1, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(width * 1000 + height)
    return torch.rand(batch, 3, frames, height, width, generator=generator) * 2 - 1


# ---------------------------------------------------------------- buckets


@given(
    resolution=st.integers(16, 1536),
    multiple=st.sampled_from([8, 16, 32]),
    max_aspect=st.floats(1, 4),
)
@example(512, 16, 2.0)
@example(16, 32, 4.0)
def test_buckets_keep_their_rules(resolution: int, multiple: int, max_aspect: float) -> None:
    found = buckets(resolution, multiple, max_aspect)
    square = max(1, round(resolution / multiple)) * multiple
    assert (square, square) in found
    assert found == sorted(set(found))
    for width, height in found:
        assert width % multiple == height % multiple == 0
        assert max(width, height) <= max_aspect * min(width, height)
        assert (height, width) in found
        if width != height:
            assert 0.8 <= width * height / resolution**2 <= 1.2


def test_buckets_are_dense_enough_to_crop_little() -> None:
    found = buckets(512, 16, 2.0)
    aspects = [width / height for width, height in found]
    steps = [b / a for a, b in pairwise(aspects)]
    assert aspects[0] < 0.53 and aspects[-1] > 1.9
    assert min(steps) > 1.04 and max(steps) < 1.12
    assert all(abs(w * h / 512**2 - 1) < 0.03 for w, h in found)


def test_the_square_alone_at_aspect_one_and_the_worlds_canvases() -> None:
    assert buckets(512, 16, 1.0) == [(512, 512)]
    assert {(48, 48), (56, 40), (40, 56)} <= set(buckets(48, 8, 2.0))


@given(width=st.integers(1, 4000), height=st.integers(1, 4000))
def test_the_nearest_bucket_is_the_one_whose_crop_keeps_most(width: int, height: int) -> None:
    found = buckets(512, 16, 2.0)

    def kept(size: tuple[int, int]) -> float:
        a, b = width / height, size[0] / size[1]
        return min(a / b, b / a)

    nearest = nearest_bucket(width, height, found)
    assert kept(nearest) == pytest.approx(max(map(kept, found)))


# ---------------------------------------------------------------- cover


@given(width=sides, height=sides, to=st.tuples(sides, sides))
@settings(max_examples=60)
def test_cover_gives_the_size_and_keeps_a_constant(
    width: int, height: int, to: tuple[int, int]
) -> None:
    out = cover(torch.full((2, 3, 1, height, width), 0.3), *to)
    assert out.shape == (2, 3, 1, to[1], to[0])
    torch.testing.assert_close(out, torch.full_like(out, 0.3))


def test_cover_crops_the_centre_and_does_not_distort() -> None:
    picture = torch.full((1, 1, 1, 20, 60), -1.0)
    picture[..., 20:40] = 1.0  # the middle third is the square that stays
    assert (cover(picture, 20, 20) == 1).all()
    ramp = torch.linspace(-1, 1, 60).expand(1, 1, 1, 20, 60)
    halved = cover(ramp, 10, 10)[0, 0, 0]
    torch.testing.assert_close(halved[:, 4:5] + halved[:, 5:6], torch.zeros(10, 1))  # centred
    step = (halved[5, 6] - halved[5, 3]) / 3
    assert step == pytest.approx(2 * 2 / 59, rel=1e-3)  # two source pixels per pixel


def test_cover_is_the_identity_at_its_own_size() -> None:
    picture = noise(24, 16)
    assert torch.equal(cover(picture, 24, 16), picture)


def test_frames_and_pictures_of_a_batch_do_not_mix() -> None:
    one, two = noise(30, 20, frames=3), noise(30, 20, frames=3).flip(-1) * 0.5
    both = cover(torch.cat([one, two]), 16, 16)
    torch.testing.assert_close(both, torch.cat([cover(one, 16, 16), cover(two, 16, 16)]))
    torch.testing.assert_close(both[:1, :, 1:2], cover(one[:, :, 1:2], 16, 16))


# ---------------------------------------------------------------- fit and undo


@given(width=st.integers(1, 4000), height=st.integers(1, 3000), multiple=multiples)
@example(1, 1, 16)
@example(4000, 3000, 16)
@example(4000, 1, 16)
def test_the_fit_keeps_the_aspect_to_the_pixel(width: int, height: int, multiple: int) -> None:
    fit = Fit.of(width, height, 512, multiple)
    scale = 512 / math.sqrt(width * height)
    assert abs(fit.inner.width - width * scale) <= 0.5 or fit.inner.width == 1
    assert abs(fit.inner.height - height * scale) <= 0.5 or fit.inner.height == 1
    for inner, outer in zip(fit.inner, fit.outer, strict=True):
        assert outer % multiple == 0
        assert 0 <= outer - inner < multiple


@given(width=sides, height=sides, resolution=resolutions, multiple=multiples)
@settings(max_examples=60)
def test_undo_gives_the_sources_size_and_the_same_constant(
    width: int, height: int, resolution: int, multiple: int
) -> None:
    fit = Fit.of(width, height, resolution, multiple)
    there = fit.apply(torch.full((1, 3, 1, height, width), -0.7))
    assert there.shape[-2:] == (fit.outer.height, fit.outer.width)
    back = fit.undo(there)
    assert torch.equal(back, torch.full((1, 3, 1, height, width), -0.7))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (4000, 3000), (1, 999)])
def test_undo_gives_the_sources_size_at_the_extremes(width: int, height: int) -> None:
    fit = Fit.of(width, height, 64, 16)
    back = fit.undo(fit.apply(torch.zeros(1, 1, 1, height, width)))
    assert back.shape[-2:] == (height, width)


@given(width=sides, height=sides, resolution=resolutions, multiple=multiples)
@settings(max_examples=40)
def test_the_padding_repeats_the_border_and_never_comes_back(
    width: int, height: int, resolution: int, multiple: int
) -> None:
    fit = Fit.of(width, height, resolution, multiple)
    there = fit.apply(noise(width, height))
    inside = torch.zeros(fit.outer.height, fit.outer.width, dtype=torch.bool)
    left = (fit.outer.width - fit.inner.width) // 2
    top = (fit.outer.height - fit.inner.height) // 2
    inside[top : top + fit.inner.height, left : left + fit.inner.width] = True
    assert torch.equal(fit.undo(there), fit.undo(torch.where(inside, there, torch.tensor(9.0))))
    inner = there[..., inside].reshape(3, fit.inner.height, fit.inner.width)
    assert torch.equal(there[0, :, 0, 0, 0], inner[:, 0, 0])
    assert torch.equal(there[0, :, 0, -1, -1], inner[:, -1, -1])


def test_a_picture_that_fits_already_comes_back_bit_for_bit() -> None:
    fit = Fit.of(60, 15, 30, 16)
    assert fit == Fit(Size(60, 15), Size(60, 15), Size(64, 16))
    picture = noise(60, 15, frames=2, batch=2)
    assert torch.equal(fit.undo(fit.apply(picture)), picture)


def test_a_smooth_picture_survives_being_enlarged_and_brought_back() -> None:
    x = torch.linspace(0, 2 * math.pi, 37)
    y = torch.linspace(0, 2 * math.pi, 23)[:, None]
    picture = (x.sin() * y.cos()).expand(1, 3, 1, 23, 37)
    fit = Fit.of(37, 23, 96, 16)
    error = (fit.undo(fit.apply(picture)) - picture).abs()
    assert error.max() < 0.02


def test_resizing_does_not_overshoot_any_picture_of_a_batch() -> None:
    hard = torch.zeros(2, 1, 1, 9, 9)
    hard[0, ..., 4:] = 1.0
    hard[1, ..., 4:] = 0.5
    there = Fit.of(9, 9, 40, 8).apply(hard)
    assert there.flatten(1).min(1).values.tolist() == [0, 0]
    assert there.flatten(1).max(1).values.tolist() == [1, 0.5]


def test_a_wrong_size_is_refused() -> None:
    fit = Fit.of(20, 10, 32, 16)
    with pytest.raises(ValueError, match="got 10 x 20 pixels, wanted 20 x 10"):
        fit.apply(torch.zeros(1, 3, 1, 20, 10))
    with pytest.raises(ValueError, match="wanted 48 x 32"):
        fit.undo(torch.zeros(1, 3, 1, 10, 20))
