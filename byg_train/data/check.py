"""The linter of a data folder: what training refuses, and what would spoil the result."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..config import DataConfig
from ..media.formats import Formats
from ..media.reader import Facts
from . import Problem, Row
from .excluded import row_entry
from .findings import SET, Finding, changes, duplicates, left_over
from .items import check_files
from .media_kind import kind_of, media_names
from .names import CaptionError, Captions
from .rows import TEXTS, check_rows
from .rule_codes import EQUAL_CAPTIONS, NO_CAPTION
from .text_rules import ERROR, WARNING, violations

# Rule codes of warnings that only the linter gives.
TOO_LONG, BALANCE = "too long", "balance"
# An edit type is reported as rare below this fraction of an even share.
RARE = 1 / 3
# What counts as a token in an estimate: up to four letters, or a punctuation mark.
PIECE = re.compile(r"\w{1,4}|[^\w\s]")


class Tokens(NamedTuple):
    """How texts are tokenized, and how many tokens the text encoder reads."""

    limit: int
    split: Callable[[str], list[Any]]  # text -> tokens, including the end token
    estimated: bool = False


class Limits(NamedTuple):
    """What a base model can take."""

    tokens: Tokens
    multiple: int  # pixels; no file may be smaller
    data: DataConfig  # pictures or clips, and the length and frame rate of clips


@dataclass(frozen=True)
class Report:
    """A data set with all findings."""

    root: Path
    rows: list[Row]
    findings: list[Finding]
    edit_types: Counter[str]  # edit type -> training tuples per epoch
    facts: dict[str, Facts]  # of the files that can be read, by file name
    kind: Formats

    @property
    def errors(self) -> list[Finding]:
        """The findings that must be repaired before training."""
        return [f for f in self.findings if f.level == ERROR]


def estimated(limit: int) -> Tokens:
    """Count tokens without a tokenizer: one for every four letters and every mark."""
    return Tokens(limit, lambda text: [*PIECE.findall(text), "</s>"], estimated=True)


def tokenized(folder: Path, limit: int) -> Tokens:
    """Count tokens with the tokenizer in a folder of the base model."""
    from transformers import AutoTokenizer

    t5 = AutoTokenizer.from_pretrained(folder)
    return Tokens(limit, lambda text: t5(text, verbose=False).input_ids)


def check(
    root: Path,
    rows: list[Row],
    problems: list[Problem],
    limits: Limits,
    on_file: Callable[[int, int], None] = lambda done, of: None,
) -> Report:
    """Check texts, files and the balance of a data set.

    Args:
        rows: the tuples of the folder, without the excluded ones.
        problems: what could not be read at all.
        limits: those of the base model that will be trained.
        on_file: called after every file with (files checked so far, files in total).
    """
    tokens, multiple, data = limits
    kind = kind_of(data)
    _, text_problems = check_rows(rows, root, kind)
    pairs = _with_files(rows, root, kind)
    facts, broken = check_files(pairs, kind, multiple, data, on_file)
    edit_types = _edit_types(rows)
    findings = [
        *_training_errors([*problems, *text_problems, *broken], rows),
        *_text_findings(rows, tokens),
        *duplicates(root, pairs, facts, kind),
        *_imbalance(edit_types),
        *changes(pairs, facts, multiple, data),
        *left_over(root, rows, kind, problems),
    ]
    order = {row.where: i for i, row in enumerate(rows)}
    findings.sort(key=lambda f: order.get(f.where, -1 if f.where == SET else len(order)))
    return Report(root, rows, findings, edit_types, _by_name(facts, root), kind)


def check_loose(
    root: Path, limits: Limits, on_file: Callable[[int, int], None] = lambda done, of: None
) -> Report:
    """Check a folder that holds no tuples yet: only files, perhaps with captions."""
    _, multiple, data = limits
    kind = kind_of(data)
    captions, unread = Captions(), []
    rows = [_loose_row(root, name, captions, unread) for name in media_names(root, kind)]
    pairs = [(row, root / row.fields["file_name"]) for row in rows]
    facts, broken = check_files(pairs, kind, multiple, data, on_file)
    findings = [*_training_errors([*unread, *broken], rows), *duplicates(root, pairs, facts, kind)]
    return Report(root, rows, findings, Counter(), _by_name(facts, root), kind)


def _with_files(rows: list[Row], root: Path, kind: Formats) -> list[tuple[Row, Path]]:
    """The rows that name a file of the folder, whatever else is wrong with them."""
    names = set(media_names(root, kind))
    keys = ((row, row_entry(row, root)) for row in rows)
    return [(row, root / entry[0]) for row, entry in keys if entry and entry[0] in names]


def _by_name(facts: dict[Path, Facts], root: Path) -> dict[str, Facts]:
    return {path.relative_to(root).as_posix(): fact for path, fact in facts.items()}


def _loose_row(root: Path, name: str, captions: Captions, unread: list[Problem]) -> Row:
    caption = None
    try:
        caption = captions.read(root / name)
    except CaptionError as error:
        if error.rule != NO_CAPTION:
            unread.append(Problem(name, error.found, "a caption, or no such file", error.rule))
    return Row(name, {"file_name": name, "src_caption": caption})


# ---------------------------------------------------------------- tuples


def _training_errors(problems: Iterable[Problem], rows: list[Row]) -> Iterator[Finding]:
    """Report what training would refuse, with the same words."""
    by_where: dict[str, Row] = {}
    for row in rows:
        by_where.setdefault(row.where, row)
        by_where.setdefault(f"{row.where} ({row.fields.get('file_name')})", row)
    for where, found, wanted, rule in problems:
        row = by_where.get(where, Row(where, {}))
        field = TEXTS[1] if rule == EQUAL_CAPTIONS else ""
        yield Finding("", rule, ERROR, found, wanted, field=field).at(row)


def _text_findings(rows: list[Row], tokens: Tokens) -> Iterator[Finding]:
    """Report wordings that break a rule, and texts that are too long."""
    cache: dict[tuple, list[Finding]] = {}
    for row in rows:
        texts = {n: row.fields[n] for n in TEXTS if isinstance(row.fields.get(n), str)}
        edit_type = str(row.fields.get("edit_type") or "")
        key = (*texts.items(), edit_type)
        if key not in cache:  # templates repeat the same texts again and again
            cache[key] = [*_wording(texts, edit_type), *_length(texts, tokens)]
        yield from (finding.at(row) for finding in cache[key])


def _wording(texts: dict[str, str], edit_type: str) -> Iterator[Finding]:
    for v in violations(texts, edit_type):
        yield Finding(
            "", v.rule, v.level, f"{v.words!r}", v.wanted,
            field=v.field, start=v.start, length=len(v.words),
        )  # fmt: skip


def _length(texts: dict[str, str], tokens: Tokens) -> Iterator[Finding]:
    about = " (estimated)" if tokens.estimated else ""
    read = {}
    for field, text in texts.items():
        parts = tokens.split(text)
        read[field] = parts[: tokens.limit - 1]
        if len(parts) > tokens.limit:
            found = f"{len(parts)} tokens{about}; the end is cut off"
            yield Finding("", TOO_LONG, WARNING, found, f"at most {tokens.limit}", field=field)
    source, target = (" ".join(texts.get(name, "").split()).casefold() for name in TEXTS[:2])
    if source != target and len(read) == len(TEXTS) and read[TEXTS[0]] == read[TEXTS[1]]:
        found = f"captions that differ only beyond token {tokens.limit}{about}"
        wanted = "the difference early in the captions"
        yield Finding("", EQUAL_CAPTIONS, ERROR, found, wanted, field=TEXTS[1])


# ---------------------------------------------------------------- the set


def _edit_types(rows: list[Row]) -> Counter[str]:
    """Count the training tuples per epoch of each edit type."""
    counts: Counter[str] = Counter()
    for row in rows:
        if (row.fields.get("split") or "train") == "train":
            repeats = row.fields.get("repeats")
            counts[str(row.fields.get("edit_type") or "")] += repeats if type(repeats) is int else 1
    return counts


def _imbalance(edit_types: Counter[str]) -> Iterator[Finding]:
    share = edit_types.total() / max(1, len(edit_types))
    for name, number in edit_types.items():
        if number < share * RARE:
            found = f"edit type {name!r} has {number} of {edit_types.total()} tuples"
            yield Finding(SET, BALANCE, WARNING, found, f"about {share:.0f}, an even share")


def grouped(findings: Iterable[Finding]) -> dict[Finding, list[Finding]]:
    """Group findings that say the same about several tuples; keys are the first of each group."""
    groups: defaultdict[tuple, list[Finding]] = defaultdict(list)
    for f in findings:
        groups[f.rule, f.level, f.found, f.wanted, f.field].append(f)
    return {group[0]: group for group in groups.values()}
