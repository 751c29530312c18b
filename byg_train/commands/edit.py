"""`edit`: check everything that a person typed, edit, write the results."""

from __future__ import annotations

import math
import tempfile
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
from .errors import out_of_memory_explained
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
    components: str | None = None
    strength: float = 1.0
    n: int = 1
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    device: str = "auto"


def run_edit(flags: EditFlags) -> None:
    """One result goes to --output; several to numbered files, and a grid of all to --output."""
    _check_values(flags)
    editor = open_lora(flags.lora, flags.model, flags.components)
    if flags.guidance is not None and editor.info.guidance_sample is None:
        raise ConfigError("--guidance: the base of this LoRA has no guidance embedding")
    image = _open(flags.image)
    _check_output(flags, image)
    device = resolve_device(flags.device)
    try:
        resolve_base(editor.model)
    except ConfigError as error:
        hint = (
            ""
            if flags.model
            else f" ({flags.lora} was trained on it; --model and --components name others)"
        )
        raise ConfigError(f"{error}{hint}") from None
    seeds, targets = [flags.seed + i for i in range(flags.n)], iter(_targets(flags))
    evaluations = flags.n * (flags.steps or editor.info.sample_steps)
    advice = "close other programs that use it, or pass --device cpu"
    with out_of_memory_explained(advice), Progress(evaluations, "editing") as progress:
        results = edit_image(
            flags.lora,
            image,
            flags.instruction,
            model=flags.model,
            strength=flags.strength,
            seeds=seeds,
            device=device,
            components=flags.components,
            steps=flags.steps,
            guidance=flags.guidance,
            on_progress=lambda done, of: progress.advance(),
            on_result=lambda picture: save_picture(next(targets), picture),
        )
    for path in targets:
        save_picture(path, _grid(image, seeds, results))
    typer.echo(f"Written: {', '.join(map(str, _targets(flags)))}")


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
    _check_writable(path)


def _check_writable(path: Path) -> None:
    """Before minutes are spent: a file beside `path`, or in the folder that would hold its own."""
    parents = path.absolute().parents
    try:
        with tempfile.TemporaryFile(dir=next(p for p in parents if p.exists())):
            pass
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written: {error.strerror}") from None


def _targets(flags: EditFlags) -> list[Path]:
    """Every file that is written, --output last."""
    path = flags.output
    numbered = [path.with_name(f"{path.stem}_{i + 1}{path.suffix}") for i in range(flags.n)]
    return [path] if flags.n == 1 else [*numbered, path]


def _grid(image: Image.Image, seeds: list[int], results: list[Image.Image]) -> Image.Image:
    labels = ["source", *(f"seed {seed}" for seed in seeds)]
    return labelled_grid([[image, *results]], labels, None, min(512, max(192, *image.size)))
