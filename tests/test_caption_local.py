"""A tiny random Qwen3-VL, laid out as on the hub: --vlm loads it, shows pictures, keeps answers."""

from __future__ import annotations

import asyncio
import json
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from tiny_vlm import SPECIAL
from typer.testing import CliRunner

from byg_train.cli.app import app
from byg_train.data import DataError
from byg_train.data.vlm.local import LocalModel


def jpeg(color: str) -> bytes:
    data = BytesIO()
    Image.new("RGB", (100, 60), color).save(data, "JPEG")
    return data.getvalue()


def test_it_answers_about_what_it_is_shown(vlm: Path) -> None:
    model = LocalModel(str(vlm), device="cpu", max_tokens=12, temperature=0)
    red = asyncio.run(model.ask("What is this?", [jpeg("red")]))
    assert asyncio.run(model.ask("What is this?", [jpeg("red")])) == red
    assert asyncio.run(model.ask("What is this?", [jpeg("white")])).text != red.text
    # 64 x 32 pixels are 2 x 1 merged patches; the template's words are one token per letter.
    around = len("user\n\nassistant\n") + len(SPECIAL[1:4]) + 2
    assert red.asked == around + 2 + len("What is this?")
    assert (red.answered, red.cut) == (12, True)
    two = asyncio.run(model.ask("What is this?", [jpeg("red")] * 2))
    assert two.asked == red.asked + 4
    text = asyncio.run(model.ask("What is this?", []))
    assert text.asked == red.asked - 4


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no vision-language model"):
        LocalModel(str(tmp_path), device="cpu", max_tokens=1, temperature=None)


def test_a_folder_is_captioned_without_a_server(vlm: Path, tmp_path: Path) -> None:
    """What a random model says cannot be used, but it is kept, and not asked for again."""
    Image.new("RGB", (40, 40), "teal").save(tmp_path / "a.png")
    command = ["data", "caption", str(tmp_path), "--vlm", str(vlm), "--device", "cpu"]
    for _ in range(2):
        result = CliRunner().invoke(app, [*command, "--max-tokens", "8", "--tries", "2"])
        assert result.exit_code == 1
        assert "a.png: 2 unusable answers, the last: it was too long" in result.output
    journal = (tmp_path / ".byg_caption" / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["tokens"][1] for line in journal] == [8, 8]
    assert not (tmp_path / "metadata.jsonl").exists()
