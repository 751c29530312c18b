"""Colours of pictures: sRGB by the embedded profile wherever pixels are read, and back in edits."""

from __future__ import annotations

import logging
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from benchmarks.odd.media import ADOBE_RGB, DISPLAY_P3, cmyk_profile, gray_profile, rgb_profile
from byg_train.data.findings import signature
from byg_train.data.vlm.pipeline import picture_jpegs
from byg_train.media.profiles import note, with_profile
from byg_train.media.reader import picture_size, read_media, read_picture
from byg_train.media.rgb import to_rgb

RED = (200, 30, 30)
ADOBE = rgb_profile()


def plain(mode: str, colour: tuple[int, ...] | int, size: int = 32) -> Image.Image:
    return Image.new(mode, (size, size), colour)


def colour_of(picture: Image.Image) -> np.ndarray:
    assert picture.mode == "RGB"
    return np.asarray(picture)[5, 5].astype(int)


def test_adobe_rgb_as_the_issue_has_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    plain("RGB", RED).save(path, quality=100, subsampling=0, icc_profile=ADOBE)
    for found in (
        colour_of(read_picture(path)),
        colour_of(read_picture(path, at_least=None)),
        colour_of(read_media(path).picture),
        colour_of(Image.open(BytesIO(picture_jpegs(path)[0]))),
        signature(path).thumbnail[0, 0].astype(int),
    ):
        assert np.abs(found - (233, 24, 24)).max() <= 3
    assert picture_size(path) == (32, 32)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".avif"])
@pytest.mark.parametrize("name", ["rgb", "alpha"])
def test_every_format_and_its_transparency(tmp_path: Path, suffix: str, name: str) -> None:
    exact = {".webp": {"lossless": True}}.get(suffix, {"quality": 100})
    picture = plain("RGB", RED)
    if name == "alpha":
        picture.putalpha(128)
    picture.save(tmp_path / f"a{suffix}", icc_profile=ADOBE, **exact)
    wanted = np.array((233, 24, 24))
    if name == "alpha":
        wanted = (wanted * 128 + 255 * 127) // 255
    assert np.abs(colour_of(read_picture(tmp_path / f"a{suffix}")) - wanted).max() <= 4


def test_a_palette_has_its_profile_too(tmp_path: Path) -> None:
    plain("RGB", RED).quantize(4).save(tmp_path / "a.png", icc_profile=ADOBE)
    assert np.abs(colour_of(read_picture(tmp_path / "a.png")) - (233, 24, 24)).max() <= 2


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_gray_by_its_profile(tmp_path: Path, mode: str) -> None:
    """Half the light is 188 in sRGB."""
    value = {"L": 128, "LA": (128, 255), "I;16": 32896}[mode]
    plain(mode, value).save(tmp_path / "a.png", icc_profile=gray_profile(1.0))
    assert np.abs(colour_of(read_picture(tmp_path / "a.png")) - 188).max() <= 1


