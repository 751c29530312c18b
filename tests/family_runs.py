"""What every family must do from the command line."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from typer.testing import CliRunner, Result

from byg_train.cli.app import app


def byg(*words: object) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


def edits(run: Path, picture: Path, folder: Path) -> None:
    """The file that was written edits on its base, and at strength 0 otherwise, at its size."""
    pixels = []
    with Image.open(picture) as source:
        size = source.size
    for strength in (1, 0):
        target = folder / f"{strength}.png"
        byg(
            "edit", "--lora", run / "run.safetensors", "--input", picture, "--output", target,
            "--instruction", "paint the thing blue", "--device", "cpu", "--strength", strength,
        )  # fmt: skip
        with Image.open(target) as result:
            assert result.size == size
            pixels.append(result.tobytes())
    assert pixels[0] != pixels[1]
