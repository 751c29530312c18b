"""Picture grids: where pictures stand, that labels are drawn and wrapped, that files are whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from byg_train.media.grid import PAPER, _wrapped, labelled_grid
from byg_train.media.writer import write_picture

RED, BLUE = (255, 0, 0), (0, 0, 255)
LONG = "Turn the whole picture into a hand-painted watercolour on rough paper, with the cat kept"


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


def box(grid: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the pixels that have exactly this colour."""
    ys, xs = np.nonzero((np.asarray(grid) == colour).all(-1))
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def ink(grid: Image.Image) -> np.ndarray:
    """Where text is: dark pixels (H, W)."""
    return np.asarray(grid.convert("L")) < 100


def test_pictures_stand_in_rows_and_columns() -> None:
    grid = labelled_grid([[plain(RED), plain(BLUE)]], ["source", "edit"], cell=64)
    red, blue = box(grid, RED), box(grid, BLUE)
    assert (red[2] - red[0], red[3] - red[1]) == (64, 64)
    assert red[1] == blue[1] and red[3] == blue[3]
    assert blue[0] >= red[2] + 4
    assert grid.getpixel((0, 0)) == PAPER
    two = labelled_grid([[plain(RED)], [plain(BLUE)]], ["source"], cell=64)
    assert box(two, BLUE)[1] >= box(two, RED)[3] + 4
    assert box(two, BLUE)[0] == box(two, RED)[0]


def test_the_aspect_is_kept_and_the_cell_filled() -> None:
    left, top, right, bottom = box(
        labelled_grid([[plain(RED, (300, 100))]], ["wide"], cell=96), RED
    )
    assert (right - left, bottom - top) == (96, 32)


def test_tiny_pictures_are_enlarged_in_whole_blocks() -> None:
    rng = np.random.default_rng(0)
    tiny = rng.integers(110, 256, (8, 8, 3), dtype=np.uint8)  # no dark pixels: no text
    tiny[0, 0] = tiny[-1, -1] = RED
    grid = labelled_grid([[Image.fromarray(tiny)]], [""], cell=64)
    left, top, right, bottom = box(grid, RED)
    assert (right - left, bottom - top) == (64, 64)
    shown = np.asarray(grid)[top:bottom, left:right]
    np.testing.assert_array_equal(shown, tiny.repeat(8, 0).repeat(8, 1))


def test_labels_are_drawn_above_their_column_and_beside_their_row() -> None:
    white = plain((255, 255, 255))
    grid = labelled_grid([[white, white]], ["first", ""], ["row"], cell=96)
    left, top, right, _ = box(grid, (255, 255, 255))
    text = ink(grid)
    above, beside = text[:top], text[top:, :left]
    assert above.any() and beside.any()
    middle = (left + right) // 2
    assert not above[:, middle:].any()  # the second column has no name
    centre = np.nonzero(above.any(0))[0].mean()
    assert centre == pytest.approx(left + 48, abs=3)
    assert not ink(labelled_grid([[white, white]], ["", ""], [""], cell=96)).any()


def test_long_labels_are_wrapped_inside_their_column_and_stretch_their_row() -> None:
    cell, white = 96, (255, 255, 255)
    flat = plain(white, (96, 16))
    grid = labelled_grid([[flat], [flat]], ["source"], [LONG * 2, "short"], cell=cell)
    left, top, right, bottom = box(grid, white)
    text = ink(grid)
    assert text[:, left:].sum() == ink(labelled_grid([[flat]], ["source"], cell=cell)).sum()
    assert left <= cell + 20
    assert bottom - top > 100  # far more than two pictures of 16 pixels
    rows_with_ink = np.nonzero(text[:, :left].any(1))[0]
    assert rows_with_ink.max() < grid.height - 1


def test_wrapping_keeps_every_word_and_cuts_only_what_is_longer_than_a_line() -> None:
    font = ImageFont.load_default(16)
    lines = _wrapped(LONG, font, 150).split("\n")
    assert " ".join(lines) == LONG
    assert all(font.getlength(line) <= 150 for line in lines)
    cut = _wrapped("a " + "w" * 60, font, 100).split("\n")
    assert "".join(cut) == "a" + "w" * 60
    assert all(font.getlength(line) <= 100 for line in cut)


def test_a_ragged_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="row 1 has 1 pictures for 2 columns"):
        labelled_grid([[plain(RED)] * 2, [plain(RED)]], ["a", "b"])
    with pytest.raises(ValueError, match="1 row labels for 2 rows"):
        labelled_grid([[plain(RED)], [plain(RED)]], ["a"], ["one"])
    with pytest.raises(ValueError, match="at least one row"):
        labelled_grid([], ["a"])


def test_saving_replaces_whole_files_only(tmp_path: Path) -> None:
    path = tmp_path / "samples" / "step.png"
    write_picture(path, plain(RED))
    write_picture(path, plain(BLUE))
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.getpixel((0, 0)) == BLUE

    class Failing(Image.Image):
        def save(self, fp: Path, **params: object) -> None:
            fp.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_picture(path, Failing())
    with Image.open(path) as picture:
        assert picture.getpixel((0, 0)) == BLUE
    assert [p.name for p in path.parent.iterdir()] == ["step.png"]
