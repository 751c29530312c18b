"""What is written: what players find in a clip, sound bit by bit, and clips side by side."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import clip_files
import numpy as np
import pytest
from clip_files import HERTZ, drawn, heard, pictures, tone
from PIL import Image

from byg_train.media.clip_grid import frame_strip, side_by_side
from byg_train.media.grid import labelled_grid
from byg_train.media.writer import Sound, write_clip, write_frames


@pytest.mark.parametrize("fps", [Fraction(16), Fraction(30000, 1001), Fraction(100, 3)])
@pytest.mark.parametrize("frames", [1, 7])
def test_frames_rate_and_codec(tmp_path: Path, frames: int, fps: Fraction) -> None:
    path = tmp_path / "new" / "a.mp4"
    write_clip(path, drawn(frames), fps)
    with av.open(str(path)) as clip:
        (stream,) = clip.streams
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (64, 48)
        assert (stream.frames, stream.average_rate) == (frames, fps)
        assert stream.duration * stream.time_base == pytest.approx(frames / fps, rel=1e-3)
        times = sorted(p.pts * p.time_base for p in clip.demux(stream) if p.size)
    assert times == pytest.approx([i / fps for i in range(frames)], abs=1e-4)
    assert [p.name for p in path.parent.iterdir()] == ["a.mp4"]


def test_colours_are_those_of_the_pictures(tmp_path: Path) -> None:
    """BT.709, and marked so: players that go by the mark and those that assume it agree."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40)]
    clip = np.stack([np.full((32, 32, 3), colour, np.uint8) for colour in colours])
    write_clip(tmp_path / "a.mp4", clip, Fraction(4))
    with av.open(str(tmp_path / "a.mp4")) as film:
        for frame, colour in zip(film.decode(video=0), colours, strict=True):
            marks = (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range)
            assert [int(mark) for mark in marks] == [1, 1, 1, 1]
            shown = frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray()
            assert np.abs(shown.astype(int) - colour).max() <= 4


@pytest.mark.parametrize("size", [(63, 48), (64, 47), (15, 9)])
def test_odd_sizes_stay(tmp_path: Path, size: tuple[int, int]) -> None:
    write_clip(tmp_path / "a.mp4", drawn(3, size), Fraction(16))
    found = pictures(tmp_path / "a.mp4")
    assert found.shape == (3, size[1], size[0], 3)
    assert np.abs(found.astype(int) - drawn(3, size)).mean() < 4


def test_a_failed_film_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")

    def failing() -> Iterator[np.ndarray]:
        yield from drawn(2)
        raise OSError("No space left")

    with pytest.raises(OSError, match="No space"):
        write_clip(path, failing(), Fraction(16))
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


# ---------------------------------------------------------------- sound


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "aac"), ("a.mkv", "libopus"), ("a.mkv", "libmp3lame"), ("a.ts", "aac")],
)
def test_sound_is_copied_bit_by_bit(tmp_path: Path, name: str, codec: str) -> None:
    """Packets and their times behind the first frame, whatever the file's clock began with."""
    source = clip_files.write(tmp_path / name, drawn(24), 24, sound=codec)
    write_clip(tmp_path / "out.mp4", drawn(24), Fraction(24), Sound(source))
    with av.open(str(source)) as clip:
        film = clip.streams.video[0]
        zero = (film.start_time or 0) * film.time_base
    before, after = heard(source), heard(tmp_path / "out.mp4")
    # Transport streams repeat the AAC header in every packet; MP4s have it once.
    skipped = 7 if name.endswith(".ts") else 0
    assert [data[skipped:] for _, data in before] == [data for _, data in after]
    assert len(after) > 20
    times = [when - zero for when, _ in before]
    assert [when for when, _ in after] == pytest.approx(times, abs=2e-3)


@pytest.mark.parametrize(("name", "codec"), [("a.mov", "pcm_s16le"), ("a.mkv", "mp2")])
def test_sound_that_mp4s_lack_becomes_aac(tmp_path: Path, name: str, codec: str) -> None:
    source = clip_files.write(tmp_path / name, drawn(24), 24, sound=codec)
    write_clip(tmp_path / "out.mp4", drawn(24), Fraction(24), Sound(source))
    with av.open(str(tmp_path / "out.mp4")) as clip:
        assert clip.streams.audio[0].codec_context.name == "aac"
        assert clip.streams.audio[0].rate == HERTZ
        found = np.concatenate([f.to_ndarray() for f in clip.decode(audio=0)], axis=1)
    wanted = tone(1.0)
    assert abs(found.shape[1] - wanted.shape[1]) <= 2 * 1024
    length = min(found.shape[1], wanted.shape[1]) - 4096
    middle = slice(2048, length)
    assert np.corrcoef(found[0, middle], wanted[0, middle])[0, 1] > 0.98


