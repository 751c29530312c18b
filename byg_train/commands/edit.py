"""`edit`: check everything that a person typed, edit, write the results."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import typer
from PIL import Image, ImageOps

from ..backbones.flux import resolve_base
from ..config import ConfigError
from ..data.pictures import PictureError, inspect
from ..edit import edit_image, open_lora
from ..grid import labelled_grid, save_picture
from ..progress import Progress
from .settings import resolve_device

TRANSPARENT, OPAQUE = (".png", ".webp", ".tif", ".tiff"), (".jpg", ".jpeg", ".bmp")
# Seeds that torch takes.
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class EditFlags:
    """The options of `edit`."""

    lora: Path
    image: Path
    instruction: str
    output: Path
    model: str | None = None
    strength: float = 1.0
    n: int = 1
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    device: str = "auto"


def run_edit(flags: EditFlags) -> None:
    """One result goes to --output; several to numbered files, and a grid of all to --output."""
    _check_values(flags)
    editor = open_lora(flags.lora, flags.model)
    if flags.guidance is not None and editor.info.guidance_sample is None:
        raise ConfigError("--guidance: the base of this LoRA has no guidance embedding")
    image = _open(flags.image)
    _check_output(flags, image)
    device = resolve_device(flags.device)
    try:
        resolve_base(editor.model)
    except ConfigError as error:
        hint = "" if flags.model else f" ({flags.lora} was trained on it; --model names another)"
        raise ConfigError(f"{error}{hint}") from None
    seeds = [flags.seed + i for i in range(flags.n)]
    with Progress(flags.n * (flags.steps or editor.info.sample_steps), "editing") as progress:
        results = edit_image(
            flags.lora,
            image,
            flags.instruction,
            model=flags.model,
            strength=flags.strength,
            seeds=seeds,
            device=device,
            steps=flags.steps,
            guidance=flags.guidance,
            on_progress=lambda done, of: progress.advance(),
        )
    _write(flags, image, seeds, results)


def _check_values(flags: EditFlags) -> None:
    if not flags.instruction.strip():
        raise ConfigError("--instruction is empty; say what to change")
    if flags.n < 1:
        raise ConfigError(f"--n {flags.n}: wanted 1 or more")
    if flags.steps is not None and flags.steps < 1:
        raise ConfigError(f"--steps {flags.steps}: wanted 1 or more")
    if not 0 <= flags.seed <= MAX_SEED - flags.n:
        raise ConfigError(f"--seed {flags.seed}: wanted a number from 0 to {MAX_SEED}")
    for name in ("strength", "guidance"):
        value = getattr(flags, name)
        if value is not None and not math.isfinite(value):
            raise ConfigError(f"--{name} {value}: wanted a finite number")


def _open(path: Path) -> Image.Image:
    if not path.is_file():
        raise ConfigError(f"--image {path} does not exist")
    try:
        inspect(path)
    except PictureError as error:
        raise ConfigError(f"--image {path} cannot be used: {error}") from None
    return ImageOps.exif_transpose(Image.open(path))


def _check_output(flags: EditFlags, image: Image.Image) -> None:
    path, suffix = flags.output, flags.output.suffix.lower()
    known = ", ".join((*TRANSPARENT, *OPAQUE))
    if path.is_dir() or suffix not in (*TRANSPARENT, *OPAQUE):
        raise ConfigError(f"--output {path}: wanted a picture file ending in one of {known}")
    if image.has_transparency_data and suffix in OPAQUE:
        raise ConfigError(
            f"--output {path}: {suffix} holds no transparency, which {flags.image} has; "
            f"wanted one of {', '.join(TRANSPARENT)}"
        )
    if flags.image.resolve() in {p.resolve() for p in _targets(flags)}:
        raise ConfigError(f"--output {path} would overwrite --image; choose another name")


def _targets(flags: EditFlags) -> list[Path]:
    """Every file that is written, --output last."""
    path = flags.output
    numbered = [path.with_name(f"{path.stem}_{i + 1}{path.suffix}") for i in range(flags.n)]
    return [path] if flags.n == 1 else [*numbered, path]


def _write(
    flags: EditFlags, image: Image.Image, seeds: list[int], results: list[Image.Image]
) -> None:
    pictures = results
    if flags.n > 1:
        labels = ["source", *(f"seed {seed}" for seed in seeds)]
        cell = min(512, max(192, *image.size))
        pictures = [*results, labelled_grid([[image, *results]], labels, None, cell)]
    for path, picture in zip(_targets(flags), pictures, strict=True):
        save_picture(path, picture)
    typer.echo(f"Written: {', '.join(map(str, _targets(flags)))}")
