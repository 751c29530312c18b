"""Pictures: every format and colour model as training sees it, and files that are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from data_sets import save
from PIL import Image

from byg_train.data.media_kind import PICTURES
from byg_train.data.segments import PICTURE, inspect_file, read_segment
from byg_train.media import MediaError
from byg_train.media.fit import Size
from byg_train.media.reader import Facts, averaged_down, read_picture


def inspect(path: Path) -> Facts:
    return inspect_file(path, PICTURES, None)


def shown(path: Path) -> np.ndarray:
    """What training sees, as uint8 (H, W, 3); sizes must agree with what the check said."""
    facts = inspect(path)
    pixels = read_segment(path, facts.digest, PICTURE, Size(facts.width, facts.height))
    assert pixels.shape == (1, 3, 1, facts.height, facts.width)
    return ((pixels[0, :, 0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()


CORNER = np.zeros((20, 30, 3), np.uint8)
CORNER[:10, :10] = (255, 0, 0)  # red at the top left, black elsewhere


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".jpg"])
def test_every_format_opens(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    exact = {"lossless": True} if suffix == ".webp" else {"quality": 100, "subsampling": 0}
    Image.fromarray(CORNER).save(path, **exact)
    difference = np.abs(shown(path).astype(int) - CORNER)
    assert difference.max() <= (8 if suffix == ".jpg" else 0)


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, -1)[::-1],
    8: lambda a: np.rot90(a, 1),
    9: lambda a: a,  # no orientation: neither the size nor the pixels follow it
}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    picture = Image.fromarray(CORNER)
    exif = picture.getexif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    picture.save(path, exif=exif, quality=100, subsampling=0)
    wanted = TURNS[orientation](CORNER)
    assert np.abs(shown(path).astype(int) - wanted).max() <= 8


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((20, 20, 4), np.uint8)  # transparent black ...
    pixels[:10] = (0, 0, 255, 255)
    pixels[:, 10:, 3] //= 2  # ... and half-transparent blue
    Image.fromarray(pixels).save(tmp_path / "a.png")
    out = shown(tmp_path / "a.png")
    assert out[0, 0].tolist() == [0, 0, 255]
    assert out[0, 19].tolist() == [128, 128, 255]
    assert out[19, 0].tolist() == out[19, 19].tolist() == [255, 255, 255]
    palette = Image.new("P", (20, 20), 1)
    palette.putpalette([9, 9, 9, 0, 200, 0])
    palette.save(tmp_path / "p.png", transparency=0)
    assert (shown(tmp_path / "p.png") == (0, 200, 0)).all()
    palette.save(tmp_path / "q.png", transparency=1)
    assert (shown(tmp_path / "q.png") == 255).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_become_eight(tmp_path: Path, name: str) -> None:
    levels = np.linspace(0, 65535, 400).reshape(20, 20).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / name)
    wanted = np.round(levels / 65535 * 255)
    assert np.abs(shown(tmp_path / name) - wanted[..., None]).max() == 0


COLOUR_MODELS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "L": lambda p: p.convert("L"),
    "LA": lambda p: p.convert("LA"),
    "1": lambda p: p.convert("1", dither=Image.Dither.NONE),
    "P": lambda p: p.quantize(4),
    "CMYK": lambda p: p.convert("CMYK"),
}


@pytest.mark.parametrize("mode", COLOUR_MODELS)
def test_colour_models_become_rgb(tmp_path: Path, mode: str) -> None:
    black_and_white = Image.fromarray(
        np.where(CORNER[..., :1] > 0, 255, 0).repeat(3, 2).astype("u1")
    )
    path = tmp_path / "a.tif"
    COLOUR_MODELS[mode](black_and_white).save(path)
    with Image.open(path) as opened:
        assert opened.mode == mode
    np.testing.assert_array_equal(shown(path), np.asarray(black_and_white))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
def test_a_file_that_lost_its_end_is_broken(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", size=120)
    inspect(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(MediaError):
        inspect(path)


def test_a_float_picture_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 20), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(MediaError, match="8 or 16 bits"):
        inspect(tmp_path / "a.tif")


def test_a_file_that_changes_after_the_check_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    digest = inspect(path).digest
    save(path, seed=1)
    with pytest.raises(MediaError, match="has changed"):
        read_segment(path, digest, PICTURE, Size(16, 16))


def test_far_too_large_pictures_come_averaged_down(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(CORNER.repeat(20, 0).repeat(20, 1)).save(path)  # 600 x 400
    small = averaged_down(read_picture(path), Size(30, 20))
    assert small.size == (600 // 6, 400 // 6 + 1)
    pixels = read_segment(path, inspect(path).digest, PICTURE, Size(30, 20))
    assert pixels.shape == (1, 3, 1, 20, 30)
    means = pixels.mean((0, 2, 3, 4))
    assert torch.allclose(means, torch.tensor([2 * 100 / 600 - 1, -1, -1]), atol=0.02)
