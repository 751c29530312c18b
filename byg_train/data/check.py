"""The linter of a data folder: everything that training would refuse, and what would spoil it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..config import DataConfig
from ..media.reader import Facts
from . import Problem, Row, counted
from .excluded import file_key, read_struck, row_entry
from .items import BROKEN, check_files
from .manifest import find_manifest
from .media_kind import MediaKind, kind_of
from .near_duplicates import copies, look
from .rows import EQUAL, TEXTS, check_rows
from .text_rules import ERROR, WARNING, slips

SET = "the set"
# Rules about what training refuses, by the beginning of its words.
SAME, UNREADABLE, UNUSABLE = "equal captions", "unreadable", "unusable"
RULES = {EQUAL: SAME, BROKEN: UNREADABLE}
# An edit type with less than this part of an even share is called rare.
RARE = 1 / 3
# What an estimate takes for a token: four letters, or a mark.
PIECE = re.compile(r"\w{1,4}|[^\w\s]")


class Finding(NamedTuple):
    """Something wrong with a tuple, or with the set as a whole."""

    where: str
    rule: str
    level: str  # error: training refuses it or learns the wrong thing; warning: better otherwise
    found: str
    wanted: str
    file_name: str = ""
    instruction: str = ""
    field: str = ""  # the text it is about
    at: int = 0  # where in that text the found words begin
    length: int = 0  # and how many letters they are; 0: it is not about words
    other: str = ""  # the file that this one is a copy of


class Tokens(NamedTuple):
    """How long texts are for the text encoder."""

    limit: int
    split: Callable[[str], list[Any]]  # text -> tokens, the end mark among them
    estimated: bool = False


@dataclass(frozen=True)
class Report:
    """A set and all that was found."""

    root: Path
    rows: list[Row]
    findings: list[Finding]
    kinds: Counter[str]  # edit type -> training tuples per epoch
    facts: dict[str, Facts]  # of the files that open, by their names in the folder
    kind: MediaKind

    @property
    def errors(self) -> list[Finding]:
        """What must be repaired."""
        return [f for f in self.findings if f.level == ERROR]


def estimated(limit: int) -> Tokens:
    """Without a tokenizer: a token for every four letters and every mark."""
    return Tokens(limit, lambda text: [*PIECE.findall(text), "</s>"], estimated=True)


def tokenized(folder: Path, limit: int) -> Tokens:
    """By the tokenizer in a folder of a base model."""
    from transformers import AutoTokenizer

    t5 = AutoTokenizer.from_pretrained(folder)
    return Tokens(limit, lambda text: t5(text, verbose=False).input_ids)


def check(
    root: Path,
    rows: list[Row],
    problems: list[Problem],
    tokens: Tokens,
    multiple: int,
    data: DataConfig,
    on_file: Callable[[], None] = lambda: None,
) -> Report:
    """Find everything.

    Args:
        root: the data folder.
        rows: its tuples, without the struck ones.
        problems: what could not even be read.
        tokens: of the text encoder that will read the texts.
        multiple: pixels; no file may be smaller.
        data: pictures or clips, and of these how long and how fast.
        on_file: called after every file that was decoded.
    """
    kind = kind_of(data)
    _, more = check_rows(rows, root, kind)
    pairs = with_paths(rows, root, kind)
    facts, broken = check_files(pairs, kind, multiple, data, lambda done, of: on_file())
    found = [*_told([*problems, *more, *broken], rows), *_worded(rows, tokens)]
    found += _copied(root, pairs, facts, kind)
    kinds = _kinds(rows)
    found += [*_rare(kinds), *_unused(root, rows, kind)]
    order = {row.where: i for i, row in enumerate(rows)}
    found.sort(key=lambda f: order.get(f.where, -1 if f.where == SET else len(order)))
    return Report(root, rows, found, kinds, _named(facts, root), kind)


def check_loose(
    root: Path, multiple: int, data: DataConfig, on_file: Callable[[], None] = lambda: None
) -> Report:
    """The files of a folder that holds no tuples yet, with their captions."""
    kind = kind_of(data)
    rows = [_loose(root, name) for name in kind.names(root)]
    pairs = [(row, root / row.fields["file_name"]) for row in rows]
    facts, broken = check_files(pairs, kind, multiple, data, lambda done, of: on_file())
    found = [*_told(broken, rows), *_copied(root, pairs, facts, kind)]
    return Report(root, rows, found, Counter(), _named(facts, root), kind)


def with_paths(rows: list[Row], root: Path, kind: MediaKind) -> list[tuple[Row, Path]]:
    """The rows that name a file of the folder, whatever else is wrong with them."""
    names = set(kind.names(root))
    keys = ((row, row_entry(row, root)) for row in rows)
    return [(row, root / entry[0]) for row, entry in keys if entry and entry[0] in names]


def _named(facts: dict[Path, Facts], root: Path) -> dict[str, Facts]:
    return {path.relative_to(root).as_posix(): fact for path, fact in facts.items()}


def _loose(root: Path, name: str) -> Row:
    beside = (root / name).with_suffix(".txt")
    caption = beside.read_text(encoding="utf-8-sig", errors="replace") if beside.is_file() else None
    return Row(name, {"file_name": name, "src_caption": caption and " ".join(caption.split())})


# ---------------------------------------------------------------- tuples


def _told(problems: Iterable[Problem], rows: list[Row]) -> Iterable[Finding]:
    """What training refuses, in its own words."""
    by_where: dict[str, Row] = {}
    for row in rows:
        by_where.setdefault(row.where, row)
        by_where.setdefault(f"{row.where} ({row.fields.get('file_name')})", row)
    for where, found, wanted in problems:
        row = by_where.get(where, Row(where, {}))
        rule = next((rule for start, rule in RULES.items() if found.startswith(start)), UNUSABLE)
        yield _finding(row, rule, ERROR, found, wanted, TEXTS[1] if rule == SAME else "")


def _finding(
    row: Row, rule: str, level: str, found: str, wanted: str, field: str = "", **more: Any
) -> Finding:
    texts = (str(row.fields.get(name) or "") for name in ("file_name", "instruction"))
    return Finding(row.where, rule, level, found, wanted, *texts, field, **more)


def _worded(rows: list[Row], tokens: Tokens) -> Iterable[Finding]:
    """What the texts say, and how long they are."""
    seen: dict[tuple, list[tuple]] = {}
    for row in rows:
        texts = {n: row.fields[n] for n in TEXTS if isinstance(row.fields.get(n), str)}
        kind = str(row.fields.get("edit_type") or "")
        key = (*texts.items(), kind)
        if key not in seen:  # templates make the same texts again and again
            seen[key] = [*_slipped(texts, kind), *_long(texts, tokens)]
        for *found, field, at, length in seen[key]:
            yield _finding(row, *found, field, at=at, length=length)


def _slipped(texts: dict[str, str], kind: str) -> Iterable[tuple]:
    for slip in slips(texts, kind):
        place = (slip.field, slip.at, len(slip.words))
        yield (slip.rule, slip.level, f"{slip.words!r}", slip.wanted, *place)


def _long(texts: dict[str, str], tokens: Tokens) -> Iterable[tuple]:
    about = " (estimated)" if tokens.estimated else ""
    kept = {}
    for field, text in texts.items():
        parts = tokens.split(text)
        kept[field] = parts[: tokens.limit - 1]
        if len(parts) > tokens.limit:
            found = f"{len(parts)} tokens{about}; the end is cut off"
            yield "too long", WARNING, found, f"at most {tokens.limit}", field, 0, 0
    source, target = (" ".join(texts.get(name, "").split()).casefold() for name in TEXTS[:2])
    if source != target and len(kept) == len(TEXTS) and kept[TEXTS[0]] == kept[TEXTS[1]]:
        found = f"captions that differ only beyond token {tokens.limit}{about}"
        yield SAME, ERROR, found, "the difference early in the captions", TEXTS[1], 0, 0


# ---------------------------------------------------------------- files


def _copied(
    root: Path, pairs: list[tuple[Row, Path]], facts: dict[Path, Facts], kind: MediaKind
) -> Iterable[Finding]:
    """Files that are there twice, told at the first tuple of the second."""
    first_row: dict[Path, Row] = {}
    for row, path in pairs:
        first_row.setdefault(path, row)
    by_digest: dict[str, Path] = {}
    twins = {}
    for path, fact in facts.items():
        first = by_digest.setdefault(fact.digest, path)
        if first != path:
            twins[path] = first
    seen = {path: look(path, facts[path].clip) for path in by_digest.values()}
    looks = {path: known for path, known in seen.items() if known}
    wanted = f"each {kind.one} once, its tuples under one name"
    for what, pairs in (("same file as", twins.items()), ("looks like", copies(looks))):
        for path, first in pairs:
            other = first.relative_to(root).as_posix()
            found = f"{what} {other}"
            splits = {first_row[p].fields.get("split") or "train" for p in (path, first)}
            if len(splits) > 1:
                found += ", which is in the other split"
            yield _finding(first_row[path], "duplicate", WARNING, found, wanted, other=other)


def _unused(root: Path, rows: list[Row], kind: MediaKind) -> Iterable[Finding]:
    """Files beside a manifest that no tuple speaks of, struck or not."""
    if find_manifest(root) is None:
        return
    used = {entry[0] for row in rows if (entry := row_entry(row, root))}
    used |= {name for name, _ in read_struck(root)}
    unused = [name for name in kind.names(root) if file_key(name, root) not in used]
    if unused:
        found = f"{counted(len(unused), kind.one)} in no tuple, such as {unused[0]}"
        yield Finding(SET, "unused", WARNING, found, "a tuple for each, or the files elsewhere")


# ---------------------------------------------------------------- the set


def _kinds(rows: list[Row]) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for row in rows:
        if (row.fields.get("split") or "train") == "train":
            times = row.fields.get("repeats")
            kinds[str(row.fields.get("edit_type") or "")] += times if type(times) is int else 1
    return kinds


def _rare(kinds: Counter[str]) -> Iterable[Finding]:
    share = kinds.total() / max(1, len(kinds))
    for kind, number in kinds.items():
        if number < share * RARE:
            found = f"edit type {kind!r} has {number} of {kinds.total()} tuples"
            yield Finding(SET, "balance", WARNING, found, f"about {share:.0f}, an even share")


def grouped(findings: Iterable[Finding]) -> dict[Finding, list[Finding]]:
    """Findings that say the same of several tuples, under the first of them."""
    groups: defaultdict[tuple, list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding[1:5] + (finding.field,)].append(finding)
    return {group[0]: group for group in groups.values()}
