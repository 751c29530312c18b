"""`evaluate fetch`: a benchmark becomes a folder of tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import typer

from ..config import ConfigError
from ..evaluate import published
from ..evaluate.style_tasks import write_style_tasks

BENCHMARKS = ("gedit", "imgedit", "styles")


@dataclass(frozen=True)
class FetchFlags:
    """The options of `evaluate fetch`."""

    benchmark: str
    folder: Path
    source: str | None
    language: str
    through: str | None
    to: list[str]


def run_fetch(flags: FetchFlags) -> None:
    """Write the tasks, and say what comes next."""
    if flags.benchmark not in BENCHMARKS:
        raise ConfigError(f"{flags.benchmark!r}: wanted {', '.join(BENCHMARKS)}")
    if flags.benchmark != "styles" and (flags.through or flags.to):
        raise ConfigError("--through and --to are for styles")
    number = _written(flags)
    typer.echo(
        f"{number} tasks in {flags.folder}. Now edit them, and score the results:\n"
        f"  python -m byg_train evaluate edit RESULTS --sources {flags.folder} --lora FILE\n"
        f"  python -m byg_train evaluate score RESULTS --sources {flags.folder} ..."
    )


def _written(flags: FetchFlags) -> int:
    if flags.benchmark == "styles":
        if flags.source is None:
            raise ConfigError("--from is missing: the folder with a folder for each style")
        root = Path(flags.source)
        return write_style_tasks(root, flags.folder, through=flags.through, to=flags.to)
    if flags.benchmark == "gedit":
        tasks = published.gedit(flags.source or published.GEDIT, flags.language)
        whole = published.WHOLE_GEDIT
    else:
        tasks = published.imgedit(flags.source or published.IMGEDIT)
        whole = published.WHOLE_IMGEDIT
    found = published.write_tasks(tasks, flags.folder)
    if told := published.unlike(whole, found):
        typer.echo(f"warning: {told}. Is the download whole?", err=True)
    return found.total()
