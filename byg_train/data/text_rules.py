"""Rules on the wording of a tuple's texts: what is an error, what is a warning (appendix D.1).

Patterns match whole words, in any letter case. Text in quotation marks is lettering that the
picture shows; the rules ignore it.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

ERROR, WARNING = "error", "warning"


class Violation(NamedTuple):
    """A place where a text breaks a rule."""

    field: str  # which text
    rule: str
    level: str  # ERROR or WARNING
    words: str  # the offending words, as they appear in the text
    start: int  # their position in the text
    wanted: str


class Rule(NamedTuple):
    """A wording that does not belong in a text, and what belongs there."""

    field: str
    name: str
    level: str
    pattern: re.Pattern[str]
    wanted: str


def _any(*wordings: str) -> re.Pattern[str]:
    """Match any of these wordings as whole words: `no` matches neither `nose` nor `no-entry`."""
    joined = "|".join(wording.replace(" ", r"\s+") for wording in wordings)
    return re.compile(rf"(?<![\w-])(?:{joined})(?![\w-])", re.IGNORECASE)


FINAL = "the edited picture described as if there had never been another"
PRESENT = "what is there; the model draws what a caption names, also after 'without'"
SELF_CONTAINED = "what to do to the edited picture, such as 'Paint the car red'"
NAMED = "the thing by its name"
RULES = (
    Rule(
        "tgt_caption",
        "change in caption",
        ERROR,
        _any(
            "now", "no longer", "(?:has|have|had) been", "becom(?:e|es|ing)", "became",
            "changed (?:in)?to", "(?:turned|transformed|converted) into", "replaced (?:with|by)",
        ),
        FINAL,
    ),
    Rule("tgt_caption", "change in caption", WARNING, _any("after"), FINAL),
    Rule(
        "tgt_caption",
        "absence in caption",
        WARNING,
        _any("without", r"no(?!\s+longer)", "not", r"\w+n['’]t", "lack(?:s|ing)", "missing"),
        PRESENT,
    ),
    Rule(
        "reverse_instruction",
        "points at the past",
        ERROR,
        _any(
            "restor(?:e|es|ed|ing)", "revert(?:s|ed|ing)?", "undo(?:es|ing|ne)?", "original(?:ly)?",
            r"(?<!his\s)(?<!her\s)(?<!its\s)(?<!their\s)back to", "previous(?:ly)?",
            "as (?:it was )?before",
        ),
        SELF_CONTAINED,
    ),
    *(
        Rule(field, "speaks of a caption", ERROR,
             _any("(?:source|target|src|tgt)[ _]caption"), "what to change in the picture")
        for field in ("instruction", "reverse_instruction")
    ),
    *(
        Rule(field, "unnamed object", WARNING,
             _any("(?:the|this|that|these|those) (?:main )?(?:objects?|items?|things?|subjects?)"),
             NAMED)
        for field in ("instruction", "reverse_instruction")
    ),
)  # fmt: skip
# Lettering: "...", “...”, «...», and '...' where the marks are no apostrophes.
QUOTED = re.compile(
    r"\"[^\"]*\"|“[^”]*”|„[^“”]*[“”]|«[^»]*»|‘(?:[^’]|(?<=\w)’(?=\w))*’"
    r"|(?<!\w)'(?:[^']|(?<=\w)'(?=\w))*'(?!\w)"
)
# Names of styles; words that can also name things ("a photo on the wall") are left out.
STYLE = _any(
    "cartoons?", "anime", "animat(?:ed|ion)", "cgi", "3d", "pixel art", "claymation", "low-poly",
    "watercolou?r", "oil painting", "live-action", "photo-?real(?:istic|ism)?",
)  # fmt: skip
PRONOUN = _any("it", "them", "this one", "that one")
# A noun phrase that a later pronoun can refer to.
NOUN = re.compile(r"\b(?:the|an?|his|her|their|all|every)\s+\w", re.IGNORECASE)


def violations(fields: dict[str, Any], edit_type: str = "") -> list[Violation]:
    """Return every violation in the texts of a tuple; values that are not texts are ignored."""
    texts = {name: _unquoted(text) for name, text in fields.items() if isinstance(text, str)}
    broken = []
    for rule in RULES:
        for match in rule.pattern.finditer(texts.get(rule.field, "")):
            broken.append(Violation(*rule[:3], match[0], match.start(), rule.wanted))
    if edit_type.startswith("style"):
        broken += _kept_styles(texts)
    else:  # In an edit of the whole picture, `it` is the picture.
        for field in ("instruction", "reverse_instruction"):
            broken += _pronouns(field, texts.get(field, ""))
    return broken


def _kept_styles(texts: dict[str, str]) -> list[Violation]:
    """Find styles that both captions name although the edit changes the style (appendix D.2)."""
    source, target = (texts.get(name, "") for name in ("src_caption", "tgt_caption"))
    before = {match[0].casefold() for match in STYLE.finditer(source)}
    wanted = "what is seen, in no style: the edit changes it (`data caption` rewrites captions so)"
    return [
        Violation("tgt_caption", "style in caption", WARNING, match[0], match.start(), wanted)
        for match in STYLE.finditer(target)
        if match[0].casefold() in before
    ]


def _pronouns(field: str, text: str) -> list[Violation]:
    """Find the first pronoun, if no noun precedes it."""
    match = PRONOUN.search(text)
    if match is None or NOUN.search(text[: match.start()]):
        return []
    return [Violation(field, "unnamed object", WARNING, match[0], match.start(), NAMED)]


def _unquoted(text: str) -> str:
    """Blank out quoted lettering and keep the position of every other character."""
    return QUOTED.sub(lambda match: "\0" * len(match[0]), text)
