"""Codes of the rules that a tuple or a file can break: short, stable, and shown to people.

Messages may change their wording; a test, the preview and `data check --json` hold to the code.
"""

from __future__ import annotations

# Texts.
NO_CAPTION = "no caption"
EMPTY_TEXT = "empty text"
NO_TEXT = "not a text"
CONTROL = "control character"
ENCODING = "encoding"
EQUAL_CAPTIONS = "equal captions"
# Rows of a manifest.
BROKEN_LINE = "broken line"
MISSING_FIELD = "missing field"
TWICE = "twice"
SPLIT = "split"
REPEATS = "repeats"
# Files.
NO_FILE = "no file"
OUTSIDE = "outside of the folder"
FILE_TYPE = "file type"
UNREADABLE = "unreadable"
TOO_SMALL = "too small"
TOO_SHORT = "too short"
NO_FILES = "no files"
# Data sets of other trainers.
PAIRS = "pairs"
NEEDS_COPY = "needs a copy"
SAME_NAME = "same name"
# Whatever has no code of its own.
UNUSABLE = "unusable"
