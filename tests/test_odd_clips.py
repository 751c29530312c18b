"""Clips as people have them: mirrored, transparent, in any matrix, cut, under any name."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clip_files import clip, cut_short, number, picture
from PIL import Image

from benchmarks.odd.media import coloured, cut, show_by, transparent, transparent_picture
from byg_train.media import MediaError
from byg_train.media.clips import frames, moments, probe, verify
from byg_train.media.reader import read_media
from byg_train.media.rgb import Orientation, from_matrix
from byg_train.media.writer import write_clip

# ---------------------------------------------------------------- orientation

# (a, b, c, d) -> what a picture stored as it is looks like.
ORIENTATIONS = {
    (1, 0, 0, 1): lambda a: a,
    (-1, 0, 0, 1): lambda a: a[:, ::-1],
    (-1, 0, 0, -1): lambda a: a[::-1, ::-1],
    (1, 0, 0, -1): lambda a: a[::-1],
    (0, 1, 1, 0): lambda a: a.swapaxes(0, 1),
    (0, 1, -1, 0): lambda a: np.rot90(a, -1),
    (0, -1, -1, 0): lambda a: np.rot90(a, -1)[::-1],
    (0, -1, 1, 0): lambda a: np.rot90(a, 1),
    # None of the eight: left aside.
    (0, 0, 0, 0): lambda a: a,
    (1, 1, -1, 1): lambda a: a,
    (1, 0, 0, 0): lambda a: a,
    (0, 1, 0, 0): lambda a: a,
}


@pytest.mark.parametrize("matrix", ORIENTATIONS, ids=str)
def test_every_orientation_of_a_clip(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path = clip(tmp_path / "a.mp4", 3, codec="libx264", pix_fmt="yuv444p")
    stored = next(frames(path)).astype(int)
    shown = next(frames(show_by(path, matrix)))
    wanted = ORIENTATIONS[matrix](stored)
    assert shown.shape == wanted.shape
    assert np.abs(shown - wanted).max() <= 1
    facts = probe(path)
    assert (facts.height, facts.width) == shown.shape[:2]


def test_a_matrix_is_read_with_its_scale_and_rounding() -> None:
    assert from_matrix(0, 32768, 0, -32769, 3, 0, 0, 7, 1 << 30) == Orientation(True, True, False)
    assert from_matrix(46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30) == Orientation()


# ---------------------------------------------------------------- colour


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 6, 9, 2])
def test_colours_come_by_the_matrix_that_the_clip_names(
    tmp_path: Path, matrix: int, full: bool
) -> None:
    shown = next(frames(coloured(tmp_path / "a.mp4", matrix, full=full)))
    assert np.abs(shown.astype(int) - (200, 30, 30)).max() <= 2


@pytest.mark.parametrize(("size", "names"), [((1280, 64), 1), ((64, 720), 1), ((720, 576), 5)])
def test_without_a_matrix_the_size_tells_it(
    tmp_path: Path, size: tuple[int, int], names: int
) -> None:
    path = coloured(tmp_path / "a.mp4", names, named=2, size=size)
    assert np.abs(next(frames(path)).astype(int) - (200, 30, 30)).max() <= 2


# ---------------------------------------------------------------- transparency

LEFT, HALF, CLEAR = (200, 30, 30), (227, 142, 142), (255, 255, 255)


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.webm", "libvpx-vp9", "yuva420p"),
        ("a.mkv", "libvpx-vp9", "yuva420p"),
        ("a.mov", "prores_ks", "yuva444p10le"),
        ("b.mov", "qtrle", "argb"),
        ("c.mov", "png", "rgba"),
        ("a.avi", "utvideo", "gbrap"),
    ],
)
def test_what_is_clear_is_white_in_every_codec(
    tmp_path: Path, name: str, codec: str, pixels: str
) -> None:
    path = transparent(tmp_path / name, codec, pixels)
    shown = list(frames(path))
    assert len(shown) == probe(path).frames == 6
    for frame in (shown[0], shown[-1]):
        for (y, x), wanted in {(10, 10): LEFT, (40, 10): HALF, (10, 60): CLEAR}.items():
            assert np.abs(frame[y, x].astype(int) - wanted).max() <= 6, (name, y, x)


def test_a_transparent_clip_is_sought_too(tmp_path: Path) -> None:
    path = transparent(tmp_path / "a.webm", "libvpx-vp9", "yuva420p", 12 * 13)
    late = moments(path, probe(path), 1)[0]
    assert np.abs(late[10, 60].astype(int) - CLEAR).max() <= 6


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.apng", "a.avif"])
def test_pictures_that_move_are_clips_on_white(tmp_path: Path, name: str) -> None:
    exact = {"a.webp": {"lossless": True}, "a.gif": {"disposal": 2}, "a.avif": {"quality": 95}}
    form = {"format": "PNG"} if name == "a.apng" else {}
    path = transparent_picture(tmp_path / name, **exact.get(name, {}), **form)
    facts, shown = probe(path), list(frames(path))
    assert (facts.width, facts.height, facts.frames) == (64, 48, 6)
    assert (facts.duration, facts.variable) == (Fraction(48, 100), False)
    bits = 255 if name == "a.gif" else 6  # a GIF has no half
    for i, frame in enumerate(shown):
        assert np.abs(frame[10, 10].astype(int) - LEFT).max() <= 8
        assert np.abs(frame[40, 10].astype(int) - HALF).max() <= bits + 2
        assert np.abs(frame[10, 60].astype(int) - CLEAR).max() <= 8
        blue = (frame[1, :, 2].astype(int) - frame[1, :, 0] > 100).sum()
        assert abs(int(blue) - 8 * i) <= 1
    assert len(list(frames(path, 25))) == facts.frames_at(25) == 12
    assert len(read_media(path).frames) == (6 if name == "a.gif" else 1)


def test_an_animation_without_times_lasts_as_browsers_show_it(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (20, 20), (60 * i, 0, 0)) for i in range(4)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    assert probe(tmp_path / "a.gif").duration == Fraction(4, 10)
    pictures[0].save(
        tmp_path / "b.gif", save_all=True, append_images=pictures[1:], duration=[40, 40, 200, 40]
    )
    facts = probe(tmp_path / "b.gif")
    assert (facts.duration, facts.variable) == (Fraction(32, 100), True)


def test_a_torn_animation_is_told(tmp_path: Path) -> None:
    path = transparent_picture(tmp_path / "a.webp")
    cut_short(path, 0.6)
    with pytest.raises(MediaError):
        list(frames(path))


# ---------------------------------------------------------------- cut, and lost


def noise(i: int, size: tuple[int, int]) -> np.ndarray:
    """Frame i with its number, over a noise that no decoder can guess."""
    frame = picture(i, size)
    grain = np.random.default_rng(i).integers(0, 256, frame.shape, np.uint8)
    frame[size[1] // 4 : size[1] // 2, : size[0] // 2] = grain[: size[1] // 4, : size[0] // 2]
    return frame


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mkv", "libx264", {}),
        ("a.ts", "libx264", {}),
        ("a.ts", "libx264", {"x264-params": "open-gop=1:bframes=3"}),
        ("a.mkv", "libx264", {"x264-params": "open-gop=1:bframes=3"}),
        ("a.ts", "mpeg2video", {}),
        ("a.mpg", "mpeg2video", {"bf": "2"}),
        ("a.mkv", "mpeg4", {}),
        ("a.mkv", "libvpx-vp9", {}),
        ("a.mp4", "libx264", {}),
        ("a.mkv", "libx265", {"x265-params": "log-level=none"}),
    ],
)
def test_a_clip_that_was_cut_begins_where_it_can_be_decoded(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    whole = clip(tmp_path / f"whole_{name}", 60, codec=codec, draw=noise, encoder=options)
    path = cut(whole, tmp_path / name, 15)
    facts = probe(path)
    shown = list(frames(path))
    assert len(shown) == facts.frames and facts.lost_start > 0
    for found, wanted in zip(shown, list(frames(whole))[60 - facts.frames :], strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert facts.frames + facts.lost_start >= 44
    assert facts.frames >= 34
    assert len(list(frames(path, 24))) == facts.frames_at(24)
    verify(path, 12, 0, facts.frames_at(12))


def test_a_whole_clip_has_lost_nothing(tmp_path: Path) -> None:
    for name, codec in (("a.mp4", "libx264"), ("a.avi", "mpeg4"), ("a.mpg", "mpeg2video")):
        facts = probe(clip(tmp_path / name, 30, codec=codec), whole=False)
        assert (facts.frames, facts.lost_start, facts.lost_end, facts.begins) == (30, 0, 0, None)


@pytest.mark.parametrize(
    ("name", "options"), [("a.mp4", {"movflags": "faststart"}), ("a.mkv", {}), ("a.ts", {})]
)
def test_a_clip_that_lost_its_end_is_what_is_left_where_that_is_asked_for(
    tmp_path: Path, name: str, options: dict[str, str]
) -> None:
    path = cut_short(clip(tmp_path / name, 60, codec="libx264", draw=noise, **options), 0.6)
    facts = probe(path, whole=False)
    assert 20 < facts.frames < 50
    if name == "a.mp4":
        assert facts.frames + facts.lost_end == 60
    shown = [number(frame) for frame in frames(path, None, 0, facts.frames, whole=False)]
    assert shown[:-3] == list(range(facts.frames - 3)) and shown == sorted(shown)
    at_24 = list(frames(path, 24, 0, facts.frames_at(24), whole=False))
    assert len(at_24) == facts.frames_at(24)


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_a_clip_is_as_long_as_its_header_promises(tmp_path: Path, name: str) -> None:
    """Such files end at any packet, and only what they promised shows that more were there."""
    codec = "libvpx-vp9" if name == "a.webm" else "libx264"
    path = cut_short(clip(tmp_path / name, 60, codec=codec, draw=noise), 0.6)
    with pytest.raises(MediaError, match="lost its end"):
        probe(path)
    facts = probe(path, whole=False)
    assert 20 < facts.frames < 50
    assert abs(facts.frames + facts.lost_end - 60) <= 2


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mov", "mpeg4"), ("a.ts", "libx264")]
)
def test_damage_within_is_stood_for_by_the_nearest_frames(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, codec: str
) -> None:
    path = clip(tmp_path / name, 240, codec=codec, draw=noise)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 900] = np.random.default_rng(3).bytes(900)
    path.write_bytes(data)
    # How much is lost goes by the packets that are hit, and MPEG-TS places its tables by the clock:
    # at most from one key frame to the next, which are twelve frames.
    facts = probe(path, whole=False)
    assert facts.frames + facts.lost_end >= 228
    shown = [number(f) for f in frames(path, 24, 0, facts.frames_at(24), whole=False)]
    assert len(shown) >= 226 and shown[:90] == list(range(90))
    assert shown[-60:-2] == list(range(len(shown) - 60, len(shown) - 2))
    # Where MPEG-TS lost whole packets its decoder notices nothing, and the count of frames tells.
    warned = "a." in caplog.text and "is damaged within" in caplog.text
    assert warned or (name == "a.ts" and facts.lost_end)


# ---------------------------------------------------------------- names

NAMES = ["12:30:45.mp4", "-loud.mp4", " blank .mp4", "100%d.mp4", "concat:a|b.mp4", "pipe:0.mp4",
         "q?x=1#y.mp4", "naïve 🎬.mp4", "file:a.mp4", "[a-b]*.mp4"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_read_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)  # as people type them: without a folder in front
    shown = [picture(i, (64, 48)) for i in range(4)]
    write_clip(Path(name), shown, Fraction(8))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert probe(Path(name)).frames == 4
    assert [number(frame) for frame in frames(Path(name))] == [0, 1, 2, 3]
