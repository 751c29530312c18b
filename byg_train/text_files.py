"""Reading text files: UTF-8 with or without a byte order mark, UTF-16 with one, and nothing else.

A guess would turn a caption into garbage without a word, so any other encoding is refused, and the
message says where it shows and which encoding would fit.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

# Beginning of a file -> the encoding that it announces; UTF-32's begins with UTF-16's.
MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
NO_TEXT = "it is no text, or in an encoding that is not known here"
SAVE_AS = "save it as UTF-8"
# Characters that a message quotes around the place of a fault.
QUOTED = 12
# Of a Western text fewer than this part of its letters is beyond ASCII.
WESTERN = 0.4
# Marks beyond ASCII that stand in a text of any alphabet.
MARKS_OF_TEXT = "‘’“”„–—…«»¿¡©®°·•€£№´½¼²³™\xa0"


class TextFileError(ValueError):
    """A text that cannot be read; the message names the file, the place and what would fit."""


class Encoding(NamedTuple):
    """An encoding that files are met in, and the characters beyond ASCII that its texts have."""

    name: str
    codec: str
    letters: str  # a class of characters
    mixes: bool = True  # whether one word may have letters of ASCII as well
    telling: str = ""  # a class of which every text has some


LATIN, CYRILLIC, GREEK, KANA = "À-ÖØ-öø-žŸ", "Ѐ-џҐґ", "Ά-ώ", "\u3040-\u30ff"
CHINESE = "\u4e00-\u9fff\u3000-\u303f\uff00-\uffef"
ASIAN = (
    Encoding("Shift-JIS", "cp932", CHINESE + KANA, telling=KANA),
    Encoding("EUC-JP", "euc_jp", CHINESE + KANA, telling=KANA),
    Encoding("EUC-KR", "cp949", CHINESE + "\uac00-\ud7a3", telling="\uac00-\ud7a3"),
    Encoding("Windows-1251", "cp1251", CYRILLIC, mixes=False),
    Encoding("KOI8-R", "koi8_r", CYRILLIC, mixes=False),
    Encoding("GBK", "gbk", CHINESE),
    Encoding("Big5", "big5", CHINESE),
    Encoding("Windows-1253", "cp1253", GREEK, mixes=False),
)
EUROPEAN = (
    Encoding("Windows-1252", "cp1252", LATIN),
    Encoding("Windows-1250", "cp1250", LATIN),
    Encoding("Mac Roman", "mac_roman", LATIN),
    Encoding("DOS code page 850", "cp850", LATIN),
)


def read_text(path: Path) -> str:
    """The text of a file; TextFileError if it is not in UTF-8, or UTF-16 with a byte order mark."""
    return decode(path.read_bytes(), str(path))


def decode(data: bytes, name: str) -> str:
    """The text in the bytes of `name`, line ends as they are; TextFileError as `read_text`."""
    encoding = next((codec for mark, codec in MARKS if data.startswith(mark)), "utf-8")
    try:
        if encoding == "utf-32":
            raise TextFileError(f"{name} is in UTF-32; {SAVE_AS}")
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise TextFileError(_refusal(data, name, encoding, error.start)) from None
    # Bytes of UTF-16 are valid UTF-8. Nothing but zeros is what a crash leaves: an empty text.
    if "\0" in text and text.strip("\0"):
        at = data.find(b"\0")
        fits = _wide(data)
        hint = f"it is UTF-16 without a byte order mark ({fits}); {SAVE_AS}" if fits else NO_TEXT
        raise TextFileError(f"{name} holds a NUL byte at offset {at}: {hint}")
    return text


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: blanks, control characters, characters of no width."""
    return all(unicodedata.category(c)[0] in "CZ" or c in "\u115f\u2800\u3164" for c in text)


def unprintable(text: str) -> str:
    """The first character that no text may have, as `U+0000`: a control, or half of one."""
    found = (c for c in text if c not in "\t\n\r\f\v" and unicodedata.category(c) in ("Cc", "Cs"))
    return next((f"U+{ord(c):04X}" for c in found), "")


def _refusal(data: bytes, name: str, encoding: str, at: int) -> str:
    if encoding == "utf-16":
        return f"{name} is UTF-16 that is cut short at byte {at}; save it again as UTF-8"
    place = f"byte 0x{data[at]:02X} at offset {at}, line {data.count(10, 0, at) + 1}"
    found = f"{name} is not UTF-8 text ({place})"
    if wide := _wide(data):
        return f"{found}: it is UTF-16 without a byte order mark ({wide}); {SAVE_AS}"
    fits = _fitting(data)
    if fits is None:
        return f"{found}: {NO_TEXT}"
    before = len(data[:at].decode(fits.codec, "ignore"))
    quoted = data.decode(fits.codec)[max(0, before - QUOTED) : before + QUOTED].split()
    return f"{found}: it looks like {fits.name} ({' '.join(quoted)!r}); {SAVE_AS}"


def _wide(data: bytes) -> str:
    """The beginning of a text in UTF-16 without a mark; nothing if it is none."""
    for codec in ("utf-16-le", "utf-16-be"):
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            continue
        # In the wrong byte order, blanks and line ends become letters of distant scripts.
        if any(c.isascii() or "\u3000" <= c <= "\u30ff" for c in text) and not _strange(text):
            return repr(" ".join(text[: 2 * QUOTED].split()))
    return ""


def _strange(text: str) -> bool:
    kinds = (unicodedata.category(c) for c in text if c not in "\r\n\t\ufeff")
    return any(kind in ("Cc", "Cn", "Co", "Cs") for kind in kinds)


def _fitting(data: bytes) -> Encoding | None:
    """The encoding in which all that is beyond ASCII makes sense; None if none is known."""
    beyond = sum(byte > 0x7F for byte in data)
    letters = beyond + sum(byte < 0x80 and chr(byte).isalpha() for byte in data)
    western = beyond < WESTERN * letters
    for encoding in (*EUROPEAN, *ASIAN) if western else (*ASIAN, *EUROPEAN):
        try:
            if _makes_sense(data.decode(encoding.codec), encoding):
                return encoding
        except UnicodeDecodeError:
            continue
    return None


def _makes_sense(text: str, encoding: Encoding) -> bool:
    """Whether letters are of one script and no word changes its case in the middle."""
    if re.search(rf"[^\0-\x7f{encoding.letters}{MARKS_OF_TEXT}]", text):
        return False
    words = [word for word in re.findall(r"[^\W\d_]+", text) if not word.isascii()]
    cased = all(word in (word.lower(), word.upper(), word.title()) for word in words)
    mixed = any(re.search("[A-Za-z]", word) for word in words)
    told = not encoding.telling or re.search(f"[{encoding.telling}]", text)
    # KOI8-R is Windows-1251 with the cases exchanged, and nobody writes in capitals alone.
    alone = encoding.mixes or not (mixed or all(map(str.isupper, words)))
    return bool(told and cased and alone)
