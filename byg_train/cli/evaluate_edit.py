"""`evaluate edit`: every task of a folder, by a LoRA or a baseline, into a folder of results."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from PIL import Image
from torch import Tensor

from ..config import ConfigError
from ..data import DataError
from ..editing.clip import ClipToEdit, open_clip
from ..editing.editor import Editor
from ..editing.flowedit import FlowEditSettings, edit_by_flowedit
from ..editing.opening import EditModel, open_base, open_lora
from ..editing.overrides import SamplingOverrides
from ..editing.picture import PictureToEdit
from ..evaluate.tasks import Task, read_tasks
from ..family import family_of, titles, usual_family
from ..files import atomic
from ..media.formats import CLIPS, MEDIA, PICTURES
from ..models.backbone import resolve_base
from ..progress import Progress
from .errors import out_of_memory_explained
from .settings import resolve_device

# Method -> the fields of a task that it is given.
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


def run_edit_all(flags: EditAllFlags) -> None:
    """Edit what has no result yet."""
    if flags.method not in METHODS:
        raise ConfigError(f"--method {flags.method}: wanted {', '.join(METHODS)}")
    model = None if flags.method == "copy" else _model(flags)
    tasks = _tasks(flags, model)
    targets = {task.name: _target(flags, task) for task in tasks}
    left = [task for task in tasks if not targets[task.name].exists()]
    _expect_same(flags, tasks, {task.name for task in left})
    if left and model:
        _edit_all(flags, model, left, targets, len(tasks))
    elif left:
        for task in left:
            with atomic(targets[task.name]) as temporary:
                shutil.copyfile(task.source, temporary)
    typer.echo(f"{len(tasks)} results in {flags.output}, {len(left)} of them new")


def _model(flags: EditAllFlags) -> EditModel:
    """The LoRA on its base; of a baseline, the bare base will do."""
    overrides = SamplingOverrides(steps=flags.steps, resolution=flags.resolution)
    if flags.lora:
        return open_lora(flags.lora, flags.model, flags.components).overridden(overrides)
    if flags.method == "lora":
        raise ConfigError("--lora is missing: the file to edit with")
    if not flags.model:
        raise ConfigError(
            f"--method {flags.method} runs on a base: pass --model with one of "
            f"{usual_family(is_video=False).title}, or --lora for the base, and the sampling, of "
            "that LoRA"
        )
    return open_base(flags.model, flags.components).overridden(overrides)


def _tasks(flags: EditAllFlags, model: EditModel | None) -> list[Task]:
    """What is to be edited, by a model if there is one; ConfigError for what it cannot edit."""
    problems = []
    tasks = list(read_tasks(flags.sources, MEDIA, flags.instruction, problems).values())
    if problems or not tasks:
        raise DataError(f"{flags.sources} cannot be used as tasks", problems)
    if model is None:
        return tasks
    family = family_of(model.info.family)
    edited, wanted = (CLIPS, "clips") if family.is_video else (PICTURES, "pictures")
    for task in tasks:
        if not edited.holds(task.source):
            by = flags.lora or f"{flags.model}, taken as {family.title} without --lora,"
            raise ConfigError(f"{task.source}: {by} edits {wanted}")
    fields = METHODS[flags.method]
    without = next((task.name for task in tasks if not all(_texts_of(flags.method, task))), None)
    if without is not None:
        raise ConfigError(
            f"--method {flags.method} needs captions, and {without} has none: write "
            f"{' and '.join(fields)} into {flags.sources / 'metadata.jsonl'}"
        )
    if flags.method == "flowedit" and not family.has_flowedit:
        raise ConfigError(
            f"--method flowedit is for {titles(lambda one: one.has_flowedit)}: its settings for "
            f"{family.title} are not published"
        )
    return tasks


def _expect_same(flags: EditAllFlags, tasks: list[Task], left: set[str]) -> None:
    """Refuse to fill up a folder whose results were made otherwise; note how these are made."""
    about, made = flags.output / ABOUT, _made(flags)
    texts = {task.name: _texts_of(flags.method, task) for task in tasks}
    if about.exists() and len(left) < len(tasks):
        record = json.loads(about.read_text(encoding="utf-8"))
        pairs = [(name, record["made"].get(name), value) for name, value in made.items()]
        pairs += [
            (name, record["asked"].get(name, words), words)
            for name, words in texts.items()
            if name not in left
        ]
        for name, before, now in pairs:
            if before != now:
                raise ConfigError(
                    f"{flags.output} holds results that were made otherwise ({name}: {before} "
                    f"there, {now} now); choose another folder, or delete them"
                )
        texts = record["asked"] | texts
    with atomic(about) as temporary:
        content = json.dumps({"made": made, "asked": texts}, indent=1, ensure_ascii=False)
        temporary.write_text(content, encoding="utf-8")


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
    flags: EditAllFlags, model: EditModel, left: list[Task], targets: dict[str, Path], total: int
) -> None:
    device = resolve_device(flags.device)
    resolve_base(model.base)
    advice = "close other programs that use it, or pass --resolution with less"
    with out_of_memory_explained(advice), Progress(total, "editing", total - len(left)) as progress:
        editor = model.load(device)
        editor.learn(text for task in left for text in _texts_of(flags.method, task))
        for task in left:
            source = _source(task.source, model)
            x = editor.backbone.encode_pixels(source.pixels)
            y = _edited(flags, editor, x, _texts_of(flags.method, task))
            source.save(targets[task.name], source.result(editor.decoded(y)))
            progress.advance()


def _source(path: Path, model: EditModel) -> PictureToEdit | ClipToEdit:
    if family_of(model.info.family).is_video:
        return ClipToEdit(open_clip(path, model.info), model.info)
    with Image.open(path) as image:
        return PictureToEdit(image, model.info)


def _edited(flags: EditAllFlags, editor: Editor, x: Tensor, texts: list[str]) -> Tensor:
    """Latents of an edit, like those of the source, x (1, C, F, h, w)."""
    if flags.method == "flowedit":
        src, tgt = texts
        settings = FlowEditSettings.of_steps(flags.steps)
        return edit_by_flowedit(editor, x, [src], [tgt], seed=flags.seed, settings=settings)
    if flags.method == "text-to-image":
        return editor.sample(x, texts, seed=flags.seed, role="base")
    return editor.sample(x, texts, x, seed=flags.seed)


def _texts_of(method: str, task: Task) -> list[str]:
    """The texts of a task that a method is given."""
    return [getattr(task, field) for field in METHODS[method]]
