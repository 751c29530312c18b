"""What is brought to be edited: facts, frames, parts, and one sentence for what cannot be used."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import clip_files
import numpy as np
import pytest
from clip_files import drawn, numbers
from PIL import Image

from byg_train.media import SourceError
from byg_train.media.source_clip import SourceClip, open_source_clip


def opened(path: Path, fps: float | None = None) -> SourceClip:
    return open_source_clip(path, fps, 16.0)


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("a.mp4", Fraction(24)),
        ("a.mp4", Fraction(30000, 1001)),
        ("a.mkv", Fraction(30000, 1001)),  # its times are rounded to milliseconds
        ("a.mkv", Fraction(24000, 1001)),
        ("a.mkv", Fraction(60)),
        ("a.mp4", Fraction(25, 2)),
    ],
)
def test_a_clips_size_rate_and_frames(tmp_path: Path, name: str, rate: Fraction) -> None:
    clip = clip_files.write(tmp_path / name, drawn(20), rate, sound="aac")
    source = opened(clip)
    assert (source.size, source.fps, source.count) == ((64, 48), rate, 20)
    assert source.sound is not None and source.notes == ()
    assert numbers(source.frames()) == list(range(20))


@pytest.mark.parametrize("turned", [90, 180, 270])
def test_a_telephones_clip_is_upright(tmp_path: Path, turned: int) -> None:
    clip = clip_files.write(tmp_path / "a.mp4", drawn(3), turned=turned)
    source = opened(clip)
    assert source.size == ((48, 64) if turned != 180 else (64, 48))
    first = next(source.frames())
    assert first.shape[:2] == source.size[::-1]
    found = np.argwhere(first[..., 1] > 150).mean(0) / first.shape[:2]  # the square's middle
    x, y = 6 / 64, (16 + 6) / 48
    wanted = {90: (1 - x, y), 180: (1 - y, 1 - x), 270: (x, 1 - y)}[turned]
    assert found == pytest.approx(wanted, abs=0.05)


def test_a_variable_rate_becomes_its_average(tmp_path: Path) -> None:
    """As many frames over the same time; each is the one that is nearest to its time."""
    times = [0, 20, 40, 60, 400, 420, 800, 820, 1200, 1250]
    clip = clip_files.write(tmp_path / "a.mkv", drawn(10), times=times)
    source = opened(clip)
    assert source.count == 10 and "variable frame rate" in source.notes[0]
    assert source.seconds == pytest.approx(1.3, abs=0.1)
    step = float(1 / source.fps)
    at = [i * step * 1000 for i in range(10)]
    assert numbers(source.frames()) == [int(np.abs(np.array(times) - t).argmin()) for t in at]


def test_a_part(tmp_path: Path) -> None:
    clip = clip_files.write(tmp_path / "a.mp4", drawn(24), 8, sound="aac")
    part = opened(clip).part(0.5, 1.0)
    assert (part.count, part.fps) == (8, 8)
    assert numbers(part.frames()) == list(range(4, 12))
    assert (part.sound.start, part.sound.end) == (Fraction(1, 2), Fraction(3, 2))
    assert part.names[0] == "frame_00005.png" and len(part.names) == 8
    rest = opened(clip).part(2.0, 99.0)
    assert rest.count == 8 and (rest.sound.start, rest.sound.end) == (2, None)
    assert opened(clip).part(None, None) == opened(clip)
    assert opened(clip).part(None, 0.01).count == 1
    with pytest.raises(SourceError, match=r"a\.mp4 is 3\.00 s long, .* begin at 3\.0 s"):
        opened(clip).part(3.0, None)


def test_a_folder_of_frames(tmp_path: Path) -> None:
    for i, frame in enumerate(drawn(12)):
        Image.fromarray(frame).save(tmp_path / f"shot_{i}.{'png' if i % 2 else 'bmp'}")
    (tmp_path / "notes.txt").write_text("not a frame")
    (tmp_path / ".shot_3.png").write_bytes(b"hidden")
    source = opened(tmp_path)
    assert (source.size, source.fps, source.count) == ((64, 48), 16, 12)
    assert numbers(source.frames()) == list(range(12))  # shot_2 before shot_10
    part = opened(tmp_path, 8.0).part(0.5, 0.5)
    assert (part.fps, numbers(part.frames())) == (8, [4, 5, 6, 7])
    assert part.names == [f"shot_{i}.png" for i in range(4, 8)]
    assert opened(tmp_path, 23.976).fps == Fraction(24000, 1001)


def test_what_a_person_may_not_expect_is_told(tmp_path: Path) -> None:
    hdr = clip_files.write(tmp_path / "h.mkv", drawn(3), pixels="yuv420p10le", hdr=True)
    assert opened(hdr).notes == ("is HDR (PQ): the edit is in SDR",)
    deep = clip_files.write(tmp_path / "d.mkv", drawn(3), pixels="yuv420p10le")
    assert opened(deep).notes == ("has 10 bits per channel: the edit has 8",)
    assert numbers(opened(deep).frames()) == [0, 1, 2]


def test_what_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    def refused(path: Path, words: str, fps: float | None = None) -> None:
        with pytest.raises(SourceError, match=words) as error:
            list(opened(path, fps).frames())
        assert path.name in str(error.value) and "\n" not in str(error.value)

    (tmp_path / "text.mp4").write_text("no film")
    refused(tmp_path / "text.mp4", "cannot be used")
    refused(tmp_path / "gone.mp4", "no such file")
    whole = clip_files.write(tmp_path / "whole.mp4", drawn(60, (160, 120)), 16, codec="mpeg4")
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[:3000])
    refused(tmp_path / "cut.mp4", "cannot be used")
    refused(clip_files.write(tmp_path / "one.mp4", drawn(1)), "1 frame")
    refused(whole, "only a folder of frames", 16.0)
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no pictures")


def test_frames_that_do_not_go_together(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    Image.new("RGB", (8, 9)).save(tmp_path / "2.png")
    with pytest.raises(
        SourceError, match=r"2\.png is 8 x 9 pixels, .* 8 x 8; wanted frames of one"
    ):
        list(opened(tmp_path).frames())
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    with pytest.raises(SourceError, match=r"2\.png cannot be used"):
        list(opened(tmp_path).frames())
    Image.new("RGB", (8, 8)).save(tmp_path / "1.bmp")
    with pytest.raises(SourceError, match="holds '1' twice"):
        opened(tmp_path)
