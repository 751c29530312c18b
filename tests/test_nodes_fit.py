"""Clips and exact sizes: frames to 4k + 1 and back, rates, and what travels in a LoRA's file."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from graphs import INFO
from hypothesis import given
from hypothesis import strategies as st

from byg_train.media.fit import Fit, Frames, Size
from byg_train.models.lora_file import LoraInfo


@given(st.integers(1, 200))
def test_frames_are_padded_and_come_back(length: int) -> None:
    plan = Frames.of(length, group=4)
    assert len(plan.seen) % 4 == 1 and 0 <= len(plan.seen) - length < 4
    assert plan.seen[:length] == plan.back == tuple(range(length))
    assert set(plan.seen[length:]) <= {length - 1} and plan.count == length


@given(st.integers(1, 200), st.floats(5, 120), st.floats(5, 60))
def test_another_rate_takes_the_frames_nearest_in_time(
    length: int, fps: float, model_fps: float
) -> None:
    plan = Frames.of(length, fps, model_fps, group=4)
    assert len(plan.back) == length and len(plan.seen) % 4 == 1
    assert list(plan.seen) == sorted(plan.seen) and list(plan.back) == sorted(plan.back)
    assert max(plan.seen) < length and max(plan.back) < plan.count
    # Half a frame away at most, but for the clip's end.
    for i, frame in enumerate(plan.seen[: plan.count]):
        assert abs(i / model_fps - frame / fps) <= 0.5 / fps + 1e-9 or frame == length - 1
    for frame, i in enumerate(plan.back):
        assert abs(i / model_fps - frame / fps) <= 0.5 / model_fps + 1e-9 or i == plan.count - 1
    assert abs(plan.count / model_fps - length / fps) <= 0.5 / model_fps + 1e-9 or plan.count == 1


@pytest.mark.parametrize("wrong", [(0, 16, 16), (5, 0, 16), (5, 16, 0)])
def test_a_clip_of_nothing_is_refused(wrong: tuple) -> None:
    with pytest.raises(ValueError, match="wanted above 0"):
        Frames.of(*wrong, group=4)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 100), st.integers(1, 100))
def test_an_exact_size_holds_the_whole_picture(w: int, h: int, a: int, b: int) -> None:
    outer = Size(8 * a, 8 * b)
    fit = Fit.within(w, h, outer)
    assert fit.outer == outer and fit.source == (w, h)
    assert fit.inner.width <= outer.width and fit.inner.height <= outer.height
    assert fit.inner.width == outer.width or fit.inner.height == outer.height
    scale = min(outer.width / w, outer.height / h)
    assert abs(fit.inner.width - w * scale) <= 1 and abs(fit.inner.height - h * scale) <= 1


def test_a_picture_within_an_exact_size_comes_back() -> None:
    smooth = torch.linspace(-1, 1, 40).expand(1, 3, 1, 24, 40)
    fit = Fit.within(40, 24, Size(96, 96))
    assert fit.apply(smooth).shape[-2:] == (96, 96)
    assert (fit.undo(fit.apply(smooth)) - smooth).abs().max() < 0.02


def test_what_a_pair_of_networks_needs_travels_in_the_file() -> None:
    info = replace(INFO, family="wan", expert="high", boundary=0.875, frames=81, fps=16.0)
    assert LoraInfo.from_metadata(info.to_metadata()) == info
    older = {k: v for k, v in INFO.to_metadata().items() if "expert" not in k and "fps" not in k}
    assert LoraInfo.from_metadata(older).fps is None
