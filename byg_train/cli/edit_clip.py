"""`edit` with a LoRA of Wan: clips and folders of frames, as MP4s and folders of frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import typer
from PIL import Image

from ..config import ConfigError
from ..editing.clip import EditedClip, edit_clip, model_fps, seen_by_model
from ..editing.editor import Editor, finished
from ..media.clip_grid import side_by_side
from ..media.formats import PICTURES
from ..media.source_clip import SourceClip, open_source_clip
from ..media.writer import write_clip, write_frames
from .edit import EditFlags, cell, check_base, check_writable, columns, sampling
from .settings import resolve_device

FILM = ".mp4"


def run_edit_clip(flags: EditFlags, editor: Editor) -> None:
    """As `run_edit`; a comparison is a film, or a folder of frames, of all side by side."""
    footage = _open(flags, editor)
    seen_by_model(footage, editor.info)
    _check_output(flags)
    device = resolve_device(flags.device)
    check_base(flags, editor)
    for note in [*footage.notes, *_notes_on_output(flags, footage)]:
        typer.echo(f"note: {flags.source} {note}", err=True)
    targets = iter(flags.targets)
    with sampling(flags, editor) as progress:
        results = edit_clip(
            editor,
            footage,
            flags.instruction,
            strength=flags.strength,
            seeds=flags.seeds,
            device=device,
            wishes=flags.wishes,
            on_progress=lambda done, of: progress.advance(),
            on_result=lambda result: _write_result(next(targets), result, footage),
        )
    for path in targets:
        rows = _moments(footage, results)
        _write(path, side_by_side(rows, columns(flags), None, cell(*footage.size)), footage)


def _open(flags: EditFlags, editor: Editor) -> SourceClip:
    path = flags.source
    if path.is_file() and path.suffix.lower() in PICTURES.suffixes:
        raise ConfigError(
            f"--input {path} is a picture, and this LoRA edits clips; wanted a film, or a folder "
            f"of frames"
        )
    whole = open_source_clip(path, flags.fps, model_fps(editor.info))
    return whole.part(flags.start, flags.seconds)


def _check_output(flags: EditFlags) -> None:
    path = flags.output
    if path.suffix.lower() not in ("", FILM):
        raise ConfigError(f"--output {path}: wanted a film NAME{FILM}, or a folder for frames")
    for target in flags.targets:
        if target.resolve() == flags.source.resolve():
            raise ConfigError(f"--output {path} would overwrite --input; choose another name")
        if path.suffix and target.is_dir():
            raise ConfigError(f"--output {target} is a folder; wanted a film NAME{FILM}")
        if not path.suffix and target.exists() and (target.is_file() or any(target.iterdir())):
            raise ConfigError(f"--output {target}: wanted a new or an empty folder for the frames")
    check_writable(path)


def _notes_on_output(flags: EditFlags, footage: SourceClip) -> list[str]:
    if flags.output.suffix and any(side % 2 for side in footage.size):
        return [
            "has an odd width or height: to keep it, the film is in 4:4:4, which some players do "
            "not show; a folder as --output gives PNGs"
        ]
    return []


def _write(path: Path, frames: Iterator[np.ndarray], footage: SourceClip) -> None:
    if path.suffix:
        write_clip(path, frames, footage.fps, footage.sound)
    else:
        write_frames(path, map(Image.fromarray, frames), footage.names)


def _write_result(path: Path, result: EditedClip, footage: SourceClip) -> None:
    """Pictures also get back the transparency of the pictures that they were."""
    if path.suffix or not footage.pictures:
        _write(path, result.frames(), footage)
        return
    frames = map(_like, map(Image.fromarray, result.frames()), footage.pictures)
    write_frames(path, frames, footage.names)


def _like(frame: Image.Image, source: Path) -> Image.Image:
    with Image.open(source) as picture:
        return finished(frame, picture)


def _moments(footage: SourceClip, results: list[EditedClip]) -> Iterator[list[list[Image.Image]]]:
    """The source and every result, frame by frame."""
    clips = (footage.frames(), *(result.frames() for result in results))
    for arrays in zip(*clips, strict=True):
        yield [[Image.fromarray(array) for array in arrays]]
