"""`evaluate edit`: every task of a folder, by a LoRA or a baseline, into a folder of results."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import typer
from PIL import Image, ImageOps
from torch import Tensor

from ..config import ConfigError
from ..data import DataError
from ..editing.clip import EditedClip, model_fps, seen_by_model, seen_pixels
from ..editing.editor import Editor, Wishes, finished, fitted, open_base, open_lora
from ..editing.methods import FlowEditSettings, Methods
from ..evaluate.tasks import Task, read_tasks
from ..family import family_of, titles, usual_family
from ..files import atomic
from ..media.formats import CLIPS, MEDIA, PICTURES
from ..media.pixels import to_picture, to_pixels
from ..media.rgb import to_rgb
from ..media.source_clip import open_source_clip
from ..media.writer import write_clip, write_picture
from ..models.backbone import resolve_base
from ..progress import Progress
from .errors import out_of_memory_explained
from .settings import resolve_device

# Method -> the fields of a task that it is told.
METHODS = {
    "lora": ("instruction",),
    "flowedit": ("src_caption", "tgt_caption"),
    "text-to-image": ("tgt_caption",),
    "copy": (),
}
# The file in a folder of results that says how they were made.
ABOUT = "edits.json"


@dataclass(frozen=True)
class EditAllFlags:
    """The options of `evaluate edit`."""

    output: Path
    sources: Path
    instruction: str | None
    lora: Path | None
    method: str
    model: str | None
    components: str | None
    seed: int
    steps: int | None
    resolution: int | None
    device: str

    @property
    def wishes(self) -> Wishes:
        """What is to be otherwise than in the LoRA's metadata."""
        return Wishes(steps=self.steps, resolution=self.resolution)


def run_edit_all(flags: EditAllFlags) -> None:
    """Edit what has no result yet."""
    if flags.method not in METHODS:
        raise ConfigError(f"--method {flags.method}: wanted {', '.join(METHODS)}")
    editor = None if flags.method == "copy" else _editor(flags)
    tasks = _tasks(flags, editor)
    targets = {task.name: _target(flags, task) for task in tasks}
    left = [task for task in tasks if not targets[task.name].exists()]
    _expect_same(flags, tasks, {task.name for task in left})
    if left and editor:
        _edit_all(flags, editor, left, targets, len(tasks))
    elif left:
        for task in left:
            with atomic(targets[task.name]) as temporary:
                shutil.copyfile(task.source, temporary)
    typer.echo(f"{len(tasks)} results in {flags.output}, {len(left)} of them new")


def _editor(flags: EditAllFlags) -> Editor:
    """The LoRA on its base; of a baseline, the bare base will do."""
    if flags.lora:
        return open_lora(flags.lora, flags.model, flags.components)
    if flags.method == "lora":
        raise ConfigError("--lora is missing: the file to edit with")
    if not flags.model:
        raise ConfigError(
            f"--method {flags.method} runs on a base: pass --model with one of "
            f"{usual_family(is_video=False).title}, or --lora for the base, and the sampling, of "
            "that LoRA"
        )
    return open_base(flags.model, flags.components)


def _tasks(flags: EditAllFlags, editor: Editor | None) -> list[Task]:
    """What is to be edited, by a model if there is one; ConfigError for what it cannot edit."""
    problems = []
    tasks = list(read_tasks(flags.sources, MEDIA, flags.instruction, problems).values())
    if problems or not tasks:
        raise DataError(f"{flags.sources} cannot be used as tasks", problems)
    if editor is None:
        return tasks
    films = family_of(editor.info.family).is_video
    edited, wanted = (CLIPS, "clips") if films else (PICTURES, "pictures")
    for task in tasks:
        if not edited.holds(task.source):
            taken = family_of(editor.info.family).title
            by = flags.lora or f"{flags.model}, taken as {taken} without --lora,"
            raise ConfigError(f"{task.source}: {by} edits {wanted}")
    fields = METHODS[flags.method]
    without = next((task.name for task in tasks if not all(_said(flags.method, task))), None)
    if without is not None:
        raise ConfigError(
            f"--method {flags.method} needs captions, and {without} has none: write "
            f"{' and '.join(fields)} into {flags.sources / 'metadata.jsonl'}"
        )
    family = family_of(editor.info.family)
    if flags.method == "flowedit" and not family.has_flowedit:
        raise ConfigError(
            f"--method flowedit is for {titles(lambda one: one.has_flowedit)}: its settings for "
            f"{family.title} are not published"
        )
    return tasks


