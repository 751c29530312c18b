"""Folders of small pictures, `data caption` run on them, and what came of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer
from PIL import Image
from typer.testing import CliRunner, Result

from byg_train.cli.app import app
from byg_train.config import DataConfig
from byg_train.data.items import Item, load_items


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("COLUMNS", "200")


def pictures(root: Path, number: int, first: int = 0) -> Path:
    """Small pictures, each with its number in a caption beside it."""
    root.mkdir(exist_ok=True)
    for i in range(first, first + number):
        Image.new("RGB", (20, 20), "teal").save(root / f"{i}.png")
        (root / f"{i}.txt").write_text(f"a car, number {i}")
    return root


def run(root: Path, server: ChatServer | None, *options: str) -> Result:
    where = ["--endpoint", server.url, "--model", "m"] if server else []
    command = ["data", "caption", str(root), *where, *options]
    return CliRunner().invoke(app, command, catch_exceptions=False)


def items(root: Path) -> list[Item]:
    """What training reads."""
    return load_items(DataConfig(path=root, holdout=0), multiple=16).train


def journal_lines(root: Path) -> list[dict[str, Any]]:
    found = []
    for line in (root / ".byg_caption" / "journal.jsonl").read_bytes().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # torn
    return found
