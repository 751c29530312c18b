"""The one place where 8-bit frames become [-1, 1], and back; and the one reader of any file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from clip_files import clip, number
from PIL import Image

from byg_train.media import MediaError
from byg_train.media.pixels import (
    from_levels,
    from_unit,
    to_batch,
    to_frames,
    to_levels,
    to_picture,
    to_pixels,
    to_unit,
)
from byg_train.media.reader import is_clip, read_media

LEVELS = torch.arange(256, dtype=torch.uint8)
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)


def test_every_level_comes_back() -> None:
    pixels = from_levels(LEVELS)
    assert (pixels[0], pixels[255], pixels.dtype) == (-1, 1, torch.float32)
    assert torch.allclose(pixels.diff(), torch.tensor(2 / 255), atol=1e-6)
    assert torch.equal(to_levels(pixels), LEVELS)


def test_levels_are_rounded_and_clipped() -> None:
    around = from_levels(LEVELS[1:-1]) + torch.tensor([[-0.49], [0.49]]) / 127.5
    assert torch.equal(to_levels(around), LEVELS[1:-1].expand(2, -1))
    assert to_levels(torch.tensor([-7.0, 7.0, 1.004])).tolist() == [0, 255, 255]


def test_half_precision_is_rounded_once() -> None:
    """Networks may answer in bfloat16, whose own arithmetic would round every step anew."""
    pixels = from_levels(LEVELS).to(torch.bfloat16)
    assert torch.equal(to_levels(pixels), to_levels(pixels.float()))


def test_the_unit_range_of_comfyui_and_measures() -> None:
    levels = np.arange(256, dtype=np.uint8)
    unit = to_unit(levels)
    assert (unit[0], unit[255], unit.dtype) == (0, 1, np.float32)
    assert np.array_equal(from_unit(unit), levels)
    assert from_unit(np.array([-1.0, 0.4999 / 255, 0.5001 / 255, 2.0])).tolist() == [0, 0, 1, 255]


def test_axes() -> None:
    pixels = to_pixels(FRAMES)
    assert pixels.shape == (3, 5, 4, 6)
    assert pixels[1, 2, 3, 4] == FRAMES[2, 3, 4, 1] / np.float32(127.5) - 1
    assert np.array_equal(to_frames(pixels), FRAMES)
    assert np.array_equal(np.asarray(to_picture(pixels[:, 3:])), FRAMES[3])
    assert torch.equal(to_batch([FRAMES, FRAMES[::-1]])[1], to_pixels(FRAMES).flip(1))


def test_what_is_read_only_or_turned_is_copied() -> None:
    frames = FRAMES[:, ::-1].copy()
    frames.setflags(write=False)
    pixels = to_pixels(np.rot90(frames, 1, (1, 2)))
    assert torch.equal(pixels, to_pixels(np.rot90(frames, 1, (1, 2)).copy()))
    levels = torch.full((2, 2), 7.0)
    from_levels(levels)
    assert (levels == 7).all(), "the argument stays as it is"


# ---------------------------------------------------------------- the reader


def test_a_picture_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    Image.fromarray(FRAMES[0]).save(tmp_path / "a.png")
    found = read_media(tmp_path / "a.png")
    assert np.array_equal(found.frames, FRAMES[:1])
    assert found.fps is None
    assert np.array_equal(np.asarray(found.picture), FRAMES[0])


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    moving = clip(tmp_path / "a.mp4", 5).rename(tmp_path / "moving.png")
    Image.fromarray(FRAMES[0]).save(tmp_path / "still.mp4", "PNG")
    assert is_clip(moving) and not is_clip(tmp_path / "still.mp4")
    found = read_media(moving)
    assert (found.fps, [number(frame) for frame in found.frames]) == (24, list(range(5)))
    assert np.array_equal(read_media(tmp_path / "still.mp4").frames, FRAMES[:1])


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_pictures_of_several_frames(tmp_path: Path, suffix: str) -> None:
    """A GIF that moves is a clip; of others the first frame, layer or page is the picture."""
    first, second = (Image.new("RGB", (16, 16), colour) for colour in ("black", "white"))
    path = tmp_path / f"a.{suffix}"
    first.save(path, save_all=True, append_images=[second])
    assert len(read_media(path).frames) == (2 if suffix == "gif" else 1)
    first.save(path)
    assert np.array_equal(read_media(path).frames, np.zeros((1, 16, 16, 3), np.uint8))


def test_films_of_mpeg_are_clips_also_to_pillow(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mpg", 5, codec="mpeg2video", sound=False)
    assert is_clip(path)
    assert len(read_media(path).frames) == 5


def test_what_is_neither_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("a text")
    with pytest.raises(MediaError, match="cannot be read"):
        read_media(tmp_path / "a.png")