def test_gray_by_a_profile_of_rgb(tmp_path: Path) -> None:
    plain("L", 128).save(tmp_path / "a.png", icc_profile=rgb_profile(gamma=1.0))
    assert np.abs(colour_of(read_picture(tmp_path / "a.png")) - 188).max() <= 1


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_by_its_profile(tmp_path: Path, suffix: str) -> None:
    ink = plain("CMYK", (0, 255, 255, 0))
    ink.save(tmp_path / f"a{suffix}", icc_profile=cmyk_profile(), quality=100)
    ink.save(tmp_path / f"b{suffix}", quality=100)
    found = colour_of(read_picture(tmp_path / f"a{suffix}"))
    press = ImageCms.ImageCmsProfile(BytesIO(cmyk_profile()))
    wanted = ImageCms.profileToProfile(ink, press, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert np.abs(found - colour_of(wanted)).max() <= 3
    assert np.abs(found - colour_of(read_picture(tmp_path / f"b{suffix}"))).max() > 20


def test_lab_says_itself_what_its_numbers_mean(tmp_path: Path) -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    picture = ImageCms.profileToProfile(plain("RGB", RED), srgb, lab, outputMode="LAB")
    picture.save(tmp_path / "a.tif", icc_profile=ADOBE)
    assert np.abs(colour_of(read_picture(tmp_path / "a.tif")) - RED).max() <= 3


def test_srgb_by_any_name_changes_no_pixel(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(levels).save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(np.asarray(read_picture(tmp_path / "a.png")), levels)
    with Image.open(tmp_path / "a.png") as source:
        assert note(source) is None


BROKEN = {
    "nonsense": b"no profile at all",
    "cut": ADOBE[:200],
    "of another model": cmyk_profile(),
    "of grey": gray_profile(),
    "without its tags": ADOBE[:128] + bytes(4),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_profile_is_told_and_taken_as_srgb(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    path = tmp_path / f"{name}.png"
    plain("RGB", RED).save(path, icc_profile=BROKEN[name])
    with caplog.at_level(logging.WARNING, "byg_train"):
        for _ in range(3):
            assert (colour_of(read_picture(path)) == RED).all()
    assert len(caplog.records) == 1, "told once"
    assert f"{name}.png has a colour profile that cannot be used" in caplog.text
    with Image.open(path) as source:
        assert "taken as sRGB" in note(source)


@pytest.mark.parametrize("primaries", [ADOBE_RGB, DISPLAY_P3])
def test_an_edit_comes_back_in_the_profile_of_its_source(
    primaries: tuple[tuple[float, float, float], ...],
) -> None:
    source = plain("RGB", (120, 140, 110))
    source.info["icc_profile"] = rgb_profile(primaries, name="wide")
    assert note(source) == (
        "has the profile 'wide': it is edited in sRGB, and brought back into it"
    )
    result = with_profile(to_rgb(source), source)
    assert result.info["icc_profile"] == source.info["icc_profile"]
    assert np.abs(np.asarray(result).astype(int) - np.asarray(source)).max() <= 2


def test_what_has_no_profile_of_rgb_is_edited_in_srgb() -> None:
    for mode, profile in (("L", gray_profile()), ("CMYK", cmyk_profile())):
        source = plain(mode, 100 if mode == "L" else (0, 200, 200, 0))
        source.info["icc_profile"] = profile
        assert f"of {mode} pictures: the edit is in sRGB" in note(source)
        assert "icc_profile" not in with_profile(plain("RGB", RED), source).info
    assert "guessed" in note(plain("CMYK", (0, 0, 0, 0)))
    assert note(plain("RGB", RED)) is None


# ---------------------------------------------------------------- orientation


BROKEN_EXIF = {
    "empty": b"Exif\0\0",
    "head alone": b"Exif\0\0II*\0",
    "leads nowhere": b"Exif\0\0MM\0*\xff\xff\xff\xff",
    "torn": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01",
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("name", BROKEN_EXIF)
def test_broken_exif_leaves_the_picture_as_stored(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.jpg"
    plain("RGB", RED).resize((60, 40)).save(path, exif=BROKEN_EXIF[name])
    assert picture_size(path) == read_picture(path).size == (60, 40)


@pytest.mark.parametrize("value", [0, 9, 65535])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_an_orientation_that_is_none_is_left_aside(tmp_path: Path, value: int, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    picture = plain("RGB", RED).resize((60, 40))
    exif = picture.getexif()
    exif[0x0112] = value
    picture.save(path, exif=exif)
    assert picture_size(path) == read_picture(path).size == (60, 40)


def told_by_exif(space: int | None, index: str | None) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned, which makes a copy of the picture
    if space is not None:
        exif.get_ifd(0x8769)[0xA001] = space
    if index is not None:
        exif.get_ifd(0x8769)[0xA005] = {1: index}
    return exif


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize(
    ("space", "index", "adobe"),
    [
        (0xFFFF, "R03", True),
        (2, None, True),
        (None, "R03", True),
        (0xFFFF, None, False),  # some other space, of which nothing is known
        (0xFFFF, "R98", False),
        (1, "R03", False),  # sRGB
        (1, None, False),
    ],
)
def test_adobe_rgb_told_by_exif_alone(
    tmp_path: Path, suffix: str, space: int | None, index: str | None, adobe: bool
) -> None:
    path = tmp_path / f"a{suffix}"
    exact = {"lossless": True} if suffix == ".webp" else {"quality": 100}
    plain("RGB", RED).save(path, exif=told_by_exif(space, index), **exact)
    wanted = (233, 24, 24) if adobe else RED
    assert np.abs(colour_of(read_picture(path)) - wanted).max() <= 4
    with Image.open(path) as source:
        assert (note(source) is not None) == adobe
        back = with_profile(plain("RGB", (233, 24, 24)), source)
    assert ("icc_profile" in back.info) == adobe
    if adobe:
        assert np.abs(np.asarray(back)[5, 5] - np.array(RED)).max() <= 2
        assert np.abs(colour_of(to_rgb(back)) - (233, 24, 24)).max() <= 2


def test_an_embedded_profile_counts_before_exif(tmp_path: Path) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = told_by_exif(0xFFFF, "R03")
    plain("RGB", RED).save(tmp_path / "a.png", exif=exif, icc_profile=srgb)
    assert np.abs(colour_of(read_picture(tmp_path / "a.png")) - RED).max() <= 1
