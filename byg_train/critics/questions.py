"""The questions about an edit, from a readable file of templates."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..config import ConfigError, read_toml
from ..core.critic import Ask, Question

# The files of templates that ship, by name.
TEMPLATES = {p.stem: p for p in Path(__file__).parent.glob("*.toml")}
KINDS, WORDS = ("edit", "identity"), {"yes": True, "no": False}
# "remove the small star at the top left" -> "small star".
REMOVAL = re.compile(
    r"\b(?:remove|erase|delete|take away|get rid of)\s+(?:(?:the|a|an|any|all)\s+)?"
    r"(?P<what>.+?)(?:\s+(?:at|from|in|on|that)\b.*)?[.!]?$",
    re.IGNORECASE,
)


def removed_object(instruction: str) -> str | None:
    """What an instruction takes away, in its words; None where it does not say so."""
    found = REMOVAL.search(instruction.strip())
    return found["what"] if found else None


def question_maker(
    templates: str, *, identity: bool = True
) -> Callable[[Sequence[Ask]], list[Question]]:
    """What makes the questions about a batch's rows.

    Args:
        templates: the name of a file that ships, or a path.
        identity: whether it is asked too that all else is as it was.
    """
    path = TEMPLATES.get(templates, Path(templates).expanduser())
    tables = _checked(read_toml(path), path)

    def ask(rows: Sequence[Ask]) -> list[Question]:
        return [
            _question(row, kind, one, tables)
            for row, one in enumerate(rows)
            for kind in KINDS
            if kind == "edit" or identity
        ]

    return ask


def _question(row: int, kind: str, ask: Ask, tables: dict[str, Any]) -> Question:
    own, gone = tables.get(ask.edit_type, {}), removed_object(ask.instruction)
    template = own.get(kind) or tables["usual"][kind]
    if "{object}" in template["text"] and gone is None:
        template = tables["usual"][kind]
    text = template["text"].replace("{instruction}", ask.instruction)
    return Question(
        row,
        kind,
        text.replace("{object}", gone or ""),
        WORDS[template.get("answer", "yes")],
        template.get("pictures", 2) == 2,
    )


def _checked(tables: dict[str, Any], path: Path) -> dict[str, Any]:
    """ConfigError for a file whose templates cannot be asked."""
    missing = [kind for kind in KINDS if kind not in tables.get("usual", {})]
    if missing:
        raise ConfigError(f"{path}: [usual] has no {' and no '.join(missing)}")
    for name, own in tables.items():
        for kind, template in own.items():
            where = f"{path}: [{name}] {kind}"
            if kind not in KINDS:
                raise ConfigError(f"{where}: wanted {' or '.join(KINDS)}")
            if not isinstance(template.get("text"), str) or not template["text"].strip():
                raise ConfigError(f"{where}.text is missing")
            answer, pictures = template.get("answer", "yes"), template.get("pictures", 2)
            if answer not in WORDS or pictures not in (1, 2):
                raise ConfigError(f'{where}: answer is "yes" or "no", pictures 1 or 2')
            if unknown := template.keys() - {"text", "answer", "pictures"}:
                raise ConfigError(f"{where}: unknown {', '.join(sorted(unknown))}")
    return tables