def _expect_same(flags: EditAllFlags, tasks: list[Task], left: set[str]) -> None:
    """Refuse to fill up a folder whose results were made otherwise; note how these are made."""
    about, made = flags.output / ABOUT, _made(flags)
    asked = {task.name: _said(flags.method, task) for task in tasks}
    if about.exists() and len(left) < len(tasks):
        told = json.loads(about.read_text(encoding="utf-8"))
        pairs = [(name, told["made"].get(name), value) for name, value in made.items()]
        pairs += [
            (name, told["asked"].get(name, words), words)
            for name, words in asked.items()
            if name not in left
        ]
        for name, before, now in pairs:
            if before != now:
                raise ConfigError(
                    f"{flags.output} holds results that were made otherwise ({name}: {before} "
                    f"there, {now} now); choose another folder, or delete them"
                )
        asked = told["asked"] | asked
    with atomic(about) as temporary:
        text = json.dumps({"made": made, "asked": asked}, indent=1, ensure_ascii=False)
        temporary.write_text(text, encoding="utf-8")


def _made(flags: EditAllFlags) -> dict[str, Any]:
    """All that decides what comes out of the same task."""
    if flags.method == "copy":
        return {"method": "copy"}
    lora = flags.lora and hashlib.sha256(flags.lora.read_bytes()).hexdigest()[:16]
    names = ("method", "model", "seed", "steps", "resolution")
    return {"lora": lora, **{name: getattr(flags, name) for name in names}}


def _target(flags: EditAllFlags, task: Task) -> Path:
    """PNG or MP4, so that little is lost; a copy keeps its kind."""
    kind = ".mp4" if CLIPS.holds(task.source) else ".png"
    suffix = task.source.suffix if flags.method == "copy" else kind
    return flags.output / f"{task.name}{suffix}"


def _edit_all(
    flags: EditAllFlags, editor: Editor, left: list[Task], targets: dict[str, Path], total: int
) -> None:
    device = resolve_device(flags.device)
    resolve_base(editor.model)
    advice = "close other programs that use it, or pass --resolution with less"
    with out_of_memory_explained(advice), Progress(total, "editing", total - len(left)) as progress:
        methods = Methods(editor, device, flags.wishes)
        methods.learn(text for task in left for text in _said(flags.method, task))
        for task in left:
            one = _film if family_of(editor.info.family).is_video else _picture
            one(flags, methods, task, targets[task.name])
            progress.advance()


def _said(method: str, task: Task) -> list[str]:
    """The texts that a method is told."""
    return [getattr(task, field) for field in METHODS[method]]


def _apply(flags: EditAllFlags, methods: Methods, task: Task, pixels: Tensor) -> Tensor:
    """Pixels (1, 3, F, H, W) in [-1, 1] -> those of the edit, on the CPU."""
    x = methods.backbone.encode_pixels(pixels)
    said = [[text] for text in _said(flags.method, task)]
    how = {
        "lora": methods.edit,
        "flowedit": partial(methods.flowedit, settings=FlowEditSettings.of_steps(flags.steps)),
        "text-to-image": methods.text_to_image,
    }[flags.method]
    return methods.backbone.decode_latents(how(x, *said, seed=flags.seed)).cpu().clamp(-1, 1)


def _picture(flags: EditAllFlags, methods: Methods, task: Task, target: Path) -> None:
    with Image.open(task.source) as file:
        image = ImageOps.exif_transpose(file)
        pixels = to_pixels(np.asarray(to_rgb(image))[None])[None]
    fit = fitted(methods.info, *image.size, flags.wishes)
    y = fit.undo(_apply(flags, methods, task, fit.apply(pixels)))
    write_picture(target, finished(to_picture(y[0]), image))


def _film(flags: EditAllFlags, methods: Methods, task: Task, target: Path) -> None:
    footage = open_source_clip(task.source, None, model_fps(methods.info))
    plan = seen_by_model(footage, methods.info)
    fit = fitted(methods.info, *footage.size, flags.wishes)
    y = _apply(flags, methods, task, seen_pixels(footage, fit, plan))
    write_clip(target, EditedClip(y.half(), fit, plan).frames(), footage.fps, footage.sound)
