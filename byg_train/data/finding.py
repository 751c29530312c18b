"""What the linter finds: a tuple's or a file's shortcoming, or that of the whole set."""

from __future__ import annotations

from typing import NamedTuple

from . import Row
from .rows import TEXTS

# The `where` of findings about the data set as a whole.
SET = "the set"


class Finding(NamedTuple):
    """Something that is wrong with a tuple, or with the data set as a whole."""

    where: str
    rule: str
    level: str  # error: training refuses it or learns the wrong thing; warning: worth improving
    found: str
    wanted: str
    file_name: str = ""
    instruction: str = ""
    field: str = ""  # the text that the finding is about
    start: int = 0  # position of the found words in that text
    length: int = 0  # length of the found words; 0 if the finding is not about words
    other: str = ""  # for duplicates: the file that came first

    def at(self, row: Row) -> Finding:
        """The same finding, located at a row."""
        file_name, instruction = (str(row.fields.get(n) or "") for n in ("file_name", TEXTS[2]))
        return self._replace(where=row.where, file_name=file_name, instruction=instruction)
