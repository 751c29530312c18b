"""The command line: its start, and the commands, one file for each beside this one."""

from __future__ import annotations

import logging
import sys
import warnings

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
from .data import data_app
from .doctor import doctor
from .edit import edit
from .evaluate import evaluate_app
from .export import export
from .presets import presets
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
for command in (presets, edit, export, study, ablate, doctor, bench):
    app.command()(command)
app.add_typer(data_app, name="data")
app.add_typer(evaluate_app, name="evaluate")


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
