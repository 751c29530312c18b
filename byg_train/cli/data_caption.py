"""`data caption`: a vision-language model writes the texts of pictures and clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from typer import Argument, Option

from ..config import ConfigError
from ..data import counted
from .options import (
    Concurrency,
    Device,
    KeyVariable,
    LocalVlm,
    MaxTokens,
    Server,
    names_of,
    resolve_device,
)

if TYPE_CHECKING:
    from ..data.vlm.captioning import Captioning, Outcome
    from ..data.vlm.client import Model

# Failures that are listed one by one; the rest is only counted.
LISTED = 20
GO_ON = "Run the same command again to continue"


def caption(
    folder: Annotated[
        Path, Argument(metavar="DIR", help="Folder with pictures and clips, at any depth.")
    ],
    endpoint: Server = None,
    model: Annotated[str | None, Option(help="Name of the model at --endpoint.")] = None,
    vlm: LocalVlm = None,
    style_folders: Annotated[
        bool, Option("--style-folders", help="Take folder names as the style of their files.")
    ] = False,
    clip_styles: Annotated[
        str | None, Option(help="Styles to turn clips into, such as 'cartoon, photo-realistic'.")
    ] = None,
    seed: Annotated[int, Option(help="Seed for the file order and the edit types.")] = 0,
    limit: Annotated[
        int | None, Option(min=1, help="Maximum number of files; a later run goes on.")
    ] = None,
    concurrency: Concurrency = 8,
    tries: Annotated[int, Option(min=1, help="Maximum number of answers until one is usable.")] = 3,
    retries: Annotated[
        int, Option(min=0, help="Maximum number of retries of a failed request.")
    ] = 6,
    timeout: Annotated[float, Option(min=0.1, help="Seconds to wait for one answer.")] = 600,
    max_tokens: MaxTokens = 8192,
    temperature: Annotated[
        float | None, Option(min=0, help="Sampling temperature; the server's by default.")
    ] = None,
    price_in: Annotated[float | None, Option(min=0, help="Price per million input tokens.")] = None,
    price_out: Annotated[
        float | None, Option(min=0, help="Price per million output tokens.")
    ] = None,
    key_variable: KeyVariable = "OPENAI_API_KEY",
    device: Device = "auto",
    dry_run: Annotated[
        bool, Option("--dry-run", help="Print the first prompts and ask nothing.")
    ] = False,
) -> None:
    """Let a vision-language model write metadata.jsonl, from pictures or clips alone.

    Nothing is lost by Ctrl-C, a crash or a power cut: run the same command again to continue.
    """
    from ..data.vlm.captioning import Captioning
    from ..data.vlm.client import Endpoint
    from ..data.vlm.local import LocalModel
    from .errors import expect_writable, full_disk_explained

    captioning = Captioning(
        folder,
        style_folders=style_folders,
        clip_styles=names_of(clip_styles or ""),
        seed=seed,
        limit=limit,
    )
    if dry_run:
        _show_prompts(captioning, folder)
        return
    if bool(endpoint) == bool(vlm) or bool(endpoint) != bool(model):
        raise ConfigError("wanted either --endpoint URL with --model NAME, or --vlm HUB_ID")
    expect_writable(folder)
    answerer: Model
    limits = {"max_tokens": max_tokens, "temperature": temperature}
    if vlm:
        answerer = LocalModel(vlm, device=resolve_device(device), **limits)
        concurrency = 1  # a model in this process answers one question after the other
    else:
        limits |= {"retries": retries, "timeout": timeout}
        answerer = Endpoint(endpoint, model, key_variable=key_variable, **limits)
    prices = TokenPrices(price_in, price_out)
    with full_disk_explained(folder, "again"), captioning.journal:
        outcome = _run(captioning, answerer, concurrency, tries, prices)
        typer.echo("\n".join(_summary(captioning, folder, outcome, prices)))
    if outcome.stopped:
        _explain_stop(outcome.stopped)
    typer.echo("\n".join(_next_steps(captioning, folder, outcome, prices)))
    if not outcome.total:
        raise typer.Exit(1)


class TokenPrices(NamedTuple):
    """Prices per million tokens, None where not given."""

    asked: float | None
    answered: float | None

    def bill(self, asked: float, answered: float) -> str:
        """Tokens of questions and answers, with their cost if prices are known."""
        tokens = f"{_short(asked)} + {_short(answered)} tokens"
        if self.asked is None and self.answered is None:
            return tokens
        cost = (asked * (self.asked or 0) + answered * (self.answered or 0)) / 1e6
        return f"{tokens}, cost {cost:.2f}" if cost >= 1 else f"{tokens}, cost {cost:.2g}"


def _run(
    captioning: Captioning, model: Model, concurrency: int, tries: int, prices: TokenPrices
) -> Outcome:
    from ..progress import Progress

    with Progress(len(captioning.sources), "captioning", captioning.done()) as progress:

        def on_settled(failed: int) -> None:
            note = prices.bill(**captioning.journal.tokens)
            progress.advance(note=f"{note}, {failed} without a tuple" if failed else note)

        return captioning.run(model, concurrency=concurrency, tries=tries, on_settled=on_settled)


def _short(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.2f} M"
    return f"{number / 1e3:.1f} k" if number >= 1e4 else f"{number:.0f}"


# ---------------------------------------------------------------- output


def _summary(
    captioning: Captioning, folder: Path, outcome: Outcome, prices: TokenPrices
) -> Iterator[str]:
    from ..data.unused import by_reason, told

    journal = captioning.journal
    yield f"{folder / 'metadata.jsonl'}: {counted(outcome.total, 'tuple')}"
    types = Counter(row["edit_type"] for rows in outcome.new.values() for row in rows)
    if types:
        yield "edit types: " + ", ".join(f"{n} {name}" for name, n in types.most_common())
    yield f"in all runs: {prices.bill(**journal.tokens)} (asked + answered)"
    if journal.torn:
        yield f"skipped {counted(journal.torn, 'torn line')} in {journal.path}"
    if failed := outcome.failed:
        files = len(captioning.folder.sources)
        yield (
            f"{len(failed)} of {files} files have no tuple; the same command asks again. After "
            "unusable answers raise --tries or take another model, after timeouts raise --timeout, "
            "where it thought until its budget ended raise --max-tokens:"
        )
        yield from (f"  {name}: {why}" for name, why in sorted(failed.items())[:LISTED])
        if len(failed) > LISTED:
            yield f"  ... and {len(failed) - LISTED} more"
    yield from (f"left out: {problem}" for problem in captioning.folder.problems[:LISTED])
    for why, names in by_reason(captioning.folder.unused).items():
        yield f"not used: {told(names)}, {why}"


def _explain_stop(reason: Exception | KeyboardInterrupt) -> None:
    if isinstance(reason, KeyboardInterrupt):
        typer.echo(f"Stopped. {GO_ON}.", err=True)
        raise typer.Exit(130)
    typer.echo(f"error: {reason}. {GO_ON}.", err=True)
    raise typer.Exit(1)


def _next_steps(
    captioning: Captioning, folder: Path, outcome: Outcome, prices: TokenPrices
) -> Iterator[str]:
    """What to do next; after a limited run, also what the remaining files will take."""
    if outcome.new and outcome.beyond:
        factor = outcome.beyond / len(outcome.new)
        tokens = {name: number * factor for name, number in captioning.journal.tokens.items()}
        yield (
            f"{counted(outcome.beyond, 'file')} beyond the --limit will take about "
            f"{prices.bill(**tokens)} more"
        )
    if outcome.new:
        yield f"Check them:\n  python -m byg_train data check {folder}"


def _show_prompts(captioning: Captioning, folder: Path) -> None:
    captioning.journal.read()
    first = captioning.first_questions()
    typer.echo(f"{first.open} of {first.files} files in {folder} need an answer.")
    for name, prompt in first.prompts.items():
        typer.echo(f"\n--- {name}\n\n{prompt}")
