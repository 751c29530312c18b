"""What the documents say holds: every command parses, and every module and linked file is there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from byg_train.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# How a page leaves something out of a command.
LEFT_OUT = ("...", "…")


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every `python -m ...`, or `torchrun ... -m ...`, in the page's shell blocks."""
    for block in re.findall(r"```(?:bash|sh)\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        whole = ""
        for line in block.replace("\\\n", " ").splitlines():
            whole += line
            try:
                yield from _commands_of(whole)
            except ValueError:  # a quotation goes on in the next line
                whole += " "
            else:
                whole = ""
        assert not whole, f"{page.name}: {whole} has no end"


def _commands_of(line: str) -> list[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    parts = [
        [*part] for ends, part in groupby(lexer, lambda word: set(word) <= set(";&|")) if not ends
    ]
    found = [
        words[words.index("-m") + 1 :]
        for words in parts
        if words[0] in ("python", "torchrun", "accelerate") and "-m" in words
    ]
    return [[word for word in words if word not in LEFT_OUT] for words in found]


COMMANDS = [(page.name, words) for page in PAGES for words in commands(page)]


def parse(words: list[str]) -> None:
    """Parse a command line and run nothing; raises what the command line raises for a mistake."""
    command = typer.main.get_command(app)
    while isinstance(command, TyperGroup) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    context = command.make_context("byg_train", list(words))
    left = [*context.args, *getattr(context, "_protected_args", ())]  # of no command of the group
    assert not left, f"nothing takes {left}"


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=lambda value: " ".join(value) if value is list else None
)
def test_every_command_parses(page: str, words: list[str]) -> None:
    module, *rest = words
    if module == "byg_train":
        parse(rest)
    elif module.split(".")[0] in ("byg_train", "tools", "benchmarks"):
        assert find_spec(module), f"{page}: no module {module}"


def test_there_are_commands_and_a_wrong_one_is_noticed() -> None:
    assert len([words for _, words in COMMANDS if words[0] == "byg_train"]) > 30
    for wrong in (["edit", "--lorra", "a"], ["data", "generate"], ["train"]):
        with pytest.raises(Exception, match="(?i)no such option|missing|nothing takes"):
            parse(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_linked_file_is_there(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8")):
        if not re.match(r"[a-z]+:", link):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_readme_is_a_front_page() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150
