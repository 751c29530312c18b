"""`study`: check what is to be compared and serve it; `study report`: what the votes say."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from typer import Argument, Option

from ..config import ConfigError
from ..data import DataError, counted
from ..local_server import LOOPBACK
from .options import Instruction

if TYPE_CHECKING:
    from ..study.ballot import Ballot
    from ..study.server import StudyServer
    from ..study.votes import VoteFile

# The question of the paper's study (appendix E).
QUESTION = "Which one is the better editing result?"
# Files that a warning lists; the rest is only counted.
LISTED = 5


def study(
    what: Annotated[
        list[str],
        Argument(
            metavar="DIR_A DIR_B | report", help="Result folders of two methods, or `report`."
        ),
    ],
    sources: Annotated[
        Path | None, Option(help="Folder of what was edited, with metadata.jsonl.")
    ] = None,
    instruction: Instruction = None,
    votes: Annotated[Path, Option(help="SQLite file that holds the votes.")] = Path("study.sqlite"),
    question: Annotated[str, Option(help="The question that raters answer.")] = QUESTION,
    per_rater: Annotated[
        int | None, Option(help="Number of items for each rater, least rated items first.")
    ] = None,
    host: Annotated[
        str, Option(help="Address to listen on; 0.0.0.0 lets others in this network vote.")
    ] = "127.0.0.1",
    port: Annotated[int, Option(help="Port of the page; 0 takes a free one.")] = 8765,
) -> None:
    """Let people compare two methods blindly on a local web page, and report their votes."""
    from ..study.votes import VoteFile

    if what == ["report"]:
        report(VoteFile(votes), Console())
        return
    if len(what) != 2:
        raise ConfigError("wanted two folders of results, DIR_A DIR_B, or the word report")
    if sources is None:
        raise ConfigError("--sources is missing: the folder of the pictures that were edited")
    if per_rater is not None and per_rater < 1:
        raise ConfigError(f"--per-rater {per_rater}: wanted 1 or more")
    if instruction is not None and not instruction.strip():
        raise ConfigError("--instruction is empty; say what was to be changed")
    a, b = (Path(folder) for folder in what)
    if a.resolve() == b.resolve():
        raise ConfigError(f"{a} is compared with itself; wanted the results of two methods")
    server = _server(_ballot(a, b, sources, instruction, votes, per_rater), question, host, port)
    typer.echo(_greeting(server, host))
    server.serve_until_interrupted()
    typer.echo(f"\n{len(server.ballot.votes.all())} votes in {votes}")


def _ballot(
    a: Path, b: Path, sources: Path, instruction: str | None, votes: Path, per_rater: int | None
) -> Ballot:
    from ..evaluate.tasks import short_names
    from ..study.ballot import Ballot
    from ..study.items import find_items, may_not_play
    from ..study.votes import OtherStudyError, VoteFile

    items = find_items(a, b, sources, instruction)
    _warn_of(may_not_play(items))
    try:
        file = VoteFile.begin(votes, tuple(short_names([a, b]).values()), items)
    except OtherStudyError as error:
        raise DataError(
            f"{error}; pass --votes with another name to begin a new one", error.problems
        ) from None
    return Ballot(items, file, per_rater)


def _server(ballot: Ballot, question: str, host: str, port: int) -> StudyServer:
    from ..study.server import StudyServer

    try:
        return StudyServer(ballot, question, host, port)
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"--host {host} --port {port}: {why}") from None


def _warn_of(clips: dict[Path, str]) -> None:
    """List clips that not every browser plays; on the page, raters can skip them."""
    if not clips:
        return
    named = [f"  {path}: {pixels}" for path, pixels in list(clips.items())[:LISTED]]
    more = [f"  ... and {len(clips) - LISTED} more"] if len(clips) > LISTED else []
    lines = [
        f"warning: {counted(len(clips), 'clip')} whose pixels are not yuv420p. Some browsers, "
        "above all on phones, do not show them, and raters there have to skip them:",
        *named,
        *more,
        "Encode these anew, and the other two clips of each comparison alike:",
        "  ffmpeg -i IN.mp4 -vf crop=trunc(iw/2)*2:trunc(ih/2)*2 -pix_fmt yuv420p -crf 16 OUT.mp4",
    ]
    typer.echo("\n".join(lines), err=True)


def _greeting(server: StudyServer, host: str) -> str:
    study, count = server.ballot.votes.study, len(server.ballot.items)
    lines = [
        f"{count} comparisons of {study.name_a} (A) and {study.name_b} (B), "
        f"{server.ballot.quota} for each rater. Open",
        f"  {server.address}",
        f"Votes are stored in {server.ballot.votes.path}. Press Ctrl-C to stop; the same command "
        "continues the study.",
    ]
    if host not in LOOPBACK:
        lines.append("Everybody in this network who knows the address can see the page and vote.")
    return "\n".join(lines)


def report(votes: VoteFile, console: Console) -> None:
    """Print A's win rates, and what follows from the votes."""
    cast = votes.all()
    if not cast:
        raise DataError(f"{votes.path} holds no votes yet")
    missing = [name for name in ("scipy", "statsmodels") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"study report needs {' and '.join(missing)}, which this Python does not have: "
            'pip install -e ".[eval]"'
        )
    from ..study.report import percent, rates, sentences

    study = votes.study
    console.print(f"A = {study.name_a}\nB = {study.name_b}", highlight=False, markup=False)
    heads = ("votes", "A wins", "95 %", "mean of raters")
    right = [Column(name, justify="right", no_wrap=True) for name in heads]
    table = Table(Column("votes of", overflow="fold"), *right)
    for section in rates(cast):
        for label, rate, raters in section:
            interval = f"{rate.low:.1%} to {rate.high:.1%}"
            mean = percent(raters) if raters else ""
            table.add_row(label, str(rate.n), f"{rate.share:.1%}", interval, mean)
        table.add_section()
    console.print(table)
    for sentence in sentences(cast, study.items):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
