"""Editing: exact sizes, a picture per seed, the LoRA's own settings, mistakes before a load."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from edits import edit_picture
from flux_edits import TEXT, info
from PIL import Image
from typer.testing import CliRunner, Result

from benchmarks.odd.media import rgb_profile
from byg_train.cli.app import app
from byg_train.config import ConfigError, LoraSettings, ModelConfig
from byg_train.core.flow import integrate
from byg_train.core.schedule import time_grid
from byg_train.editing import opening
from byg_train.editing.editor import Editor
from byg_train.editing.opening import EditModel, open_lora, wrong_width
from byg_train.media.fit import Fit
from byg_train.media.pixels import to_picture
from byg_train.media.rgb import to_rgb
from byg_train.models.backbone import load_backbone, resolve_base
from byg_train.models.lora import LoraBank
from byg_train.models.lora_file import LoraInfo, read_lora, write_lora
from byg_train.models.sampler import Sampling

# Each changes an edit.
OVERRIDES = {
    "sample_steps": 5,
    "guidance_sample": 4.0,
    "sampler": "unipc",
    "sample_shift": 9.0,
    "cfg": 3.0,
}
OVERRIDES |= {"resolution": 32}


def picture(size: tuple[int, int], mode: str = "RGB", seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (*size[::-1], 4), np.uint8)
    return Image.fromarray(pixels, "RGBA").convert(mode)


def edited(lora: Path, image: Image.Image, **changes: object) -> list[Image.Image]:
    return edit_picture(lora, image, TEXT, **changes)


def same(a: Image.Image, b: Image.Image) -> bool:
    return a.size == b.size and np.array_equal(np.asarray(a), np.asarray(b))


def test_an_edit_is_the_sampler_of_the_metadata(flux_lora: Path, tiny_base: Path) -> None:
    """Against the same steps by hand: fit, encode, Euler over the shifted grid, decode, undo."""
    image = picture((21, 13))
    backbone = load_backbone(ModelConfig(path=str(tiny_base), text_len=24), "cpu")
    bank = LoraBank(backbone.experts, LoraSettings(rank=2), None, 0)
    bank.load_tensors("transformer", read_lora(flux_lora).tensors)
    fit = Fit.of(21, 13, 16, 8)
    pixels = torch.from_numpy(np.asarray(image) / np.float32(127.5) - 1)
    x = backbone.encode_pixels(fit.apply(pixels.permute(2, 0, 1)[None, :, None]))
    text = backbone.encode_text([TEXT])
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        y_0 = integrate(
            lambda y, t: backbone.velocity(y, t, text, x, guidance=1.5), eps, time_grid(3, 2.0)
        )
        wanted = to_picture(fit.undo(backbone.decode_latents(y_0).clamp(-1, 1))[0])
    (found,) = edited(flux_lora, image, seeds=[4])
    assert found.size == (21, 13)
    assert np.abs(np.asarray(found, int) - np.asarray(wanted, int)).max() <= 1


@pytest.mark.parametrize("size", [(16, 16), (64, 40), (37, 113), (5, 9), (90, 7)])
def test_the_size_is_the_sources(flux_lora: Path, size: tuple[int, int]) -> None:
    (result,) = edited(flux_lora, picture(size))
    assert (result.size, result.mode) == (size, "RGB")


@pytest.mark.slow
def test_seeds_strength_steps_and_guidance_matter_and_repeat(flux_lora: Path) -> None:
    image = picture((16, 16))
    two = edited(flux_lora, image, seeds=[3, 8])
    assert not same(*two)
    assert same(two[1], edited(flux_lora, image, seeds=[8])[0])
    others = [{"strength": 0.5}]
    others += [{"overrides": {k: v}} for k, v in OVERRIDES.items()]
    for change in others:
        assert not same(two[1], edited(flux_lora, image, seeds=[8], **change)[0]), change


def test_overrides_go_before_what_the_metadata_says(tiny_base: Path) -> None:
    """And one of `cfg` holds for both experts, whatever the metadata says of either."""
    metadata = info(tiny_base, sampler="unipc", cfg=4.0, cfg_low=3.0, negative="dull")

    def sampling(metadata: LoraInfo = metadata, **overrides: object) -> Sampling:
        return Sampling.of(
            EditModel(tiny_base, {}, metadata, ModelConfig()).sampled(overrides).info
        )

    assert sampling() == Sampling(3, 2.0, "unipc", 4.0, 3.0, "dull", 1.5)
    changes = {
        "sample_steps": 9,
        "sample_shift": 5.0,
        "sampler": "euler",
        "cfg": 2.0,
        "negative": "",
    }
    assert sampling(**changes) == Sampling(9, 5.0, "euler", 2.0, None, "", 1.5)
    assert sampling(cfg_low=1.5) == Sampling(3, 2.0, "unipc", 4.0, 1.5, "dull", 1.5)
    assert sampling(cfg=5.0, cfg_low=1.5, guidance_sample=4.0) == Sampling(
        3, 2.0, "unipc", 5.0, 1.5, "dull", 4.0
    )
    assert sampling(info(tiny_base)) == Sampling(3, 2.0, "euler", 1.0, None, "", 1.5)


@pytest.mark.slow
def test_strength_zero_is_the_base(flux_lora: Path, tmp_path: Path) -> None:
    """As a LoRA whose B is zero."""
    file = read_lora(flux_lora)
    zeros = {k: v * 0 if ".lora_B" in k else v for k, v in file.tensors.items()}
    none = tmp_path / "none.safetensors"
    write_lora(none, zeros, scale=1, family="flux", metadata=file.metadata)
    image = picture((16, 16))
    assert same(edited(flux_lora, image, strength=0.0)[0], edited(none, image)[0])
    assert not same(edited(flux_lora, image)[0], edited(none, image)[0])


def test_alpha_and_colour_profile_come_back(flux_lora: Path) -> None:
    image = picture((20, 12), "RGBA")
    image.info["icc_profile"] = b"a profile"
    (result,) = edited(flux_lora, image)
    assert result.mode == "RGBA"
    assert same(result.getchannel("A"), image.getchannel("A"))
    assert result.info["icc_profile"] == b"a profile"
    assert not same(result.convert("RGB"), image.convert("RGB"))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_profile_of_other_colours_is_left_out(flux_lora: Path, mode: str) -> None:
    """The result is RGB: a grey or CMYK profile would be false."""
    image = picture((16, 16), mode)
    image.info["icc_profile"] = b"a profile"
    (result,) = edited(flux_lora, image)
    assert result.mode == "RGB" and "icc_profile" not in result.info


def test_results_come_as_they_are_finished(flux_lora: Path) -> None:
    """Each before the next one is begun: after 3 and 6 of 6 evaluations."""
    seen: list[int] = []
    came: list[tuple[int, Image.Image]] = []
    results = edited(
        flux_lora, picture((16, 16)), seeds=[0, 1],
        on_progress=lambda done, of: seen.append(done),
        on_result=lambda result: came.append((len(seen), result)),
    )  # fmt: skip
    assert [n for n, _ in came] == [3, 6]
    assert all(a is b for (_, a), b in zip(came, results, strict=True))


def test_a_turned_photo_is_edited_upright(flux_lora: Path, tmp_path: Path) -> None:
    image, exif = picture((24, 10)), Image.Exif()
    exif[274] = 6  # a quarter turn
    image.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        (result,) = edited(flux_lora, turned)
    assert result.size == (10, 24)
    assert same(result, edited(flux_lora, image.transpose(Image.Transpose.ROTATE_270))[0])


def test_progress_counts_every_evaluation(flux_lora: Path) -> None:
    seen: list[tuple[int, int]] = []
    edited(flux_lora, picture((16, 16)), seeds=[0, 1], on_progress=lambda *p: seen.append(p))
    assert seen == [(i + 1, 6) for i in range(6)]


# ---------------------------------------------------------------- the command


def byg(lora: Path, image: Path, output: Path, *more: object) -> Result:
    words = ["edit", "--lora", lora, "--image", image, "--output", output, *more]
    if "--instruction" not in words:
        words += ["--instruction", TEXT]
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    picture((30, 20)).save(path)
    return path


def test_one_picture(flux_lora: Path, photo: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "result.png"
    result = byg(flux_lora, photo, output, "--seed", 7, "--device", "cpu")
    assert result.exit_code == 0, result.output
    with Image.open(photo) as source, Image.open(output) as found:
        assert same(found, edited(flux_lora, source, seeds=[7])[0])
    assert [p.name for p in output.parent.iterdir()] == ["result.png"]


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".png", ".bmp"])
def test_colours_come_back_in_the_profile_of_any_picture(
    flux_lora: Path, tmp_path: Path, ending: str
) -> None:
    """An AVIF, called as nobody would: edited in sRGB, written in its own profile and told so."""
    source, output = tmp_path / "a picture.0", tmp_path / f"o{ending}"
    picture((30, 20)).save(source, "AVIF", icc_profile=rgb_profile())
    result = byg(flux_lora, source, output, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "has the profile 'Adobe RGB (1998)': it is edited in sRGB" in result.stderr
    with Image.open(output) as found:
        assert ("icc_profile" in found.info) == (ending == ".png")
        seen = to_rgb(found)
    with Image.open(source) as opened:
        wanted = to_rgb(edited(flux_lora, opened)[0])
    assert np.abs(np.asarray(seen).astype(int) - np.asarray(wanted)).max() <= 2


def test_a_picture_that_moves_is_edited_as_its_first(flux_lora: Path, tmp_path: Path) -> None:
    moving = [picture((30, 20), seed=i) for i in range(3)]
    moving[0].save(tmp_path / "a.webp", save_all=True, append_images=moving[1:], lossless=True)
    result = byg(flux_lora, tmp_path / "a.webp", tmp_path / "o.png", "--device", "cpu")
    assert "is a picture that moves: its first frame is edited" in result.stderr
    with Image.open(tmp_path / "o.png") as found:
        assert same(found, edited(flux_lora, moving[0])[0])


@pytest.mark.slow
def test_several_seeds_and_a_grid(flux_lora: Path, photo: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "result.png"
    result = byg(flux_lora, photo, output, "--n", 3, "--seed", 5, "--device", "cpu")
    assert result.exit_code == 0, result.output
    names = {"result.png", "result_1.png", "result_2.png", "result_3.png"}
    assert {p.name for p in output.parent.iterdir()} == names
    with Image.open(photo) as source, Image.open(tmp_path / "out" / "result_2.png") as second:
        assert same(second, edited(flux_lora, source, seeds=[6])[0])
    with Image.open(output) as grid:
        assert grid.width > 4 * 192  # the source and three results


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--instruction", "  "], ["--instruction is empty"]),
        (["--n", 0], ["--n 0"]),
        (["--steps", 0], ["--steps 0"]),
        (["--seed", -1], ["--seed -1"]),
        (["--strength", "nan"], ["--strength nan"]),
        (["--cfg", 0.5], ["--cfg 0.5", "1 or more"]),
        (["--shift", 0], ["--shift 0", "above 0"]),
        (["--sampler", "ddim"], ["--sampler ddim", "euler, unipc or renoise"]),
        (["--start", 1], ["--start is for clips"]),
        (["--input", "."], ["no picture", "Wan"]),
        (["--input", "clip.mp4"], ["clip.mp4", "no picture", "Wan"]),
        (["--device", "tpu"], ["--device", "tpu"]),
        (["--image", "gone.png"], ["gone.png", "does not exist"]),
        (["--image", "broken.png"], ["broken.png", "cannot be used"]),
        (["--output", "picture.gif"], ["picture.gif", ".png"]),
        (["--output", "photo.png/new/x.png"], ["x.png", "cannot be written"]),
        (["--output", "photo.png"], ["would overwrite"]),
        (["--image", "clear.png", "--output", "x.jpg"], ["x.jpg", "transparency"]),
        (["--lora", "gone.safetensors"], ["gone.safetensors", "does not exist"]),
        (["--lora", "photo.png"], ["photo.png", "safetensors"]),
        (["--model", "gone/folder/here"], ["gone/folder/here"]),
        (["--model", "black-forest-labs/FLUX.1-dev"], ["32 wide", "3072", "trained on"]),
    ],
)
def test_mistakes_are_found_before_a_model_is_loaded(
    more: list[str],
    words: list[str],
    flux_lora: Path,
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(opening, "load_backbone", refuse)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.png").write_bytes(photo.read_bytes()[:90])
    picture((8, 8), "RGBA").save(tmp_path / "clear.png")
    (tmp_path / "clip.mp4").write_bytes(b"a clip")
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    result = byg(flux_lora, photo, tmp_path / "out.png", *more)
    assert result.exit_code == 2, result.output
    for word in words:
        assert word in result.stderr
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_single_file_base_comes_with_its_components(
    tiny_base: Path, flux_lora: Path, tmp_path: Path
) -> None:
    """From the metadata, or from --components; a revision belongs to the recorded names alone."""
    single = tmp_path / "flux.safetensors"
    single.touch()
    parts, other = str(tiny_base), str(tmp_path)
    metadata = info(single, components=parts, revision="abc").to_metadata()
    file = tmp_path / "l.safetensors"
    write_lora(file, read_lora(flux_lora).tensors, scale=1, family="flux", metadata=metadata)
    model = open_lora(file, None).base
    assert (model.path, model.components, model.revision) == (str(single), parts, "abc")
    model = open_lora(file, str(tiny_base), other).base
    assert (model.path, model.components, model.revision) == (parts, other, None)
    with pytest.raises(ConfigError, match=str(tmp_path)):
        resolve_base(open_lora(file, None, other).base)  # no sizes there, and no parts


def test_a_base_that_is_not_there_is_told_as_such(flux_lora: Path, tmp_path: Path) -> None:
    """Nobody knows its width, so it is not that the LoRA would not fit."""
    (tmp_path / "data").mkdir()
    for base in (tmp_path / "typo", tmp_path / "data"):
        assert wrong_width(read_lora(flux_lora), open_lora(flux_lora, str(base)).base) is None
        with pytest.raises(ConfigError, match=base.name):
            resolve_base(open_lora(flux_lora, str(base)).base)
    with pytest.raises(ConfigError, match="32 wide, the model's 3072"):
        open_lora(flux_lora, "black-forest-labs/FLUX.1-dev")


def test_a_result_of_nan_is_no_picture(
    flux_lora: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Editor, "sample", lambda self, x, *of, **more: x * float("nan"))
    result = byg(flux_lora, photo, tmp_path / "r.png", "--device", "cpu")
    assert result.exit_code == 2 and "came out as NaN or infinity" in result.output
    assert not (tmp_path / "r.png").exists()


def test_an_interrupted_edit_keeps_what_is_finished(
    flux_lora: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full GPU at the second seed: one sentence, exit code 1, and the first result is there."""
    real, calls = Editor.sample, []

    def full(*args: object, **options: object) -> torch.Tensor:
        calls.append(args)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return real(*args, **options)

    monkeypatch.setattr(Editor, "sample", full)
    result = byg(flux_lora, photo, tmp_path / "out" / "r.png", "--n", 3, "--device", "cpu")
    assert result.exit_code == 1, result.output
    assert "memory is full" in result.stderr and "--device cpu" in result.stderr
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["r_1.png"]


def test_a_lora_of_another_family_of_tools(
    tiny_base: Path, tmp_path: Path, flux_lora: Path
) -> None:
    foreign = tmp_path / "foreign.safetensors"
    write_lora(foreign, read_lora(flux_lora).tensors, scale=1, family="flux", metadata={})
    with pytest.raises(ConfigError, match=r"foreign.*not a ByG LoRA"):
        open_lora(foreign, None)


def test_a_lora_with_a_layer_too_many(tiny_base: Path, flux_lora: Path, tmp_path: Path) -> None:
    """What only the loaded model can tell."""
    file = read_lora(flux_lora)
    name = "transformer_blocks.7.attn.to_v.lora_{}.weight"
    extra = {name.format("A"): torch.zeros(2, 32), name.format("B"): torch.zeros(32, 2)}
    path = tmp_path / "deep.safetensors"
    tensors = {**file.tensors, **extra}
    write_lora(path, tensors, scale=1, family="flux", metadata=file.metadata)
    with pytest.raises(ConfigError, match=r"deep.*does not fit.*transformer_blocks\.7"):
        edited(path, picture((16, 16)))
