"""What people bring to be edited: rates, sizes, sound, parts of a clip, folders of frames."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import clip_files
import lanes
import numpy as np
import pytest
from clip_files import cut_short, drawn, heard, pictures
from PIL import Image
from wan_edits import byg, worked

from benchmarks.odd.media import cut

Make = Callable[[Path], Path]
BROUGHT: dict[str, tuple[Make, tuple[int, ...], Fraction]] = {
    "30 fps": (
        lambda d: clip_files.write(d / "a.mp4", drawn(9), 30), (9, 48, 64), Fraction(30)),
    "NTSC": (
        lambda d: clip_files.write(d / "a.mkv", drawn(6), Fraction(24000, 1001)),
        (6, 48, 64), Fraction(24000, 1001)),
    "a telephone, upright": (
        lambda d: clip_files.write(d / "a.mov", drawn(6), turned=90), (6, 64, 48), Fraction(16)),
    "odd": (
        lambda d: clip_files.write(d / "a.mkv", drawn(6, (63, 47)), codec="ffv1", pixels="bgr0"),
        (6, 47, 63), Fraction(16)),
    "webm": (
        lambda d: clip_files.write(d / "a.webm", drawn(6), codec="libvpx-vp9"), (6, 48, 64),
        Fraction(16)),
    "HDR": (
        lambda d: clip_files.write(
            d / "a.mkv", drawn(6), codec="libx264", pixels="yuv420p10le", hdr=True),
        (6, 48, 64), Fraction(16)),
    "two frames": (
        lambda d: clip_files.write(d / "a.mp4", drawn(2)), (2, 48, 64), Fraction(16)),
}  # fmt: skip


def noisy(frames: int) -> np.ndarray:
    """`drawn`, over a grain that takes bytes in every frame."""
    grain = np.random.default_rng(0).integers(0, 30, (frames, 48, 64, 3), np.uint8)
    return drawn(frames) // 2 + grain


@pytest.mark.slow
@pytest.mark.parametrize("name", lanes.cases(BROUGHT, slow="HDR"))
def test_size_frames_and_rate_are_the_sources(wan_lora: Path, name: str, tmp_path: Path) -> None:
    make, shape, fps = BROUGHT[name]
    output = tmp_path / "out.mp4"
    result = worked(byg(wan_lora, make(tmp_path), output, "--steps", 1, "--cfg", 1))
    assert pictures(output).shape == (*shape, 3)
    with av.open(str(output)) as film:
        assert [s.type for s in film.streams] == ["video"]
        assert film.streams[0].average_rate == fps
    told = {"odd": "4:4:4", "HDR": "is HDR (PQ)"}.get(name)
    assert ("note: " in result.stderr) == (told is not None) and (told or "") in result.stderr


def test_a_variable_rate(wan_lora: Path, tmp_path: Path) -> None:
    times = [0, 20, 40, 60, 90, 200, 220, 400]
    clip = clip_files.write(tmp_path / "a.mkv", drawn(8), times=times)
    result = worked(byg(wan_lora, clip, tmp_path / "o.mp4", "--steps", 1, "--cfg", 1))
    assert "variable frame rate" in result.stderr
    with av.open(str(tmp_path / "o.mp4")) as film:
        stream = film.streams.video[0]
        assert stream.frames == 8
        assert stream.duration * stream.time_base == pytest.approx(0.43, abs=0.05)


def test_the_sound_is_the_sources(wan_lora: Path, short_clip: Path, tmp_path: Path) -> None:
    worked(byg(wan_lora, short_clip, tmp_path / "out.mp4", "--steps", 1))
    assert heard(tmp_path / "out.mp4") == heard(short_clip) != []


def test_a_part_of_a_clip(wan_lora: Path, tmp_path: Path) -> None:
    clip = clip_files.write(tmp_path / "a.mp4", drawn(96), 16, sound="aac")
    result = byg(wan_lora, clip, tmp_path / "o.mp4")
    assert result.exit_code == 2
    for words in ("6.00 s long", "81 frames at 16 a second", "--start 0 --seconds 5"):
        assert words in result.stderr
    part = ("--start", 1, "--seconds", 0.5, "--steps", 1, "--cfg", 1)
    worked(byg(wan_lora, clip, tmp_path / "o.mp4", *part))
    assert len(pictures(tmp_path / "o.mp4")) == 8
    whole = [data for _, data in heard(clip)]
    found = [data for _, data in heard(tmp_path / "o.mp4")]
    assert 20 < len(found) < 30 and found[0] in whole[45:48] and set(found) <= set(whole)


def test_a_folder_of_frames(wan_lora: Path, tmp_path: Path) -> None:
    """In and out, under their own names, with their transparency."""
    source = tmp_path / "shot"
    source.mkdir()
    for i, frame in enumerate(drawn(5)):
        picture = Image.fromarray(frame)
        picture.putalpha(50 + i)
        picture.save(source / f"s{8 + i}.png")
    worked(byg(wan_lora, source, tmp_path / "out", "--steps", 1))
    names = [f"s{8 + i}.png" for i in range(5)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(names)
    for i, name in enumerate(names):
        with Image.open(tmp_path / "out" / name) as picture:
            assert (picture.size, picture.mode) == ((64, 48), "RGBA")
            assert picture.getchannel("A").getextrema() == (50 + i, 50 + i)
    worked(byg(wan_lora, source, tmp_path / "o.mp4", "--steps", 1, "--fps", 12))
    with av.open(str(tmp_path / "o.mp4")) as film:
        assert (film.streams[0].frames, film.streams[0].average_rate) == (5, 12)


def test_a_clip_as_frames(wan_lora: Path, short_clip: Path, tmp_path: Path) -> None:
    worked(byg(wan_lora, short_clip, tmp_path / "out", "--steps", 1, "--seed", 2))
    names = [f"frame_{i + 1:05d}.png" for i in range(7)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    with Image.open(tmp_path / "out" / names[3]) as picture:
        assert (picture.size, picture.mode) == ((64, 48), "RGB")


@pytest.mark.parametrize("output", ["out.mp4", "out"])
def test_several_seeds_beside_each_other(
    wan_lora: Path, short_clip: Path, output: str, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    result = worked(byg(wan_lora, short_clip, folder / output, "--n", 2, "--seed", 5, "--steps", 1))
    suffix = Path(output).suffix
    assert {p.name for p in folder.iterdir()} == {f"out{n}{suffix}" for n in ("", "_1", "_2")}
    assert "out_1" in result.stdout and "out_2" in result.stdout
    if suffix:
        assert heard(folder / "out.mp4") == heard(short_clip)
        films_found = [pictures(folder / f"out{n}.mp4") for n in ("", "_1", "_2")]
    else:
        films_found = [
            np.stack([np.asarray(Image.open(p)) for p in sorted((folder / f"out{n}").iterdir())])
            for n in ("", "_1", "_2")
        ]
    both, one, two = films_found
    assert len(both) == len(one) == len(two) == 7
    assert both.shape[2] > 3 * 192  # the source and two results
    assert np.abs(one.astype(int) - two).mean() > 1


def test_a_clip_cut_off_a_key_frame(wan_lora: Path, tmp_path: Path) -> None:
    """What can be decoded is edited, with the sound that belongs to it."""
    whole = clip_files.write(tmp_path / "whole.mkv", drawn(48), 16, key=16, sound="aac")
    clip = cut(whole, tmp_path / "cut.mkv", 9)
    result = worked(byg(wan_lora, clip, tmp_path / "o.mp4", "--steps", 1, "--cfg", 1))
    assert "was cut off a key frame: its first 7 frames cannot be decoded" in result.stderr
    assert len(pictures(tmp_path / "o.mp4")) == 32
    sound = {data: when for when, data in heard(whole)}
    kept = heard(tmp_path / "o.mp4")
    assert len(kept) > 80
    # Frame 16 of the whole clip, at one second, is the first of the edit.
    assert {round(float(sound[data] - when), 2) for when, data in kept} == {1.0}


def test_a_clip_that_lost_its_end(wan_lora: Path, tmp_path: Path) -> None:
    clip = clip_files.write(tmp_path / "a.mp4", noisy(40), 16, movflags="faststart")
    result = byg(wan_lora, cut_short(clip, 0.6), tmp_path / "o.mp4", "--steps", 1, "--cfg", 1)
    assert "lost its end: the edit has the" in worked(result).stderr
    edited = pictures(tmp_path / "o.mp4")
    assert 10 < len(edited) < 40
    assert f"the {len(edited)} frames that can be decoded" in result.stderr


@pytest.mark.parametrize("name", ["12:30:45.mp4", "moving.gif", "clip"])
def test_names_and_kinds_of_clips(
    wan_lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    form = {"clip": "mp4"}.get(name)
    gif = {"codec": "gif", "pixels": "rgb8"} if name == "moving.gif" else {}
    clip_files.write(tmp_path / name, drawn(6), 10, form=form, **gif)
    monkeypatch.chdir(tmp_path)
    worked(byg(wan_lora, Path(name), Path("Edit: 12.mp4"), "--steps", 1, "--cfg", 1))
    assert pictures(tmp_path / "Edit: 12.mp4").shape == (6, 48, 64, 3)
