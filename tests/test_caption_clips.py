"""Clips: their frames, and the way of appendix D.2 to a tuple for each other style."""

from __future__ import annotations

import json
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import clip_files
import lanes
import numpy as np
import pytest
from chat_server import Answer, Asked, ChatServer, plain
from data_sets import rows
from PIL import Image
from typer.testing import CliRunner, Result

from byg_train.cli.app import app
from byg_train.data.media_kind import CLIPS
from byg_train.data.segments import Segment, inspect_file, read_segment
from byg_train.data.vlm.pipeline import FRAMES, clip_jpegs, shown_frames
from byg_train.media import MediaError
from byg_train.media.fit import Size


def clip(path: Path, frames: int, size: tuple[int, int] = (64, 32), key_every: int = 12) -> Path:
    """A clip that grows evenly brighter, from black to white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4" if path.suffix != ".webm" else "libvpx", rate=16)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = key_every
        for i in range(frames):
            gray = np.full((size[1], size[0], 3), round(255 * i / max(1, frames - 1)), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(gray, "rgb24")))
        out.mux(stream.encode())
    return path


def brightness(jpeg: bytes) -> float:
    with Image.open(BytesIO(jpeg)) as image:
        return float(np.asarray(image).mean()) / 255


def run(root: Path, server: ChatServer, *options: str) -> Result:
    command = ["data", "caption", str(root), "--endpoint", server.url, "--model", "m", *options]
    return CliRunner().invoke(app, command, catch_exceptions=False)


# ---------------------------------------------------------------- frames


@pytest.mark.parametrize(("name", "frames"), [("a.mp4", 81), ("b.webm", 30), ("c.mov", 9)])
def test_frames_are_spread_over_the_clip(tmp_path: Path, name: str, frames: int) -> None:
    found = [brightness(jpeg) for jpeg in clip_jpegs(clip(tmp_path / name, frames))]
    assert len(found) == FRAMES
    evenly = [(i + 0.5) / FRAMES for i in range(FRAMES)]
    assert found == pytest.approx(evenly, abs=1.5 / FRAMES)
    assert found == sorted(found)


def test_a_short_clip_shows_all_it_has(tmp_path: Path) -> None:
    assert len(clip_jpegs(clip(tmp_path / "a.mp4", 3))) == 3


def test_of_a_film_only_key_frames_are_decoded(tmp_path: Path) -> None:
    path = clip(tmp_path / "film.mp4", 61 * 16, (32, 32), key_every=40)
    found = [brightness(jpeg) for jpeg in clip_jpegs(path)]
    assert len(found) == FRAMES
    assert found == pytest.approx([(i + 0.5) / FRAMES for i in range(FRAMES)], abs=1.5 / FRAMES)


def test_large_frames_are_made_small(tmp_path: Path) -> None:
    with Image.open(BytesIO(clip_jpegs(clip(tmp_path / "a.mp4", 2, (1280, 640)))[0])) as image:
        assert image.size == (512, 256)


def aspect(path: Path) -> Path:
    return clip_files.clip(path, FRAMES, size=(48, 48), aspect=Fraction(16, 9), codec="libx264")


def transparent(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "bgra"
        for i in range(FRAMES):
            pixels = np.full((16, 16, 4), (200, 0, 0, 20 * i), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgba")))
        out.mux(stream.encode())
    return path


ODD = {
    "plain.mp4": lambda path: clip_files.clip(path, FRAMES),
    "hdr.mp4": lambda path: clip_files.hdr_clip(path, FRAMES),
    "pixels that are not square.mkv": aspect,
    "turned.mp4": lambda path: clip_files.clip(path, FRAMES, size=(64, 48), rotation=90),
    "transparent.mkv": transparent,
}


@pytest.mark.parametrize("name", lanes.cases(ODD, slow="hdr.mp4"))
def test_the_model_is_shown_the_pixels_that_training_sees(tmp_path: Path, name: str) -> None:
    path = ODD[name](tmp_path / name)
    facts = inspect_file(path, CLIPS, None)
    size = Size(facts.width, facts.height)
    trained = read_segment(path, facts.digest, Segment(0, FRAMES, 24.0), size)
    shown = np.stack(list(shown_frames(path)))
    assert np.array_equal(shown, trained[0].permute(1, 2, 3, 0).numpy())
    with Image.open(BytesIO(clip_jpegs(path)[-1])) as jpeg:
        assert jpeg.size == size
        assert np.abs(np.asarray(jpeg, int) - shown[-1]).mean() < 3


def test_what_is_no_clip_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no clip")
    with pytest.raises(MediaError, match="cannot be read"):
        clip_jpegs(tmp_path / "a.mp4")


# ---------------------------------------------------------------- tuples


@pytest.mark.slow
def test_a_bare_clip_is_captioned_cleaned_and_turned_into_the_other_style(tmp_path: Path) -> None:
    clip(tmp_path / "one.mp4", 9)

    def model(asked: Asked, before: int) -> Answer:
        if asked.pictures:
            said = {"caption": "A cinematic shot of a car.", "style": "photo realistic"}
        else:
            said = {"caption": "A car drives by."}
        return Answer(f"<think>hm</think>{json.dumps(said)}")

    with ChatServer(model) as server:
        result = run(tmp_path, server)
        assert result.exit_code == 0, result.output
        first, second = server.asked
        assert len(first.pictures) == FRAMES
        assert 'one of "cartoon", "photo-realistic"' in first.prompt
        assert second.pictures == []
        assert "Description:\nA cinematic shot of a car.\n" in second.prompt
        run(tmp_path, server)
        assert len(server.asked) == 2
    assert rows(tmp_path) == [
        {
            "file_name": "one.mp4",
            "src_caption": "A car drives by, photo-realistic style",
            "tgt_caption": "A car drives by, cartoon style",
            "instruction": "Turn the video to cartoon style",
            "reverse_instruction": "Turn the video to photo-realistic style",
            "edit_type": "style_change",
        }
    ]


def test_what_folders_and_captions_tell_is_not_asked(tmp_path: Path) -> None:
    for name in ("anime/0.mp4", "film/1.mp4", "noir/2.mp4"):
        clip(tmp_path / name, 2)
    (tmp_path / "anime" / "0.txt").write_text("an anime car, number 0")
    with ChatServer() as server:
        assert run(tmp_path, server, "--style-folders").exit_code == 0
        asked = [(len(a.pictures), '"style":' in a.prompt) for a in server.asked]
    # The first one's caption is only cleaned; no style is asked for.
    assert sorted(asked) == [(0, False)] * 3 + [(2, False)] * 2
    found = [(r["file_name"], r["instruction"], r["reverse_instruction"]) for r in rows(tmp_path)]
    assert len(found) == 6
    assert ("noir/2.mp4", "Turn the video to anime style", "Turn the video to noir style") in found


def test_own_templates_and_styles(tmp_path: Path) -> None:
    clip(tmp_path / "data" / "film" / "1.mp4", 2)
    (tmp_path / "data" / "film" / "1.txt").write_text("a car, number 1.")
    (tmp_path / "data" / "styles.toml").write_text(
        'caption = "{style}: {caption}"\n[styles.clay]\ninstruction = "Make it of {style}"\n'
    )
    with ChatServer() as server:
        run(tmp_path / "data", server, "--style-folders", "--clip-styles", "clay, ink")
    texts = {(r["tgt_caption"], r["instruction"]) for r in rows(tmp_path / "data")}
    assert texts == {
        ("clay: a car drives by, number 1", "Make it of clay"),
        ("ink: a car drives by, number 1", "Turn the video to ink style"),
    }


def test_a_stop_between_the_steps_keeps_the_first(tmp_path: Path) -> None:
    clip(tmp_path / "one.mp4", 2)

    def half(asked: Asked, before: int) -> Answer:
        return plain(asked) if asked.pictures else Answer(status=401, raw="{}")

    with ChatServer(half) as server:
        assert run(tmp_path, server).exit_code == 1
    with ChatServer() as server:
        assert run(tmp_path, server).exit_code == 0
        assert [len(a.pictures) for a in server.asked] == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--clip-styles", "ink"], "clips need two styles or more; found only ink"),
        (["--clip-styles", "ink, a/b"], "'a/b' cannot name a style"),
        (["--clip-styles", "3d-ink, 3d ink"], "2 styles of clips are called '3d ink'"),
    ],
)
def test_styles_that_cannot_be(tmp_path: Path, options: list[str], message: str) -> None:
    clip(tmp_path / "one.mp4", 2)
    with ChatServer() as server:
        result = run(tmp_path, server, *options)
        assert not server.asked
    assert result.exit_code == 2
    assert message in result.output
