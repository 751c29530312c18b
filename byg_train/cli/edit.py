"""`edit`: check everything that a person typed, edit, write the results."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

from ..config import ConfigError
from ..family import family_of, titles
from ..progress import Progress
from .edit_output import check_clip_output, check_picture_output, targets_of
from .errors import out_of_memory_explained
from .options import Components, Device, EditModelName, above, at_least, finite, resolve_device

if TYPE_CHECKING:
    from ..editing.opening import EditModel
    from ..editing.sources import ClipToEdit, PictureToEdit

# Where a setting comes from that is not given.
AS_TRAINED = "default: as trained"
# Seeds that torch takes.
MAX_SEED = 2**63 - 1
SAMPLERS = ("euler", "unipc", "renoise")
# Said of a clip that is written as a video.
ODD = (
    "has an odd width or height: to keep it, the video is in 4:4:4, which some players do not "
    "show; a folder as --output gives PNGs"
)


def edit(
    lora: Annotated[Path, Option(help="LoRA file written by byg_train; either file of a pair.")],
    source: Annotated[
        Path,
        Option(
            "--input",
            "--image",
            "--video",
            help="Picture to edit, of any size; for a LoRA of a video model a clip or a folder of "
            "frames.",
        ),
    ],
    instruction: Annotated[str, Option(help="Instruction: what to change.")],
    output: Annotated[
        Path, Option(help="File or folder for the result: a picture, an .mp4, a folder for frames.")
    ],
    model: EditModelName = None,
    components: Components = None,
    storage: Annotated[
        str, Option(help="How the base's weights are stored: bf16, fp8, int8 or nf4.")
    ] = "bf16",
    strength: Annotated[
        float,
        Option(help="Strength of the LoRA; 1 is as trained, 0 is the bare base.", callback=finite),
    ] = 1.0,
    n: Annotated[
        int,
        Option("--n", help="Number of results, each from a seed of its own.", callback=at_least(1)),
    ] = 1,
    seed: Annotated[int, Option(help="Seed of the first result; the next ones count on.")] = 0,
    steps: Annotated[
        int | None, Option(help=f"Sampling steps; {AS_TRAINED}.", callback=at_least(1))
    ] = None,
    sampler: Annotated[
        str | None, Option(help=f"Sampler: {', '.join(SAMPLERS)}; {AS_TRAINED}.")
    ] = None,
    shift: Annotated[
        float | None,
        Option(help=f"Shift of the sampling times towards noise; {AS_TRAINED}.", callback=above(0)),
    ] = None,
    cfg: Annotated[
        float | None,
        Option(help=f"Classifier-free guidance, 1: none; {AS_TRAINED}.", callback=at_least(1)),
    ] = None,
    cfg_low: Annotated[
        float | None,
        Option(help="Classifier-free guidance of a pair's low-noise expert.", callback=at_least(1)),
    ] = None,
    negative: Annotated[
        str | None, Option(help=f"Negative prompt, which --cfg leads away from; {AS_TRAINED}.")
    ] = None,
    guidance: Annotated[
        float | None,
        Option(help=f"Guidance input of distilled models; {AS_TRAINED}.", callback=finite),
    ] = None,
    resolution: Annotated[
        int | None,
        Option(
            help=f"Edit at about N x N pixels; {AS_TRAINED}.", metavar="N", callback=at_least(16)
        ),
    ] = None,
    start: Annotated[
        float | None,
        Option(help="Second of the clip at which the edit begins.", callback=at_least(0)),
    ] = None,
    seconds: Annotated[
        float | None, Option(help="Seconds of the clip to edit.", callback=above(0))
    ] = None,
    fps: Annotated[
        float | None,
        Option(help="Frame rate of a folder of frames; default: the model's.", callback=above(0)),
    ] = None,
    single_expert: Annotated[
        bool,
        Option("--single-expert", help="Edit although the other expert of the pair has no LoRA."),
    ] = False,
    device: Device = "auto",
) -> None:
    """Edit a picture or a clip with a trained LoRA."""
    from ..editing.opening import NoPartnerError, open_lora

    part = {"start": start, "seconds": seconds, "fps": fps}
    _check_texts(source, instruction, sampler)
    if not 0 <= seed <= MAX_SEED - n:
        raise ConfigError(f"--seed {seed}: wanted a number from 0 to {MAX_SEED}")
    try:
        chosen = open_lora(lora, model, components, storage, single_expert=single_expert)
    except NoPartnerError as error:
        raise ConfigError(f"{error} (--single-expert)") from None
    if guidance is not None and chosen.info.guidance_sample is None:
        raise ConfigError("--guidance: the base of this LoRA has no guidance embedding")
    chosen = chosen.sampled({
        "sample_steps": steps, "sampler": sampler, "sample_shift": shift, "cfg": cfg,
        "cfg_low": cfg_low, "negative": negative, "guidance_sample": guidance,
        "resolution": resolution,
    })  # fmt: skip
    targets = targets_of(output, n)
    is_video = family_of(chosen.info.family).is_video
    opened = (_clip if is_video else _picture)(chosen, source, targets, part)
    device = resolve_device(device)
    _check_base(chosen, named=bool(model))
    _edit(chosen, opened, instruction, [seed + i for i in range(n)], targets, device, strength)
    typer.echo(f"Written: {', '.join(map(str, targets))}")


def _edit(
    model: EditModel,
    opened: Callable[[], PictureToEdit | ClipToEdit],
    instruction: str,
    seeds: list[int],
    targets: list[Path],
    device: str,
    strength: float,
) -> None:
    """Write one result to the output; several to numbered files, and a comparison to the output."""
    advice = "close other programs that use it, or pass --device cpu"
    steps = len(seeds) * model.info.sample_steps
    with out_of_memory_explained(advice), Progress(steps, "editing") as progress:
        source, results = opened(), []
        editor = model.load(device, strength)
        for result in editor.edit(source, instruction, seeds, lambda *_: progress.advance()):
            source.save(targets[len(results)], result)
            results.append(result)
    if len(seeds) > 1:
        source.save_comparison(targets[-1], results, [f"seed {seed}" for seed in seeds])


# ---------------------------------------------------------------- what is typed


def _check_texts(source: Path, instruction: str, sampler: str | None) -> None:
    if not instruction.strip():
        raise ConfigError("--instruction is empty; say what to change")
    if not source.exists():
        raise ConfigError(f"--input {source} does not exist")
    if sampler not in (None, *SAMPLERS):
        raise ConfigError(
            f"--sampler {sampler}: wanted {', '.join(SAMPLERS[:-1])} or {SAMPLERS[-1]}"
        )


def _check_base(model: EditModel, *, named: bool) -> None:
    """ConfigError where the base, or what its storage needs, is not there; nothing is loaded."""
    from ..models.backbone import resolve_base
    from ..models.storage import require_storage

    require_storage(model.base.storage)
    try:
        resolve_base(model.base)
    except ConfigError as error:
        by_lora = f" ({model.path} was trained on it; --model and --components name others)"
        raise ConfigError(f"{error}{'' if named else by_lora}") from None


# ---------------------------------------------------------------- pictures


def _picture(
    model: EditModel, path: Path, targets: list[Path], part: dict[str, float | None]
) -> Callable[[], PictureToEdit]:
    """Return what opens a picture that can be edited; ConfigError says why it cannot be."""
    from ..editing.sources import PictureToEdit
    from ..media import MediaError
    from ..media.formats import PICTURES, moves
    from ..media.profiles import note
    from ..media.reader import opened_whole

    for name, value in part.items():
        if value is not None:
            raise ConfigError(f"--{name} is for clips, and {model.path} edits pictures")
    if path.is_dir() or not PICTURES.holds(path):
        others = f"for clips take a LoRA of {titles(lambda family: family.is_video)}"
        raise ConfigError(f"--input {path} is no picture, which this LoRA edits; {others}")
    try:
        image = opened_whole(path)
    except MediaError as error:
        raise ConfigError(f"--input {path} cannot be used: {error}") from None
    check_picture_output(path, targets, transparent=image.has_transparency_data)
    first = "is a picture that moves: its first frame is edited" if moves(image) else None
    for notice in filter(None, (first, note(image))):
        typer.echo(f"note: {path} {notice}", err=True)
    return partial(PictureToEdit, image, model.info)


# ---------------------------------------------------------------- clips


def _clip(
    model: EditModel, path: Path, targets: list[Path], part: dict[str, float | None]
) -> Callable[[], ClipToEdit]:
    """Return what decodes a clip that can be edited; ConfigError says why it cannot be."""
    from ..editing.sources import ClipToEdit, ClipTooLongError, model_fps, seen_by_model
    from ..media.formats import look
    from ..media.source_clip import open_source_clip

    if path.is_file() and look(path).sort == "picture":
        wanted = "wanted a video, or a folder of frames"
        raise ConfigError(f"--input {path} is a picture, and this LoRA edits clips; {wanted}")
    clip = open_source_clip(path, part["fps"], model_fps(model.info))
    clip = clip.part(part["start"], part["seconds"])
    try:
        seen_by_model(clip, model.info)
    except ClipTooLongError as error:
        raise ConfigError(f"{error}, such as --start 0 --seconds {error.seconds}") from None
    check_clip_output(path, targets)
    odd = targets[-1].suffix and any(side % 2 for side in clip.size)
    for note in (*clip.notes, *([ODD] if odd else [])):
        typer.echo(f"note: {path} {note}", err=True)
    return partial(ClipToEdit, clip, model.info)
