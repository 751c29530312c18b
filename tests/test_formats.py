"""What a file holds, by its content, whatever it is called."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from clip_files import clip, drawn, write
from PIL import Image

from benchmarks.odd.media import transparent_picture
from byg_train.media import MediaError, formats
from byg_train.media.formats import CLIPS, MEDIA, PICTURES, look
from byg_train.media.reader import picture_size, read_media, read_picture

PICTURE_NAMES = {
    "a.avif": "AVIF", "a.jfif": "JPEG", "a.jpe": "JPEG", "a.gif": "GIF", "a.tga": "TGA",
    "a.jp2": "JPEG2000", "a.ppm": "PPM", "a.ico": "ICO", "a.pcx": "PCX", "a.qoi": "QOI",
    "a.dds": "DDS", "a.sgi": "SGI", "a.icns": "ICNS",
    # Under a wrong name, or none.
    "photo": "JPEG", "photo.mp4": "PNG", "photo.jpg": "WEBP", "photo.part": "AVIF",
    "photo 12.30": "TIFF", "IMG.JPG": "MPO", "nothing": "TGA", "x.dat": "BMP",
}  # fmt: skip


@pytest.mark.parametrize("name", PICTURE_NAMES)
def test_a_picture_is_one_under_any_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    more = {"sizes": [(64, 64)]} if name == "a.ico" else {}
    Image.new("RGB", (64, 64), (200, 30, 30)).save(path, PICTURE_NAMES[name], **more)
    assert look(path).sort == "picture"
    assert (PICTURES.holds(path), CLIPS.holds(path), MEDIA.holds(path)) == (True, False, True)
    assert min(picture_size(path)) == min(read_picture(path).size) >= 64
    assert np.abs(np.asarray(read_picture(path))[9, 9].astype(int) - (200, 30, 30)).max() <= 8


# Name -> codec and container.
CLIP_NAMES = {
    "a.vob": ("mpeg2video", "vob"), "a.asf": ("wmv2", "asf"), "a.m2v": ("mpeg2video", "mpeg2video"),
    "a.qt": ("libx264", "mov"), "a.3gp": ("libx264", "3gp"), "a.flv": ("flv", "flv"),
    "a.nut": ("ffv1", "nut"), "a.y4m": ("wrapped_avframe", "yuv4mpegpipe"),
    "a.mjpeg": ("mjpeg", "mjpeg"), "A.MPG": ("mpeg2video", "mpeg"),
    # Under a wrong name, or none.
    "clip": ("libx264", "mp4"), "clip.png": ("libx264", "mp4"), "clip.part": ("libvpx-vp9", "webm"),
    "clip 12.30": ("mpeg4", "avi"), "clip.ogg": ("libx264", "matroska"),
}  # fmt: skip


@pytest.mark.parametrize("name", CLIP_NAMES)
def test_a_clip_is_one_under_any_name(tmp_path: Path, name: str) -> None:
    codec, container = CLIP_NAMES[name]
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write(tmp_path / name, drawn(12), 24, codec=codec, pixels=pixels, form=container)
    assert look(path).sort == "clip"
    assert (PICTURES.holds(path), CLIPS.holds(path)) == (False, True)
    assert len(read_media(path).frames) == 12


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif", "photo.jpg"])
def test_a_picture_that_moves_is_both(tmp_path: Path, name: str) -> None:
    form = {"photo.jpg": "GIF"}.get(name)
    path = transparent_picture(tmp_path / name, **({"format": form} if form else {}))
    assert look(path).sort == "animation"
    assert PICTURES.holds(path) and CLIPS.holds(path)
    first = np.asarray(read_picture(path)).astype(int)
    assert np.abs(first[10, 10] - (200, 30, 30)).max() <= 8
    assert np.abs(first[1, 40] - 255).max() <= 8, "the first frame, on white"


def test_several_pages_or_sizes_are_no_motion(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (64, 64), (90 * i, 0, 0)) for i in range(3)]
    for name in ("a.tif", "a.mpo"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        assert look(tmp_path / name).sort == "picture"
    pages[0].save(tmp_path / "one.gif")
    assert look(tmp_path / "one.gif").sort == "picture"


def test_what_is_none_is_said(tmp_path: Path) -> None:
    clip(tmp_path / "a.mp4", sound=True)
    (tmp_path / "sound.mka").write_bytes(b"")
    (tmp_path / "a.docx").write_bytes(b"PK\3\4" + os.urandom(5000))
    (tmp_path / "weights").write_bytes(struct.pack("<Q", 999) + os.urandom(50_000))
    (tmp_path / "caption.txt").write_text("a fox")
    (tmp_path / "note").write_text("remember the milk")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")  # to open it would wait for ever
        assert look(tmp_path / "pipe.png") == ("none", "no file")
    wanted = {
        "a.docx": "a document", "weights": "no picture, no clip", "caption.txt": "a text",
        "note": "no picture, no clip", "empty": "empty", "folder.png": "a folder",
        "link.png": "a link that leads nowhere", "not there.png": "not there",
    }  # fmt: skip
    for name, why in wanted.items():
        assert look(tmp_path / name) == ("none", why), name
        assert not MEDIA.holds(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "sort"),
    [("a.png", "picture"), ("a.mp4", "clip"), ("a.gif", "clip"), ("a.heic", "picture"),
     ("a.VOB", "clip"), ("a.avif", "picture"), ("a.ts", "clip")],
)  # fmt: skip
def test_what_nothing_opens_is_what_it_was_meant_to_be(
    tmp_path: Path, name: str, sort: str
) -> None:
    for content in (b"", b"a text", os.urandom(3000)):
        (tmp_path / name).write_bytes(content)
        assert look(tmp_path / name).sort == sort


def test_a_look_is_forgotten_when_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("a text")
    assert look(path).sort == "none"
    Image.new("RGB", (64, 64)).save(path, "PNG")
    assert look(path).sort == "picture"
    path.unlink()
    assert look(path) == ("none", "not there")


def test_heic_is_named_with_what_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    formats._has_heic.cache_clear()
    assert PICTURES.holds(path)
    with pytest.raises(MediaError, match="HEIC, for which .* pip install pillow-heif"):
        picture_size(path)
    formats._has_heic.cache_clear()


def test_heic_is_a_picture_where_its_plugin_is_there(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="pip install pillow-heif")
    for name in ("a.heic", "telephone.jpg"):
        heif.from_pillow(Image.new("RGB", (64, 48), (200, 30, 30))).save(tmp_path / "a.heic")
        (tmp_path / "a.heic").rename(tmp_path / name)
        assert look(tmp_path / name).sort == "picture"
        assert picture_size(tmp_path / name) == (64, 48)
        shown = np.asarray(read_picture(tmp_path / name))[9, 9].astype(int)
        assert np.abs(shown - (200, 30, 30)).max() <= 8


def test_a_raw_picture_is_not_its_thumbnail(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.dng", "TIFF")
    assert PICTURES.holds(tmp_path / "a.dng")
    with pytest.raises(MediaError, match="a camera's raw picture"):
        picture_size(tmp_path / "a.dng")


def test_a_picture_that_ffmpeg_alone_reads(tmp_path: Path) -> None:
    written = write(tmp_path / "a_1.dpx", drawn(1), codec="dpx", pixels="rgb24", form="image2")
    assert look(written).sort == "picture"
    assert picture_size(written) == (64, 48)
    np.testing.assert_array_equal(np.asarray(read_picture(written)), drawn(1)[0])


def test_a_codec_that_ffmpeg_does_not_decode(tmp_path: Path) -> None:
    """PyAV knows nothing of such a stream, not even its size."""
    jxl = tmp_path / "a.jxl"
    jxl.write_bytes(b"\xff\x0a" + bytes(200))
    film = clip(tmp_path / "a.mp4", 6, codec="libx264")
    film.write_bytes(film.read_bytes().replace(b"avc1", b"zzz1"))
    assert look(jxl).sort == "picture" and look(film).sort == "clip"
    for path in (jxl, film):
        with pytest.raises(MediaError, match="none that this FFmpeg decodes"):
            read_media(path)
