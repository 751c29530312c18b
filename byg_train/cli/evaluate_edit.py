"""`evaluate edit`: every task of a folder, by a LoRA or a baseline, into a folder of results."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..config import ConfigError
from ..family import family_of, titles
from ..files import atomic, write_json
from ..media.formats import CLIPS, PICTURES
from ..progress import Progress
from .errors import out_of_memory_explained
from .options import Components, Device, EditModelName, Instruction, Sources, resolve_device

if TYPE_CHECKING:
    from ..editing.opening import EditModel
    from ..evaluate.tasks import Task

# The file in a folder of results that says how they were made.
ABOUT = "edits.json"


def edit(
    output: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="Folder for the results of one method.")
    ],
    sources: Sources,
    lora: Annotated[
        Path | None,
        typer.Option(help="LoRA file written by byg_train; baselines need only --model."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="lora, or a baseline: flowedit, text-to-image or copy.")
    ] = "lora",
    instruction: Instruction = None,
    model: EditModelName = None,
    components: Components = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise, for every edit.", min=0)] = 0,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Sampling steps; default: as trained, or FlowEdit's own for the base.", min=1
        ),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Work at about N x N pixels; default: as trained.", min=16)
    ] = None,
    device: Device = "auto",
) -> None:
    """Edit every task; run the same command again to continue."""
    from ..editing.methods import METHODS
    from ..evaluate.tasks import expect_tasks

    if method not in METHODS:
        raise ConfigError(f"--method {method}: wanted {', '.join(METHODS)}")
    copied = method == "copy"
    base = None if copied else _model(method, lora, model, components, steps, resolution)
    tasks = list(expect_tasks(sources, instruction).values())
    texts = {task.name: [getattr(task, field) for field in METHODS[method]] for task in tasks}
    made: dict[str, Any] = {"method": method}
    if base:
        _expect_media(tasks, base, lora, model)
        _expect_texts(texts, method, sources)
        _expect_method(method, base)
        made |= {"lora": lora and hashlib.sha256(lora.read_bytes()).hexdigest()[:16]}
        made |= {"model": model, "seed": seed, "steps": steps, "resolution": resolution}
    made_as = ".mp4" if base and family_of(base.info.family).is_video else ".png"
    endings = {task.name: task.source.suffix if copied else made_as for task in tasks}
    targets = {name: output / f"{name}{ending}" for name, ending in endings.items()}
    left = [task for task in tasks if not targets[task.name].exists()]
    _expect_same(output / ABOUT, made, texts, {task.name for task in left})
    if base and left:
        device = resolve_device(device)
        _edit_all(base, method, left, targets, texts, device=device, seed=seed, steps=steps)
    elif left:
        for task in left:
            with atomic(targets[task.name]) as temporary:
                shutil.copyfile(task.source, temporary)
    typer.echo(f"{len(tasks)} results in {output}, {len(left)} of them new")


def _model(
    method: str,
    lora: Path | None,
    model: str | None,
    components: str | None,
    steps: int | None,
    resolution: int | None,
) -> EditModel:
    """The LoRA on its base; of a baseline, the bare base will do."""
    from ..editing.opening import open_base, open_lora
    from ..editing.overrides import SamplingOverrides

    overrides = SamplingOverrides(steps=steps, resolution=resolution)
    if lora:
        return open_lora(lora, model, components).overridden(overrides)
    if method == "lora":
        raise ConfigError("--lora is missing: the file to edit with")
    if not model:
        raise ConfigError(
            f"--method {method} runs on a base: pass --model with one of "
            f"{titles(lambda one: not one.is_video)}, or --lora for the base, and the sampling, of "
            "that LoRA"
        )
    return open_base(model, components).overridden(overrides)


def _expect_media(tasks: list[Task], base: EditModel, lora: Path | None, model: str | None) -> None:
    family = family_of(base.info.family)
    edited, wanted = (CLIPS, "clips") if family.is_video else (PICTURES, "pictures")
    for task in tasks:
        if not edited.holds(task.source):
            by = lora or f"{model}, taken as {family.title} without --lora,"
            raise ConfigError(f"{task.source}: {by} edits {wanted}")


def _expect_texts(texts: dict[str, list[str]], method: str, sources: Path) -> None:
    from ..editing.methods import METHODS

    without = next((name for name, given in texts.items() if not all(given)), None)
    if without is not None:
        raise ConfigError(
            f"--method {method} needs captions, and {without} has none: write "
            f"{' and '.join(METHODS[method])} into {sources / 'metadata.jsonl'}"
        )


def _expect_method(method: str, base: EditModel) -> None:
    family = family_of(base.info.family)
    if method == "flowedit" and family.flowedit is None:
        raise ConfigError(
            f"--method flowedit is for {titles(lambda one: one.flowedit)}: its settings for "
            f"{family.title} are not published"
        )


def _expect_same(
    about: Path, made: dict[str, Any], texts: dict[str, list[str]], left: set[str]
) -> None:
    """Refuse to fill up a folder whose results were made otherwise; note how these are made."""
    if about.exists() and len(left) < len(texts):
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
                    f"{about.parent} holds results that were made otherwise ({name}: {before} "
                    f"there, {now} now); choose another folder, or delete them"
                )
        texts = record["asked"] | texts
    write_json(about, {"made": made, "asked": texts})


def _edit_all(
    model: EditModel,
    method: str,
    left: list[Task],
    targets: dict[str, Path],
    texts: dict[str, list[str]],
    *,
    device: str,
    seed: int,
    steps: int | None,
) -> None:
    from ..editing.methods import edit_by, open_source
    from ..models.backbone import resolve_base

    resolve_base(model.base)
    advice = "close other programs that use it, or pass --resolution with less"
    total = len(targets)
    with out_of_memory_explained(advice), Progress(total, "editing", total - len(left)) as progress:
        editor = model.load(device)
        editor.learn(text for task in left for text in texts[task.name])
        for task in left:
            source = open_source(task.source, model)
            x = editor.backbone.encode_pixels(source.pixels)
            y = edit_by(method, editor, x, texts[task.name], seed, steps)
            source.save(targets[task.name], source.result(editor.decoded(y)))
            progress.advance()
