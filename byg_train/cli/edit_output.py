"""Where the results of `edit` go, checked before minutes are spent."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..config import ConfigError

TRANSPARENT, OPAQUE = (".png", ".webp", ".tif", ".tiff"), (".jpg", ".jpeg", ".bmp")
KNOWN = ", ".join((*TRANSPARENT, *OPAQUE))
VIDEO = ".mp4"


def targets_of(output: Path, n: int) -> list[Path]:
    """Everything that is written, the output last: of several seeds the comparison."""
    numbered = [output.with_name(f"{output.stem}_{i + 1}{output.suffix}") for i in range(n)]
    return [output] if n == 1 else [*numbered, output]


def check_picture_output(source: Path, targets: list[Path], *, transparent: bool) -> None:
    """ConfigError where pictures cannot be written; `transparent`: the source has alpha."""
    path, suffix = targets[-1], targets[-1].suffix.lower()
    if path.is_dir() or suffix not in (*TRANSPARENT, *OPAQUE):
        raise ConfigError(f"--output {path}: wanted a picture file ending in one of {KNOWN}")
    if transparent and suffix in OPAQUE:
        raise ConfigError(
            f"--output {path}: {suffix} holds no transparency, which {source} has; "
            f"wanted one of {', '.join(TRANSPARENT)}"
        )
    if source.resolve() in {p.resolve() for p in targets}:
        raise ConfigError(f"--output {path} would overwrite --input; choose another name")
    _check_writable(path)


def check_clip_output(source: Path, targets: list[Path]) -> None:
    """ConfigError where a video, or a folder of frames, cannot be written."""
    path = targets[-1]
    if path.suffix.lower() not in ("", VIDEO):
        raise ConfigError(f"--output {path}: wanted a video NAME{VIDEO}, or a folder for frames")
    for target in targets:
        if target.resolve() == source.resolve():
            raise ConfigError(f"--output {path} would overwrite --input; choose another name")
        if path.suffix and target.is_dir():
            raise ConfigError(f"--output {target} is a folder; wanted a video NAME{VIDEO}")
        if not path.suffix and target.exists() and (target.is_file() or any(target.iterdir())):
            raise ConfigError(f"--output {target}: wanted a new or an empty folder for the frames")
    _check_writable(path)


def _check_writable(path: Path) -> None:
    """Write a file beside `path`, or in the folder that would hold its own."""
    parents = path.absolute().parents
    try:
        with tempfile.TemporaryFile(dir=next(p for p in parents if p.exists())):
            pass
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written: {error.strerror}") from None
