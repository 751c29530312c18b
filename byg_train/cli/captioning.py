"""`data caption`: a vision-language model writes the texts of pictures and clips."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

from ..config import ConfigError
from ..data import counted
from ..data.vlm.client import Endpoint, Model, ModelError
from ..data.vlm.edit_types import Balance
from ..data.vlm.folder import ClipStyles, Folder, Source, Tuple
from ..data.vlm.journal import Journal
from ..data.vlm.local import LocalModel
from ..data.vlm.pipeline import NO_OFFER, Captioner, is_done, next_question, ordered, rows_of
from ..progress import CONSOLE, PLAIN_EVERY, Progress
from .errors import full_disk_explained
from .settings import resolve_device

# Failures that are told one by one.
TOLD = 20


@dataclass(frozen=True, kw_only=True)
class CaptionFlags:
    """The options of `data caption`."""

    folder: Path
    endpoint: str | None
    model: str | None
    vlm: str | None
    style_folders: bool
    clip_styles: list[str]
    seed: int
    limit: int | None
    concurrency: int
    tries: int
    retries: int
    timeout: float
    max_tokens: int
    temperature: float | None
    price_in: float | None
    price_out: float | None
    key_variable: str
    device: str
    dry_run: bool


def run_caption(flags: CaptionFlags) -> None:
    """Look at the folder, ask, write metadata.jsonl, tell what it took."""
    folder = Folder(flags.folder, flags.style_folders)
    clips = [source for source in folder.sources if source.is_clip]
    styles = ClipStyles(flags.folder, flags.clip_styles, clips) if clips else None
    journal = Journal(flags.folder)
    if flags.dry_run:
        journal.read()
        _show_prompt(flags, folder, journal, styles)
        return
    model = _model(flags)
    with full_disk_explained(flags.folder, "again"), journal:
        code = _ask(flags, model, folder, journal, styles)
    if code:
        raise typer.Exit(code)


def _model(flags: CaptionFlags) -> Model:
    if bool(flags.endpoint) == bool(flags.vlm) or bool(flags.endpoint) != bool(flags.model):
        raise ConfigError("wanted either --endpoint URL with --model NAME, or --vlm HUB_ID")
    if flags.vlm:
        return LocalModel(
            flags.vlm,
            device=resolve_device(flags.device),
            max_tokens=flags.max_tokens,
            temperature=flags.temperature,
        )
    if not flags.endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"--endpoint {flags.endpoint}: wanted an address such as http://HOST/v1")
    return Endpoint(
        flags.endpoint,
        flags.model,
        key_variable=flags.key_variable,
        max_tokens=flags.max_tokens,
        temperature=flags.temperature,
        retries=flags.retries,
        timeout=flags.timeout,
    )


# ---------------------------------------------------------------- asking


def _ask(
    flags: CaptionFlags,
    model: Model,
    folder: Folder,
    journal: Journal,
    styles: ClipStyles | None,
) -> int:
    """Returns the exit code; metadata.jsonl is written however it ends."""
    everything = ordered(folder.to_ask(journal), flags.seed)
    sources = everything[: flags.limit]
    captioner = Captioner(
        model=model,
        journal=journal,
        styles=styles,
        seed=flags.seed,
        # One model in this process does one thing after the other.
        concurrency=1 if flags.vlm else flags.concurrency,
        tries=flags.tries,
    )
    why, code = "", 0
    try:
        known = [(source, journal.known(source.name, source.size)) for source in sources]
        done = sum(is_done(*pair, styles) for pair in known)
        with Progress(len(sources), "captioning", done) as progress:
            captioner.on_settled = lambda: _show(progress, captioner, flags)
            asyncio.run(_run(captioner, sources))
    except ModelError as error:
        why, code = f"error: {error}. The same command goes on from here", 1
    except KeyboardInterrupt:
        why, code = "Stopped. The same command goes on from here", 130
    new, stale = _tuples(folder, journal, styles)
    total = folder.write(new, stale)
    typer.echo("\n".join(_summary(flags, folder, captioner, new, total)))
    if why:
        typer.echo(why, err=True)
    else:
        beyond = sum(source.name not in new for source in everything[len(sources) :])
        typer.echo("\n".join(_outlook(flags, journal, len(new), beyond)))
    return code or (0 if total else 1)


def _tuples(
    folder: Folder, journal: Journal, styles: ClipStyles | None
) -> tuple[dict[str, list[Tuple]], dict[str, list[Tuple]]]:
    """By file name: what is known of the files, and of others that had their names before."""
    new, stale = {}, {}
    for source in folder.sources:
        if rows := rows_of(source, journal.known(source.name, source.size), styles):
            new[source.name] = rows
        former = journal.former(source.name)
        stale[source.name] = [row for known in former for row in rows_of(source, known, styles)]
    return new, stale


async def _run(captioner: Captioner, sources: list[Source]) -> None:
    try:
        await captioner.model.check()
        await captioner.run(sources)
    finally:
        await captioner.model.close()


def _show(progress: Progress, captioner: Captioner, flags: CaptionFlags) -> None:
    """The progress line after one more file."""
    note = _bill(flags, captioner.journal)
    if captioner.failed:
        note += f", {len(captioner.failed)} without a tuple"
    progress.advance()
    progress.bar.update(progress.task, note=note)
    task = progress.bar.tasks[0]
    if not CONSOLE.is_terminal and task.completed % PLAIN_EVERY == 0:
        left = task.time_remaining
        eta = "?" if left is None else f"{left / 60:.0f} min"
        CONSOLE.print(f"captioning {task.completed:.0f}/{task.total:.0f} eta {eta} {note}")


def _bill(flags: CaptionFlags, journal: Journal) -> str:
    """Tokens, and what they cost, of all runs on this folder."""
    return _priced(flags, journal.tokens["asked"], journal.tokens["answered"])


def _priced(flags: CaptionFlags, asked: float, answered: float) -> str:
    words = f"{_short(asked)} + {_short(answered)} tokens"
    if flags.price_in is None and flags.price_out is None:
        return words
    cost = (asked * (flags.price_in or 0) + answered * (flags.price_out or 0)) / 1e6
    return f"{words}, cost {cost:.2f}" if cost >= 1 else f"{words}, cost {cost:.2g}"


def _short(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.2f} M"
    return f"{number / 1e3:.1f} k" if number >= 1e4 else f"{number:.0f}"


def _summary(
    flags: CaptionFlags,
    folder: Folder,
    captioner: Captioner,
    new: dict[str, list[Tuple]],
    total: int,
) -> Iterator[str]:
    yield f"{flags.folder / 'metadata.jsonl'}: {counted(total, 'tuple')}"
    kinds = Counter(row["edit_type"] for rows in new.values() for row in rows)
    if kinds:
        yield "edit types: " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
    yield f"in all runs: {_bill(flags, captioner.journal)} (asked + answered)"
    if torn := captioner.journal.torn:
        yield f"torn lines in {captioner.journal.path}, skipped: {torn}"
    if failed := captioner.failed:
        yield (
            f"{len(failed)} of {len(folder.sources)} files have no tuple; the same command asks "
            "again, after unusable answers with more --tries or another model:"
        )
        yield from (f"  {name}: {why}" for name, why in sorted(failed.items())[:TOLD])
        if len(failed) > TOLD:
            yield f"  ... and {len(failed) - TOLD} more"
    yield from (f"left out: {problem}" for problem in folder.problems[:TOLD])


def _outlook(flags: CaptionFlags, journal: Journal, known: int, beyond: int) -> Iterator[str]:
    """What comes next; after a --limit, what the files beyond it will take by those so far."""
    if known and beyond:
        each = beyond / known
        more = _priced(flags, journal.tokens["asked"] * each, journal.tokens["answered"] * each)
        yield f"{counted(beyond, 'file')} beyond the --limit, by these about {more} more"
    if known:
        yield f"Check them:\n  python -m byg_train data check {flags.folder}"


# ---------------------------------------------------------------- the dry run


def _show_prompt(
    flags: CaptionFlags, folder: Folder, journal: Journal, styles: ClipStyles | None
) -> None:
    """The first question to come about a picture, and about a clip."""
    sources = ordered(folder.to_ask(journal), flags.seed)[: flags.limit]
    balance = Balance(flags.seed)
    shown, left = {}, 0
    for source in sources:
        offer = NO_OFFER if source.is_clip else balance.offer(source.name, source.style)
        question = next_question(source, offer, journal.known(source.name, source.size), styles)
        left += question is not None
        if question and question.step not in shown:
            shown[question.step] = f"--- {source.name}\n\n{question.prompt}"
    typer.echo(f"{left} of {len(sources)} files in {flags.folder} are to be asked about.")
    for text in shown.values():
        typer.echo(f"\n{text}")