def test_the_sound_of_a_part(tmp_path: Path) -> None:
    """The packets that are heard in it, at their times behind its first frame."""
    source = clip_files.write(tmp_path / "a.mp4", drawn(48), 24, sound="aac")
    start, end = Fraction(1, 2), Fraction(5, 4)
    write_clip(tmp_path / "out.mp4", drawn(18), Fraction(24), Sound(source, start, end))
    found, whole = heard(tmp_path / "out.mp4"), heard(source)
    packet = Fraction(1024, HERTZ)
    inside = [data for when, data in whole if start < when + packet and when < end]
    assert [data for _, data in found] == inside and 30 < len(inside) < 40
    first = next(when for when, data in whole if data == inside[0])
    assert found[0][0] == pytest.approx(first - start, abs=2e-3)


def test_a_part_without_sound(tmp_path: Path) -> None:
    """Behind the end of a sound that is shorter than its film: no empty track."""
    source = clip_files.write(tmp_path / "a.mp4", drawn(8), 8, sound="aac")
    sound = Sound(source, Fraction(60), Fraction(61))
    write_clip(tmp_path / "out.mp4", drawn(8), Fraction(8), sound)
    with av.open(str(tmp_path / "out.mp4")) as clip:
        assert [s.type for s in clip.streams] == ["video"]


def test_sound_that_cannot_be_read_costs_no_edit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no clip")
    with caplog.at_level(logging.WARNING, "byg_train"):
        write_clip(tmp_path / "out.mp4", drawn(3), Fraction(8), Sound(broken))
    assert "broken.mp4" in caplog.text and "left out" in caplog.text
    assert len(pictures(tmp_path / "out.mp4")) == 3


# ---------------------------------------------------------------- folders of frames


def test_frames_as_pictures(tmp_path: Path) -> None:
    folder, clip = tmp_path / "new" / "frames", drawn(3)
    names = ["a.png", "b.png", "c.png"]
    write_frames(folder, map(Image.fromarray, clip), names)
    assert [p.name for p in sorted(folder.iterdir())] == names
    for name, frame in zip(names, clip, strict=True):
        with Image.open(folder / name) as picture:
            assert np.array_equal(np.asarray(picture), frame)


def test_a_folder_of_frames_takes_an_empty_ones_place(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_frames(tmp_path / "a", [Image.new("RGB", (4, 4))], ["x.png"])
    with pytest.raises(OSError):
        write_frames(tmp_path / "a", [Image.new("RGB", (4, 4))], ["y.png"])
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["x.png"]


def test_half_a_folder_is_never_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_frames(tmp_path / "a", [Image.new("RGB", (4, 4))], ["x.png", "y.png"])
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- to look at


def test_side_by_side_is_a_grid_of_every_moment(tmp_path: Path) -> None:
    clips = [drawn(4, (40, 30)), drawn(4, (40, 30))[::-1]]
    moments = ([[Image.fromarray(clip[i]) for clip in clips]] for i in range(4))
    found = list(side_by_side(moments, ["there", "back"], ["twice"], cell=41))
    assert len(found) == 4 and all(side % 2 == 0 for side in found[0].shape[:2])
    row = [Image.fromarray(clip[2]) for clip in clips]
    wanted = np.asarray(labelled_grid([row], ["there", "back"], ["twice"], 41))
    height, width, _ = wanted.shape
    assert np.array_equal(found[2][:height, :width], wanted)
    assert not np.array_equal(found[1], found[2])


@pytest.mark.parametrize(("frames", "shown"), [(1, [0]), (3, [0, 1, 2]), (81, [0, 20, 40, 60, 80])])
def test_a_strip_shows_moments_from_first_to_last(frames: int, shown: list[int]) -> None:
    clip = np.stack([np.full((20, 30, 3), i, np.uint8) for i in range(frames)])
    found = frame_strip([clip, 255 - clip], ["a", "b"], 16.0, cell=64)
    rows = [[Image.fromarray(part[i]) for i in shown] for part in (clip, 255 - clip)]
    wanted = labelled_grid(rows, [f"{i / 16:.1f} s" for i in shown], ["a", "b"], 64)
    assert np.array_equal(np.asarray(found), np.asarray(wanted))
