"""What the texts of a tuple may not say, and what they had better not (appendix D.1).

Words count as whole words, in any case. What stands in quotation marks is lettering in the picture
and never counts.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

ERROR, WARNING = "error", "warning"


class Slip(NamedTuple):
    """A wording that training would suffer from."""

    field: str  # which text
    rule: str
    level: str
    words: str  # as they stand there
    at: int  # where they begin
    wanted: str


class Rule(NamedTuple):
    """Wordings that do not belong into a text, and what does."""

    field: str
    name: str
    level: str
    pattern: re.Pattern[str]
    wanted: str


def _any(*wordings: str) -> re.Pattern[str]:
    """Any of these wordings as whole words; `no` stands neither in `nose` nor in `no-entry`."""
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
# Styles by name; words that also stand for things ("a photo on the wall") are left out.
STYLE = _any(
    "cartoons?", "anime", "animat(?:ed|ion)", "cgi", "3d", "pixel art", "claymation", "low-poly",
    "watercolou?r", "oil painting", "live-action", "photo-?real(?:istic|ism)?",
)  # fmt: skip
PRONOUN = _any("it", "them", "this one", "that one")
# A noun phrase: what a pronoun after it may stand for.
NOUN = re.compile(r"\b(?:the|an?|his|her|their|all|every)\s+\w", re.IGNORECASE)


def slips(fields: dict[str, Any], edit_type: str = "") -> list[Slip]:
    """Everything in a tuple's texts that these rules find; what is no text is left alone."""
    texts = {name: _unquoted(text) for name, text in fields.items() if isinstance(text, str)}
    found = []
    for rule in RULES:
        for match in rule.pattern.finditer(texts.get(rule.field, "")):
            found.append(Slip(*rule[:3], match[0], match.start(), rule.wanted))
    if edit_type.startswith("style"):
        found += _kept_styles(texts)
    else:  # In an edit of the whole picture `it` is the picture.
        for field in ("instruction", "reverse_instruction"):
            found += _pronouns(field, texts.get(field, ""))
    return found


def _kept_styles(texts: dict[str, str]) -> list[Slip]:
    """Styles that both captions name, though the edit changes the style (appendix D.2)."""
    source, target = (texts.get(name, "") for name in ("src_caption", "tgt_caption"))
    before = {match[0].casefold() for match in STYLE.finditer(source)}
    wanted = "what is seen, in no style: the edit changes it (`data caption` rewrites captions so)"
    return [
        Slip("tgt_caption", "style in caption", WARNING, match[0], match.start(), wanted)
        for match in STYLE.finditer(target)
        if match[0].casefold() in before
    ]


def _pronouns(field: str, text: str) -> list[Slip]:
    """The first pronoun, if nothing before it is named."""
    match = PRONOUN.search(text)
    if match is None or NOUN.search(text[: match.start()]):
        return []
    return [Slip(field, "unnamed object", WARNING, match[0], match.start(), NAMED)]


def _unquoted(text: str) -> str:
    """The text with its lettering blotted out, every letter at its place."""
    return QUOTED.sub(lambda match: "\0" * len(match[0]), text)
