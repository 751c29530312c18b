"""Clips as upright frames at any rate: times, sizes, colours, and files that are none."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clip_files import clip, cut_short, damage, hdr_clip, number, picture, uneven
from PIL import Image

from byg_train.media import MediaError, clips, rgb
from byg_train.media.clips import frames, moments, probe, verify
from byg_train.media.fit import Frames


def numbers(path: Path, *of: float | None) -> list[int]:
    return [number(frame) for frame in frames(path, *of)]


# ---------------------------------------------------------------- facts and times


def test_what_a_clip_is(tmp_path: Path) -> None:
    facts = probe(clip(tmp_path / "a.mp4", 48, size=(66, 48)))
    assert (facts.width, facts.height, facts.frames, facts.duration) == (66, 48, 48, 2)
    assert (facts.fps, facts.declared, facts.variable, facts.audio) == (24, 24, False, False)
    assert (facts.depth, facts.transfer, facts.interlaced) == (8, "sdr", False)
    assert probe(clip(tmp_path / "b.mp4", sound=True)).audio


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mkv", "libx264", "yuv420p"),
        ("a.webm", "libvpx", "yuv420p"),
        ("a.mov", "prores_ks", "yuv422p10le"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.ts", "mpeg2video", "yuv420p"),
        ("a.gif", "gif", "rgb8"),
    ],
)
def test_any_container_and_codec(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    path = clip(tmp_path / name, 25, rate=25, codec=codec, pix_fmt=pix_fmt)
    facts = probe(path)
    assert (facts.frames, facts.duration, facts.variable) == (25, 1, False)
    assert facts.frames_at(16) == len(list(frames(path, 16))) == 16
    if name != "a.gif":  # eight levels
        assert numbers(path) == list(range(25))


@pytest.mark.parametrize("fps", [16, 24, 7.5, 30, 23.976, 48])
def test_a_constant_rate_is_resampled_as_edits_see_it(tmp_path: Path, fps: float) -> None:
    path = clip(tmp_path / "a.mp4", 36)
    seen = Frames.of(36, 24, fps, group=4)
    assert numbers(path, fps) == list(seen.seen[: seen.count])


@pytest.mark.parametrize("fps", [16, 24, 7.5, 60])
def test_a_variable_rate_counts_times_not_frames(tmp_path: Path, fps: float) -> None:
    times = uneven(60)
    path = clip(tmp_path / "a.mkv", 60, times=times)
    facts = probe(path)
    assert (facts.variable, facts.frames) == (True, 60)
    found = numbers(path, fps)
    assert len(found) == facts.frames_at(fps)

    def nearest(when: Fraction) -> int:
        return min(range(60), key=lambda i: (abs(Fraction(times[i], 1000) - when), -i))

    assert found == [nearest(k / Fraction(fps)) for k in range(len(found))]


def test_a_clip_that_begins_late_begins_with_its_first_frame(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mkv", 24, rate=25, times=[3000 + 40 * i for i in range(24)])
    assert probe(path).duration == Fraction(96, 100)
    assert numbers(path, 25) == list(range(24))


def test_a_part_is_what_the_whole_has_there(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", 48)
    whole = numbers(path, 16)
    assert numbers(path, 16, 5, 9) == whole[5:14]
    assert numbers(path, None, 40) == list(range(40, 48))
    verify(path, 16, 27, 5)
    for wrong in (lambda: numbers(path, 16, 27, 6), lambda: verify(path, 16, 27, 6)):
        with pytest.raises(MediaError, match="ends after 32 frames; wanted 33"):
            wrong()


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.ts", "mpeg2video")])
def test_a_late_part_is_sought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str
) -> None:
    path = clip(tmp_path / name, 24 * 15, codec=codec)
    sought = numbers(path, 16, 13 * 16, 8)
    assert sought == [13 * 24 + i for i in (0, 2, 3, 5, 6, 8, 9, 11)]
    monkeypatch.setattr(clips, "SEEK", 1000)
    assert numbers(path, 16, 13 * 16, 8) == sought


def test_moments_are_spread(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", 48)
    assert [number(frame) for frame in moments(path, probe(path), 3)] == [12, 24, 36]


# ---------------------------------------------------------------- upright


@pytest.mark.parametrize(
    ("rotation", "corner"), [(0, (0, 0)), (90, (-1, 0)), (-90, (0, -1)), (180, (-1, -1))]
)
def test_what_was_filmed_upright_stands(
    tmp_path: Path, rotation: int, corner: tuple[int, int]
) -> None:
    path = clip(tmp_path / "a.mp4", 3, size=(64, 48), rotation=rotation)
    facts, frame = probe(path), next(frames(path))
    size = (48, 64) if rotation in (90, -90) else (64, 48)
    assert (facts.width, facts.height) == size
    assert frame.shape == (*size[::-1], 3)
    assert frame[corner][0] > 200 and frame[corner][1] < 60, "the red corner"


def test_pixels_become_square(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mkv", 3, size=(48, 48), aspect=Fraction(16, 9), codec="libx264")
    assert (probe(path).width, probe(path).height) == (85, 48)
    assert next(frames(path)).shape == (48, 85, 3)


def test_odd_sizes_stay(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mkv", 3, size=(65, 47), codec="ffv1", pix_fmt="yuv444p")
    assert (probe(path).width, probe(path).height) == (65, 47)
    assert next(frames(path)).shape == (47, 65, 3)


def test_what_is_transparent_stands_on_white(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "bgra"
        for alpha in (0, 128):
            pixels = np.full((16, 16, 4), (200, 0, 0, alpha), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgba")))
        out.mux(stream.encode())
    clear, half = frames(tmp_path / "a.mkv")
    assert (clear == 255).all()
    assert (half == np.array([227, 127, 127], np.uint8)).all()


@pytest.mark.slow
def test_hdr_comes_at_the_brightness_of_sdr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hdr_clip(tmp_path / "a.mp4", 3)
    facts = probe(path)
    assert (facts.depth, facts.transfer) == (10, "pq")
    levels = next(frames(path))[24, ::8, 1].astype(int)
    assert (np.diff(levels) > 0).all()
    # Codes taken as they stand give 32 for each eighth: a grey, flat picture.
    assert levels[1] < 25 and levels[6] > 200
    monkeypatch.setattr(rgb, "TO_SDR", "out_transfer=unknown_to_old_ffmpeg")
    with pytest.raises(MediaError, match="HDR, which needs a newer PyAV"):
        probe(path)


# ---------------------------------------------------------------- no clips


def test_what_is_no_clip_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("a text")
    (tmp_path / "empty.mp4").write_bytes(b"")
    Image.new("RGB", (9, 9)).save(tmp_path / "picture.png")
    clip(tmp_path / "one.mp4", 1)
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        heard = out.add_stream("aac", rate=8000, layout="mono")
        beep = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        beep.sample_rate = 8000
        out.mux(heard.encode(beep))
        out.mux(heard.encode())
    for name, why in [
        ("text.mp4", "cannot be read"),
        ("empty.mp4", "cannot be read"),
        ("picture.png", "1 frame: a picture"),
        ("one.mp4", "1 frame: a picture"),
        ("sound.mp4", "no video stream"),
        ("none.mp4", "no such file"),
    ]:
        with pytest.raises(MediaError, match=why):
            probe(tmp_path / name)


def test_a_file_that_ends_early_is_told(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    settings = {"frames": 48, "codec": "libx264", "draw": lambda i, size: np.roll(noise, i, 1)}
    with pytest.raises(MediaError, match="cannot be read"):
        probe(cut_short(clip(tmp_path / "a.mp4", **settings), 0.6))
    front = clip(tmp_path / "b.mp4", size=(64, 64), movflags="faststart", **settings)
    with pytest.raises(MediaError, match="damaged or ends early, at frame"):
        probe(cut_short(front, 0.6))


def test_damage_within_shows_where_it_is_decoded(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = clip(
        tmp_path / "a.mp4",
        96,
        size=(64, 64),
        codec="libx264",
        draw=lambda i, size: np.roll(noise, i, 1),
    )
    damage(path, 0.5)
    assert probe(path).frames == 96
    verify(path, 24, 0, 24)  # what is before it is whole
    with pytest.raises(MediaError):
        verify(path, 24, 0, 96)


def test_a_size_that_changes_is_told(tmp_path: Path) -> None:
    parts = []
    for size in ((64, 48), (48, 64)):
        with av.open(str(tmp_path / "part"), "w", format="mpeg2video") as out:
            stream = out.add_stream("mpeg2video", rate=24)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for i in range(6):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i, size), "rgb24")))
            out.mux(stream.encode())
        parts.append((tmp_path / "part").read_bytes())
    (tmp_path / "a.mpg").write_bytes(b"".join(parts))
    with pytest.raises(MediaError, match="size changes from 64 x 48 to 48 x 64"):
        list(frames(tmp_path / "a.mpg"))
