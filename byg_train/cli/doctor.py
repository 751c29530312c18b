"""`doctor`: what this machine is and can do, as text or JSON."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from typer import Option

from ..progress import CONSOLE


def doctor(
    as_json: Annotated[bool, Option("--json", help="Print the same facts as JSON.")] = False,
) -> None:
    """Say what this machine is, what was chosen for it, how fast it is and what fits on it."""
    from ..training.doctor import examine

    with CONSOLE.status("") as status:
        report = examine(lambda name: status.update(f"looking at: {name} ..."))
    typer.echo(json.dumps(report, indent=1, ensure_ascii=False) if as_json else _text(report))


def _text(report: dict[str, dict[str, Any]]) -> str:
    """A section for each check, a line for each fact: plain, to be pasted anywhere."""
    lines = []
    for name, facts in report.items():
        lines += ["", name, *_lines(facts)]
    how = "Settings, as of presets that fit with some, are given with --set."
    return "\n".join([*lines[1:], "", how])


def _lines(facts: dict[str, Any]) -> list[str]:
    if not facts:
        return ["  nothing"]
    width = max(map(len, facts))
    return [f"  {name:<{width}}  {_words(value)}" for name, value in facts.items()]


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_words(part)}" for name, part in value.items())
    return "not installed" if value is None else str(value)
