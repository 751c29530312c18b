"""Texts are UTF-8, or UTF-16 with a mark; else the message says where and what would fit."""

from __future__ import annotations

import pytest

from byg_train.text_files import TextFileError, decode, is_blank, unprintable

TEXTS = {
    "cp1252": ("Windows-1252", "ein grüner Hügel", "año", "ÉTÉ à la mer", "“quoted”, l’été"),
    "cp1250": ("Windows-1250", "příliš žluťoučký kůň"),
    "cp1251": ("Windows-1251", "Красная кошка на траве", "красная кошка, a cat"),
    "koi8_r": ("KOI8-R", "Красная кошка на траве", "красная кошка"),
    "cp932": ("Shift-JIS", "猫がソファで寝ている", "a cat (ねこ) on grass"),
    "euc_jp": ("EUC-JP", "猫がソファで寝ている"),
    "gbk": ("GBK", "一只猫坐在沙发上", "红色的汽车，停在路边。"),
    "big5": ("Big5", "一隻貓坐在沙發上"),
    "cp949": ("EUC-KR", "고양이가 소파에 앉아 있다"),
    "mac_roman": ("Mac Roman", "un café noir"),
    "utf-16-le": ("UTF-16 without a byte order mark", "a cat", "café", "猫がソファで寝ている。"),
    "utf-16-be": ("UTF-16 without a byte order mark", "a cat", "猫がソファで寝ている。"),
    "utf-32": ("UTF-32", "a cat"),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_is_read(encoding: str) -> None:
    for text in ("a cat\r\non grass", "猫 😺 é", ""):
        assert decode(text.encode(encoding), "a.txt") == text


@pytest.mark.parametrize(
    ("codec", "name", "text"),
    [(codec, name, text) for codec, (name, *texts) in TEXTS.items() for text in texts],
)
def test_another_encoding_is_named(codec: str, name: str, text: str) -> None:
    with pytest.raises(TextFileError, match=r"^a\.txt ") as error:
        decode(text.encode(codec), "a.txt")
    assert name in str(error.value) and "UTF-8" in str(error.value)


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"one\ntwo\xe9 \nthree", "byte 0xE9 at offset 7, line 2"),
        (b"ab\0cd", "NUL byte at offset 2"),
        (b"\xff\xfea\0b", "cut short at byte 4"),
        (b"\x89PNG\r\n\x1a\n\0\0\xff\x81", "it is no text"),
    ],
)
def test_the_place_is_told(data: bytes, place: str) -> None:
    with pytest.raises(TextFileError, match=place):
        decode(data, "a.txt")


def test_what_shows_nothing_is_blank() -> None:
    for text in (
        "",
        " \t\n",
        "\u200b\u200d\ufeff",
        "\0\0",
        "\x01\x1b",
        "\u00a0\u3000",
        "\u3164\u2800",
    ):
        assert is_blank(text), repr(text)
    for text in ("a", "。", "😺", "\u200ba"):
        assert not is_blank(text), repr(text)


def test_what_no_text_may_have() -> None:
    assert [unprintable(t) for t in ("a\tb\n", "می‌خواهم", "a\0", "x\ud83d", "\x1b[1m")] == [
        "", "", "U+0000", "U+D83D", "U+001B",
    ]  # fmt: skip
