"""Shell completion: what the installed command offers when a shell asks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from byg_train.cli.app import app

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("byg_train ", {"data", "evaluate", "edit", "study", "presets"}),
        ("byg_train data ", {"styles", "caption", "check", "preview", "generate", "import"}),
        ("byg_train evaluate s", {"score"}),
        ("byg_train data check --", {"--fix", "--strict", "--json", "--styles"}),
    ],
)
def test_a_shell_is_offered_commands_and_options(words: str, expected: set[str]) -> None:
    """Bash asks by these variables; typer's completion script sets them."""
    asks = {"_BYG_TRAIN_COMPLETE": "complete_bash", "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1)}  # fmt: skip
    result = CliRunner().invoke(app, [], prog_name="byg_train", env=asks)
    offered = set(result.output.split())
    assert expected <= offered
    if expected == {"score"}:
        assert offered == expected


def test_the_completion_script_is_for_the_installed_command() -> None:
    """Also when it is asked for by `python -m`, which no shell could complete."""
    command = [sys.executable, "-m", "byg_train", "--show-completion", "bash"]
    named = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=named
    )
    assert shown.returncode == 0, shown.stderr
    assert "complete -o default -F _byg_train_completion byg_train" in shown.stdout
