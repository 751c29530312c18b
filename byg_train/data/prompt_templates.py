"""Captions from templates, as prompts for the base model.

A template is a sentence with choices in braces. `{a|b|c}` stands for one of its parts, `{name}` for
a line of the list of that name: "a {cat|dog} in {place}".
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..config import ConfigError, nearest
from ..text_files import is_blank, read_text
from .media_kind import foreign_file
from .names import ENDINGS

BRACES = re.compile(r"\{([^{}]*)\}")


class UnknownListError(ConfigError):
    """A template that names a list which was not given."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


class Template(NamedTuple):
    """Fixed texts with a choice between every two: len(texts) == len(choices) + 1."""

    texts: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...]

    def fill(self, rng: random.Random) -> str:
        """Draw one caption."""
        parts = [self.texts[0]]
        for choice, text in zip(self.choices, self.texts[1:], strict=True):
            parts += [rng.choice(choice), text]
        return " ".join("".join(parts).split())


def parse_template(text: str, lists: Mapping[str, Sequence[str]], where: str) -> Template:
    """Parse a template; ConfigError for unpaired braces and unknown lists."""
    texts, choices, end = [], [], 0
    for match in BRACES.finditer(text):
        inside = match[1]
        texts.append(text[end : match.start()])
        end = match.end()
        if "|" in inside:
            choices.append(tuple(part.strip() for part in inside.split("|")))
        elif (name := inside.strip()) in lists:
            choices.append(tuple(lists[name]))
        else:
            known = ", ".join(lists) or "none is given"
            raise UnknownListError(
                f"{where}: {match[0]} names no list{nearest(name, list(lists))} (lists: {known}); "
                "give a list of that name, or write the choices here: {a|b}",
                name or "name",
            )
    texts.append(text[end:])
    if any(brace in part for part in texts for brace in "{}"):
        raise ConfigError(f"{where}: a brace without its partner in {text!r}; wanted {{a|b}}")
    return Template(tuple(texts), tuple(choices))


def read_templates(file: Path, lists: Mapping[str, Sequence[str]]) -> list[Template]:
    """Read a template from every line of a file."""
    return [parse_template(line, lists, f"{file}, {line!r}") for line in read_lines(file)]


def read_list(assignment: str) -> tuple[str, list[str]]:
    """Read `name=FILE`; returns the name and the file's lines."""
    name, equals, file = (part.strip() for part in assignment.partition("="))
    if not name or not equals or not file:
        raise ConfigError(f"list {assignment!r}: wanted name=FILE, with a choice on every line")
    return name, read_lines(Path(file))


def read_lines(file: Path) -> list[str]:
    """Read the lines of a text file, without empty lines and comments, which begin with #.

    A folder gives a line for each caption file, such as those beside a style's pictures.
    """
    if file.is_dir():
        texts = (p for p in sorted(file.iterdir()) if p.suffix.lower() in ENDINGS)
        lines = [" ".join(read_text(p).split()) for p in texts if not foreign_file(p.name)]
    elif file.is_file():
        lines = [line.strip() for line in read_text(file).splitlines()]
    else:
        raise ConfigError(f"{file} does not exist; wanted a text file, or a folder of them")
    if not (kept := [line for line in lines if not (is_blank(line) or line.startswith("#"))]):
        raise ConfigError(f"{file} is empty; wanted a line of text or more")
    return kept


class Shot(NamedTuple):
    """A picture or clip to draw."""

    name: str  # of its file, without the ending
    caption: str  # what it shows
    seed: int  # of its noise


def shots(templates: Sequence[Template], count: int, style: str, seed: int) -> list[Shot]:
    """List `count` pictures to draw, taking the templates in turn.

    Shot i depends on the style, the seed and i alone, so a larger count begins with the same ones.
    """
    made = []
    for i in range(count):
        rng = random.Random(f"{style} {seed} {i}")
        caption = templates[i % len(templates)].fill(rng)
        made.append(Shot(f"gen{seed}-{i:05d}", caption, rng.getrandbits(63)))
    return made
