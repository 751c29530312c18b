"""`evaluate fetch`: a benchmark becomes a folder of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from ..config import ConfigError
from ..data import DataError
from .options import names_of

BENCHMARKS = ("gedit", "imgedit", "styles")


def fetch(
    benchmark: Annotated[str, Argument(metavar="gedit | imgedit | styles")],
    folder: Annotated[Path, Argument(metavar="TASKS", help="A new folder for the tasks.")],
    source: Annotated[
        str | None,
        Option(
            "--from",
            help="Hub id, or folder of an earlier download; for styles, the style folders.",
        ),
    ] = None,
    language: Annotated[str, Option(help="Language of gedit's tasks: en or cn.")] = "en",
    through: Annotated[
        str | None, Option(help="For styles: the style at one end of every edit.")
    ] = None,
    to: Annotated[str, Option(help="For styles: target styles A,B; default: all of them.")] = "",
) -> None:
    """Write a benchmark's tasks: pictures or clips with their instructions."""
    targets = names_of(to)
    if benchmark not in BENCHMARKS:
        raise ConfigError(f"{benchmark!r}: wanted {', '.join(BENCHMARKS)}")
    if benchmark != "styles" and (through or targets):
        raise ConfigError("--through and --to are for styles")
    if benchmark == "styles":
        from ..evaluate.style_tasks import write_style_tasks

        if source is None:
            raise ConfigError("--from is missing: the folder with a folder for each style")
        number = write_style_tasks(Path(source), folder, through=through, to=targets)
    else:
        number = _published(benchmark, source, language, folder)
    typer.echo(
        f"{number} tasks in {folder}. Now edit them, and score the results:\n"
        f"  python -m byg_train evaluate edit RESULTS --sources {folder} --lora FILE\n"
        f"  python -m byg_train evaluate score RESULTS --sources {folder} ..."
    )


def _published(benchmark: str, source: str | None, language: str, folder: Path) -> int:
    from ..evaluate import published

    if benchmark == "gedit":
        if language not in published.LANGUAGES:
            languages = " or ".join(published.LANGUAGES)
            raise ConfigError(f"--language {language}: wanted {languages}")
        tasks = published.gedit(source or published.GEDIT, language)
        whole = published.WHOLE_GEDIT
    else:
        tasks = published.imgedit(source or published.IMGEDIT)
        whole = published.WHOLE_IMGEDIT
    try:
        counts = published.write_tasks(tasks, folder)
    except published.NoDownloadError as error:
        raise DataError(f"{error}, and pass that folder with --from") from None
    if difference := published.unlike(whole, counts):
        typer.echo(f"warning: {difference}. Is the download whole?", err=True)
    return counts.total()
