"""The .json files that describe a base."""

from __future__ import annotations

import json
from pathlib import Path

from ..config import ConfigError
from ..text_files import read_text


class Description(dict):
    """What a file says; ConfigError if it is broken, or lacks what is asked of it."""

    def __init__(self, file: Path) -> None:
        """Read the file."""
        self.file = file
        try:
            found = json.loads(read_text(file))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{file} is broken ({error}); copy the base again") from None
        if not isinstance(found, dict):
            raise ConfigError(f"{file} holds {str(found)[:40]}; wanted a JSON object")
        super().__init__(found)

    def __missing__(self, key: str) -> None:
        raise ConfigError(
            f"{self.file} has no {key!r}: it is of another kind of model than the chosen family's, "
            "or broken"
        )
