"""`evaluate edit`: every task of a folder, by a LoRA or a baseline, into a folder of results."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from ..config import ConfigError
from ..family import family_of, titles
from ..media.formats import CLIPS, PICTURES
from ..progress import Progress
from .errors import out_of_memory_explained
from .options import Components, Device, EditModelName, Instruction, Sources, resolve_device

if TYPE_CHECKING:
    from ..editing.opening import EditModel
    from ..evaluate.tasks import Task


def edit(
    output: Annotated[
        Path, Argument(metavar="RESULTS", help="Folder for the results of one method.")
    ],
    sources: Sources,
    lora: Annotated[
        Path | None, Option(help="LoRA file written by byg_train; baselines need only --model.")
    ] = None,
    method: Annotated[
        str, Option(help="lora, or a baseline: flowedit, text-to-image or copy.")
    ] = "lora",
    instruction: Instruction = None,
    model: EditModelName = None,
    components: Components = None,
    seed: Annotated[int, Option(help="Seed of the noise, for every edit.", min=0)] = 0,
    steps: Annotated[
        int | None,
        Option(help="Sampling steps; default: as trained, or FlowEdit's own for the base.", min=1),
    ] = None,
    resolution: Annotated[
        int | None, Option(help="Work at about N x N pixels; default: as trained.", min=16)
    ] = None,
    device: Device = "auto",
) -> None:
    """Edit every task; run the same command again to continue."""
    from ..editing.methods import METHODS, Results
    from ..evaluate.tasks import expect_tasks

    if method not in METHODS:
        raise ConfigError(f"--method {method}: wanted {', '.join(METHODS)}")
    copied = method == "copy"
    base = None if copied else _model(method, lora, model, components, steps, resolution)
    tasks = list(expect_tasks(sources, instruction).values())
    texts = {task.name: [getattr(task, field) for field in METHODS[method]] for task in tasks}
    made: dict[str, Any] = {"method": method}
    if base:
        _expect_usable(base, method, tasks, texts, sources, by=lora or model)
        made |= {"lora": lora and hashlib.sha256(lora.read_bytes()).hexdigest()[:16]}
        made |= {"model": model, "seed": seed, "steps": steps, "resolution": resolution}
    results = Results(output, method, base, {task.name: task.source for task in tasks}, texts)
    results.begin(made)
    if left := results.left():
        advice = "close other programs that use it, or pass --resolution with less"
        done = len(tasks) - len(left)
        device = resolve_device(device)
        with out_of_memory_explained(advice), Progress(len(tasks), "editing", done) as progress:
            for _ in results.fill(left, device=device, seed=seed, steps=steps):
                progress.advance()
    typer.echo(f"{len(tasks)} results in {output}, {len(left)} of them new")


def _model(
    method: str,
    lora: Path | None,
    model: str | None,
    components: str | None,
    steps: int | None,
    resolution: int | None,
) -> EditModel:
    """Open the LoRA on its base; a baseline needs the bare base alone."""
    from ..editing.opening import open_base, open_lora

    wanted = {"sample_steps": steps, "resolution": resolution}
    if lora:
        return open_lora(lora, model, components).sampled(wanted)
    if method == "lora":
        raise ConfigError("--lora is missing: the file to edit with")
    if not model:
        raise ConfigError(
            f"--method {method} runs on a base: pass --model with one of "
            f"{titles(lambda one: not one.is_video)}, or --lora for the base, and the sampling, of "
            "that LoRA"
        )
    return open_base(model, components).sampled(wanted)


def _expect_usable(
    base: EditModel,
    method: str,
    tasks: list[Task],
    texts: dict[str, list[str]],
    sources: Path,
    *,
    by: Path | str,
) -> None:
    """ConfigError where a base cannot edit the tasks: their media, their texts, its settings."""
    from ..editing.methods import METHODS

    family = family_of(base.info.family)
    edited, wanted = (CLIPS, "clips") if family.is_video else (PICTURES, "pictures")
    if other := next((task.source for task in tasks if not edited.holds(task.source)), None):
        taken = by if base.files else f"{by}, taken as {family.title} without --lora,"
        raise ConfigError(f"{other}: {taken} edits {wanted}")
    without = next((name for name, given in texts.items() if not all(given)), None)
    if without is not None:
        raise ConfigError(
            f"--method {method} needs captions, and {without} has none: write "
            f"{' and '.join(METHODS[method])} into {sources / 'metadata.jsonl'}"
        )
    if method == "flowedit" and family.flowedit is None:
        raise ConfigError(
            f"--method flowedit is for {titles(lambda one: one.flowedit)}: its settings for "
            f"{family.title} are not published"
        )
