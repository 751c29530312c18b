"""Check that a tag names this version, and print what changed in it, for the release.

python -m tools.release v0.1.0
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import byg_train

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"


def changes(version: str, text: str) -> str:
    """The section of a version; ValueError if it has none, or is not dated."""
    sections = re.findall(r"^## (\S+) \(([^)]*)\)\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    for name, date, body in sections:
        if name == version:
            if not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
                raise ValueError(f"CHANGELOG.md: {version} says ({date}), wanted (YYYY-MM-DD)")
            return body.strip()
    raise ValueError(f"CHANGELOG.md: no section of {version}; found {[s[0] for s in sections]}")


def notes(tag: str, version: str, text: str) -> str:
    """What a release says; ValueError if the tag is of another version."""
    if tag != f"v{version}":
        raise ValueError(f"tag {tag}: byg_train.__version__ is {version}, wanted v{version}")
    return changes(version, text)


def main() -> None:
    try:
        print(notes(sys.argv[1], byg_train.__version__, CHANGELOG.read_text(encoding="utf-8")))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
