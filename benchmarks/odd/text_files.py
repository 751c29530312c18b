"""Captions, templates, lists and settings in encodings and shapes that people's tools write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.odd.case import Case, captioned, check, found, styles, tuples

GERMAN, JAPANESE, RUSSIAN = "ein grüner Hügel", "猫がソファで寝ている", "красная кошка на траве"
READ = {
    "UTF-8": GERMAN.encode(),
    "UTF-8 with a BOM": GERMAN.encode("utf-8-sig"),
    "UTF-16 LE with a BOM": GERMAN.encode("utf-16"),
    "UTF-16 BE with a BOM": b"\xfe\xff" + JAPANESE.encode("utf-16-be"),
    "Windows line ends": b"a cat\r\non grass\r\n",
    "old Mac line ends": b"a cat\ron grass\r",
    "an emoji": "a cat 😺 on grass".encode(),
    "joined emoji": "a family 👨‍👩‍👧 on grass".encode(),
    "Persian with a joiner": "می‌خواهم".encode(),
    "blank lines around": b"\n\n  a cat  \n\n",
}
REFUSED = {
    "cp1252": (GERMAN.encode("cp1252"), "encoding", "Windows-1252"),
    "cp1252 quotes": ("“a sign”, he said — open".encode("cp1252"), "encoding", "offset 0"),
    "Latin-1 on line 2": (b"a cat\nim caf\xe9 \n", "encoding", "line 2"),
    "cp1250": ("příliš žluťoučký kůň na louce".encode("cp1250"), "encoding", "Windows-1250"),
    "cp1251": (RUSSIAN.encode("cp1251"), "encoding", "Windows-1251"),
    "Greek": ("Ελληνικά, η γάτα".encode("iso8859-7"), "encoding", "Windows-1253"),
    "KOI8-R": (RUSSIAN.encode("koi8_r"), "encoding", "KOI8-R"),
    "Shift-JIS": (JAPANESE.encode("cp932"), "encoding", "Shift-JIS"),
    "EUC-JP": (JAPANESE.encode("euc_jp"), "encoding", "EUC-JP"),
    "GBK": ("一只猫坐在沙发上".encode("gbk"), "encoding", "GBK"),
    "Big5": ("一隻貓坐在沙發上".encode("big5"), "encoding", "Big5"),
    "EUC-KR": ("고양이가 소파에 앉아 있다".encode("cp949"), "encoding", "EUC-KR"),
    "Mac Roman": ("un café noir".encode("mac_roman"), "encoding", "Mac Roman"),
    "UTF-16 LE without a BOM": (b"a\0 \0c\0a\0t\0", "encoding", "UTF-16 without a byte order mark"),
    "UTF-16 BE without a BOM": (b"\0a\0 \0c\0a\0t", "encoding", "UTF-16 without a byte order mark"),
    "Japanese UTF-16 without a BOM": (f"{JAPANESE}。".encode("utf-16-le"), "encoding", "UTF-16"),
    "UTF-16 cut short": ("a cat".encode("utf-16")[:-1], "encoding", "cut short"),
    "UTF-32": ("a cat".encode("utf-32"), "encoding", "UTF-32"),
    "a NUL in the middle": (b"a cat\0on grass", "encoding", "offset 5"),
    "a PNG": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\x81", "encoding", "no text"),
    "nothing": (b"", "empty text", "0.txt is empty"),
    "blanks": (b" \t\r\n", "empty text", "0.txt is empty"),
    "a BOM alone": (b"\xef\xbb\xbf", "empty text", "0.txt is empty"),
    "zero-width characters": ("\u200b\u200d\ufeff".encode(), "empty text", "0.txt is empty"),
    "no-break blanks": ("\u00a0\u3000".encode(), "empty text", "0.txt is empty"),
    "zeros, as after a crash": (b"\0\0\0\0", "empty text", "0.txt is empty"),
    "control characters": (b"\x01\x02\x1b", "empty text", "0.txt is empty"),
    "filler letters": ("\u3164\u2800".encode(), "empty text", "0.txt is empty"),
}
ENDINGS = ("0.TXT", "0.Txt", "0.caption", "0.Caption", "0.CAPTION", "0.png.txt")


def _caption(data: bytes, root: Path) -> list[object]:
    captioned(styles(root) / "photo" / "0.png", 0, data)
    return check(root)


def _named(name: str, root: Path) -> list[object]:
    (styles(root) / "photo" / "0.txt").rename(root / "photo" / name)
    return check(root)


def _beside(name: str, root: Path) -> list[object]:
    """The picture `0.png` has no caption file but this one, which is none."""
    (styles(root) / "photo" / "0.txt").rename(root / "photo" / name)
    return check(root)


def _templates(data: bytes, root: Path) -> list[object]:
    (styles(root) / "styles.toml").write_bytes(data)
    return check(root)


def _settings(data: bytes, root: Path) -> list[object]:
    (root / "run.toml").write_bytes(data)
    return ["--config", root / "run.toml", "--print-config"]


def _prompts(data: bytes, root: Path) -> list[object]:
    (root / "prompts.txt").write_bytes(data)
    words = ["data", "generate", "--style", "ink", "--captions", root / "prompts.txt"]
    return [*words, "--output", root / "out", "--count", "1", "--dry-run"]


def cases() -> Iterator[Case]:
    for name, data in READ.items():
        yield Case(f"a caption: {name}", partial(_caption, data), 0, (), tuples(4))
    for name, (data, rule, words) in REFUSED.items():
        yield Case(
            f"a caption: {name}", partial(_caption, data), 1, (), found(rule, words, times=1)
        )
    for name in ENDINGS:
        yield Case(f"a caption in {name}", partial(_named, name), 0, (), tuples(4))
    for name in ("0.md", "0.json", "0.text", "0 .txt"):
        yield Case(f"a note in {name}", partial(_beside, name), 1, (), found("no caption", "0.png"))
    yield from _toml(_templates, 'caption = "{caption}, in {style}"\n', (), (0, 2))
    yield from _toml(_settings, 'preset = "flux_style"\nseed = 7\n', ("seed = 7",), (0, 2))


def _toml(
    lay: Callable[[bytes, Path], list[object]], text: str, says: tuple[str, ...], codes: tuple
) -> Iterator[Case]:
    """The same TOML in several encodings."""
    good, bad = codes
    what = lay.__name__.strip("_")
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        yield Case(f"{what} in {encoding}", partial(lay, text.encode(encoding)), good, says)
    umlaut = f"# für später\n{text}"
    yield Case(f"{what} in cp1252", partial(lay, umlaut.encode("cp1252")), bad, ("Windows-1252",))
    wide = text.encode("utf-16-le")
    yield Case(f"{what} in UTF-16 without a BOM", partial(lay, wide), bad, ("byte order mark",))
    yield Case(f"{what} of broken TOML", partial(lay, text.encode() + b"= 3"), bad, ("line 3",)
               if text.count("\n") == 2 else ("line 2",))  # fmt: skip
