"""`edit`: check everything that a person typed, edit, write the results."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer
from PIL import Image, ImageOps

from ..config import ConfigError
from ..editing.editor import Editor, Wishes, edit_image, open_lora
from ..family import family_of, titles
from ..media import MediaError
from ..media.formats import PICTURES
from ..media.grid import labelled_grid
from ..media.pictures import picture_size
from ..media.writer import write_picture
from ..models.backbone import resolve_base
from ..progress import Progress
from .errors import out_of_memory_explained
from .settings import resolve_device

TRANSPARENT, OPAQUE = (".png", ".webp", ".tif", ".tiff"), (".jpg", ".jpeg", ".bmp")
# Seeds that torch takes.
MAX_SEED = 2**63 - 1
SAMPLERS = ("euler", "unipc")
# Sides of a picture in a comparison of several seeds, in pixels.
SMALLEST_CELL, LARGEST_CELL = 192, 512


@dataclass(frozen=True)
class EditFlags:
    """The options of `edit`."""

    lora: Path
    source: Path
    instruction: str
    output: Path
    model: str | None = None
    components: str | None = None
    strength: float = 1.0
    n: int = 1
    seed: int = 0
    wishes: Wishes = Wishes()
    device: str = "auto"
    # For clips alone.
    start: float | None = None
    seconds: float | None = None
    fps: float | None = None
    single_expert: bool = False

    @property
    def seeds(self) -> list[int]:
        """Of every result."""
        return [self.seed + i for i in range(self.n)]

    @property
    def targets(self) -> list[Path]:
        """Everything that is written, --output last: of several seeds the comparison."""
        path = self.output
        numbered = [path.with_name(f"{path.stem}_{i + 1}{path.suffix}") for i in range(self.n)]
        return [path] if self.n == 1 else [*numbered, path]


def run_edit(flags: EditFlags) -> None:
    """One result goes to --output; several to numbered files, and all beside each other to it.

    The LoRA tells whether pictures are edited or clips.
    """
    _check_values(flags)
    editor = open_lora(flags.lora, flags.model, flags.components, single_expert=flags.single_expert)
    if flags.wishes.guidance is not None and editor.info.guidance_sample is None:
        raise ConfigError("--guidance: the base of this LoRA has no guidance embedding")
    if family_of(editor.info.family).is_video:
        from .edit_clip import run_edit_clip

        run_edit_clip(flags, editor)
    else:
        _run_edit_picture(flags, editor)
    typer.echo(f"Written: {', '.join(map(str, flags.targets))}")


def _run_edit_picture(flags: EditFlags, editor: Editor) -> None:
    for name in ("start", "seconds", "fps"):
        if getattr(flags, name) is not None:
            raise ConfigError(f"--{name} is for clips, and {flags.lora} edits pictures")
    image = _open(flags.source)
    _check_output(flags, image)
    device = resolve_device(flags.device)
    check_base(flags, editor)
    targets = iter(flags.targets)
    with sampling(flags, editor) as progress:
        results = edit_image(
            flags.lora,
            image,
            flags.instruction,
            model=flags.model,
            strength=flags.strength,
            seeds=flags.seeds,
            device=device,
            components=flags.components,
            wishes=flags.wishes,
            on_progress=lambda done, of: progress.advance(),
            on_result=lambda picture: write_picture(next(targets), picture),
        )
    for path in targets:
        rows = [[image, *results]]
        write_picture(path, labelled_grid(rows, columns(flags), None, cell(*image.size)))


# ---------------------------------------------------------------- also for clips


def check_base(flags: EditFlags, editor: Editor) -> None:
    """ConfigError where the base is not there; nothing is loaded."""
    try:
        resolve_base(editor.model)
    except ConfigError as error:
        hint = (
            ""
            if flags.model
            else f" ({flags.lora} was trained on it; --model and --components name others)"
        )
        raise ConfigError(f"{error}{hint}") from None


@contextmanager
def sampling(flags: EditFlags, editor: Editor) -> Iterator[Progress]:
    """A bar over all sampling steps, and a full GPU explained."""
    steps = flags.n * flags.wishes.sampling(editor.info).steps
    advice = "close other programs that use it, or pass --device cpu"
    with out_of_memory_explained(advice), Progress(steps, "editing") as progress:
        yield progress


def columns(flags: EditFlags) -> list[str]:
    """What a comparison shows."""
    return ["source", *(f"seed {seed}" for seed in flags.seeds)]


def cell(width: int, height: int) -> int:
    """The side of a comparison's cells, in pixels."""
    return min(LARGEST_CELL, max(SMALLEST_CELL, width, height))


def check_writable(path: Path) -> None:
    """Before minutes are spent: a file beside `path`, or in the folder that would hold its own."""
    parents = path.absolute().parents
    try:
        with tempfile.TemporaryFile(dir=next(p for p in parents if p.exists())):
            pass
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written: {error.strerror}") from None


def _check_values(flags: EditFlags) -> None:
    wishes = flags.wishes
    if not flags.instruction.strip():
        raise ConfigError("--instruction is empty; say what to change")
    if not flags.source.exists():
        raise ConfigError(f"--input {flags.source} does not exist")
    if flags.n < 1:
        raise ConfigError(f"--n {flags.n}: wanted 1 or more")
    if not 0 <= flags.seed <= MAX_SEED - flags.n:
        raise ConfigError(f"--seed {flags.seed}: wanted a number from 0 to {MAX_SEED}")
    if wishes.sampler not in (None, *SAMPLERS):
        raise ConfigError(f"--sampler {wishes.sampler}: wanted {' or '.join(SAMPLERS)}")
    least = {"steps": 1, "resolution": 16, "cfg": 1, "cfg_low": 1, "start": 0}
    above = {"shift": 0, "seconds": 0, "fps": 0}
    for name in ("strength", "guidance", *least, *above):
        value = getattr(flags if hasattr(flags, name) else wishes, name)
        option = f"--{name.replace('_', '-')} {value}"
        if value is None:
            continue
        if not math.isfinite(value):
            raise ConfigError(f"{option}: wanted a finite number")
        if name in least and value < least[name]:
            raise ConfigError(f"{option}: wanted {least[name]} or more")
        if name in above and value <= above[name]:
            raise ConfigError(f"{option}: wanted a number above {above[name]}")


# ---------------------------------------------------------------- pictures


def _open(path: Path) -> Image.Image:
    if path.is_dir() or path.suffix.lower() not in PICTURES.suffixes:
        raise ConfigError(
            f"--input {path} is no picture, which this LoRA edits; for clips take a LoRA of "
            f"{titles(lambda family: family.is_video)}"
        )
    try:
        picture_size(path)
    except MediaError as error:
        raise ConfigError(f"--input {path} cannot be used: {error}") from None
    return ImageOps.exif_transpose(Image.open(path))


def _check_output(flags: EditFlags, image: Image.Image) -> None:
    path, suffix = flags.output, flags.output.suffix.lower()
    known = ", ".join((*TRANSPARENT, *OPAQUE))
    if path.is_dir() or suffix not in (*TRANSPARENT, *OPAQUE):
        raise ConfigError(f"--output {path}: wanted a picture file ending in one of {known}")
    if image.has_transparency_data and suffix in OPAQUE:
        raise ConfigError(
            f"--output {path}: {suffix} holds no transparency, which {flags.source} has; "
            f"wanted one of {', '.join(TRANSPARENT)}"
        )
    if flags.source.resolve() in {p.resolve() for p in flags.targets}:
        raise ConfigError(f"--output {path} would overwrite --input; choose another name")
    check_writable(path)
