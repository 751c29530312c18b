"""Where the results of `edit` go, checked before minutes are spent."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..config import ConfigError
from ..files import temporary_of

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
    _check_writable(targets)
    if suffix not in (*TRANSPARENT, *OPAQUE):
        raise ConfigError(f"--output {path}: wanted a picture file ending in one of {KNOWN}")
    if folder := next((target for target in targets if target.is_dir()), None):
        raise ConfigError(f"--output {folder} is a folder; wanted a picture NAME.png")
    if transparent and suffix in OPAQUE:
        raise ConfigError(
            f"--output {path}: {suffix} holds no transparency, which {source} has; "
            f"wanted one of {', '.join(TRANSPARENT)}"
        )
    _keep_input(source, targets)


def check_clip_output(source: Path, targets: list[Path]) -> None:
    """ConfigError where a video, or a folder of frames, cannot be written."""
    path = targets[-1]
    _check_writable(targets)
    if path.suffix.lower() not in ("", VIDEO):
        raise ConfigError(f"--output {path}: wanted a video NAME{VIDEO}, or a folder for frames")
    _keep_input(source, targets)
    for target in targets:
        if path.suffix and target.is_dir():
            raise ConfigError(f"--output {target} is a folder; wanted a video NAME{VIDEO}")
        if not path.suffix and target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ConfigError(f"--output {target}: wanted a new or an empty folder for the frames")


def _keep_input(source: Path, targets: list[Path]) -> None:
    if any(target.exists() and target.samefile(source) for target in targets):
        raise ConfigError(f"--output {targets[-1]} would overwrite --input; choose another name")


def _check_writable(targets: list[Path]) -> None:
    """Write files of these names, and of those they have while they are written, in new folders."""
    path = targets[-1]
    if path.name.lower() in (VIDEO, *TRANSPARENT, *OPAQUE):
        raise ConfigError(f"--output {path}: wanted a name in front of {path.name}")
    try:
        there = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryDirectory(dir=there, prefix=".") as trial:
            for target in targets:
                place = Path(trial) / target.absolute().relative_to(there)
                place.parent.mkdir(parents=True, exist_ok=True)
                for name in (place, temporary_of(place)):
                    name.write_bytes(b"0")  # a full disk takes empty files
    except (OSError, ValueError) as error:  # ValueError: a name that no system takes
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"--output {path} cannot be written: {why}") from None
