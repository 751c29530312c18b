"""The command line: its start, and the commands, one file for each beside this one."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable

import typer
from rich.logging import RichHandler
from typer.core import TyperGroup

from ..config import ConfigError
from ..data import DataError
from ..machine import settle_allocator, settle_threads
from ..media import SourceError
from ..progress import CONSOLE
from ..text_files import TextFileError
from .ablate import ablate
from .bench import bench
from .data_caption import caption
from .data_check import check
from .data_generate import generate
from .data_import import import_
from .data_preview import preview
from .data_styles import styles
from .doctor import doctor
from .edit import edit
from .evaluate_edit import edit as edit_tasks
from .evaluate_fetch import fetch
from .evaluate_score import metrics, score
from .export import export
from .presets import presets
from .probe import probe
from .study import study
from .train import train


class PlainGroup(TyperGroup):
    """Commands whose mistakes are one sentence and exit code 2, without a traceback.

    So is a file that the system refuses; a closed pipe is click's business.
    """

    def invoke(self, context: typer.Context) -> object:
        """Run the command that was named."""
        try:
            return super().invoke(context)
        except BrokenPipeError:
            raise
        except (ConfigError, DataError, SourceError, TextFileError, OSError) as error:
            named = isinstance(error, OSError) and error.filename
            sentence = f"{error.filename}: {error.strerror}" if named else str(error)
            typer.echo(f"error: {sentence}", err=True)
            raise typer.Exit(2) from None


app = typer.Typer(cls=PlainGroup, pretty_exceptions_enable=False)
app.callback(invoke_without_command=True)(train)
for command in (presets, probe, edit, export, study, ablate, doctor, bench):
    app.command()(command)


def _add_group(name: str, about: str, commands: dict[str, Callable[..., None]]) -> None:
    group = typer.Typer(no_args_is_help=True, help=about)
    for word, command in commands.items():
        group.command(word)(command)
    app.add_typer(group, name=name)


_add_group(
    "data",
    "Turn pictures or clips into training tuples.",
    {
        "styles": styles,
        "caption": caption,
        "check": check,
        "preview": preview,
        "generate": generate,
        "import": import_,
    },
)
_add_group(
    "evaluate",
    "Measure edits: fetch tasks, edit them all, score the results.",
    {"fetch": fetch, "edit": edit_tasks, "score": score, "metrics": metrics},
)


def main() -> None:
    """Entry point of `python -m byg_train`."""
    settle_threads()
    settle_allocator()
    logger = logging.getLogger("byg_train")
    logger.setLevel(logging.INFO)
    logger.addHandler(RichHandler(console=CONSOLE, show_path=False, log_time_format="%X"))
    _quiet_libraries()
    # Shells can complete the installed command `byg_train`, but not `python -m byg_train`.
    completion = {"--install-completion", "--show-completion"} & set(sys.argv)
    app(prog_name="byg_train" if completion else None)


def _quiet_libraries() -> None:
    """Drop what libraries warn of and nobody can act on; what may be wrong is still told."""
    imports = logging.getLogger("transformers.utils.import_utils")
    imports.addFilter(lambda record: "requires torchvision" not in record.getMessage())
    # A slower kernel for bf16 states under float32 norms, with the same result.
    warnings.filterwarnings("ignore", "Mismatch dtype between input and weight")
