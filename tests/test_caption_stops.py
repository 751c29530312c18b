"""`data caption` killed, interrupted, refused, and gone on with."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import caption_runs
import pytest
from caption_runs import items, pictures, run
from chat_server import Answer, Asked, ChatServer, moody, plain
from data_sets import rows

from byg_train.data.vlm.journal import Journal

ROOT = Path(__file__).parents[1]
KILLED = 1 if os.name == "nt" else -signal.SIGKILL
key = caption_runs.key  # used by every test


# ---------------------------------------------------------------- killed


def start(root: Path, server: ChatServer, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "byg_train", "data", "caption", str(root)]
    where = ["--endpoint", server.url, "--model", "m"]
    return subprocess.Popen(
        [*command, *where, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_killed_at_random_points_nothing_is_lost_or_asked_twice(tmp_path: Path) -> None:
    root, whole = pictures(tmp_path / "data", 80), pictures(tmp_path / "whole", 80)
    dice, concurrency, met, errors = random.Random(11), 4, set(), []

    def deadly(asked: Asked, before: int) -> Answer:
        if len(server.asked) == kill_at:
            process.kill()
        answer = moody(asked, asked.key in met)
        met.add(asked.key)
        errors.extend([asked.key] if answer.status != 200 or answer.cut else [])
        headers = {"Retry-After": "0.1"} if answer.headers else {}
        return replace(answer, headers=headers, delay=dice.random() * 0.02)

    stored = b""
    with ChatServer(deadly) as server:
        for most in (30, 30, 30, None):
            before = len(server.asked)
            kill_at = before + dice.randrange(10, most) if most else None
            process = start(root, server, "--concurrency", str(concurrency))
            output = process.communicate()[0]
            assert process.returncode == (KILLED if most else 0), output
            # What was stored stays stored, byte for byte, and what it settled is not asked again.
            journal = (root / ".byg_caption" / "journal.jsonl").read_bytes()
            assert journal.startswith(stored)
            done = {
                row["file_name"] for row in map(json.loads, stored.splitlines()) if "result" in row
            }
            assert not done & {f"{a.key}.png" for a in server.asked[before:]}
            stored = journal[: journal.rfind(b"\n") + 1]
    prompts = Counter(a.prompt for a in server.asked)
    assert sum(n - 1 for n in prompts.values()) <= 3 * concurrency + len(errors)
    # A run that was never killed ends in the same texts.
    with ChatServer(moody) as server:
        assert run(whole, server).exit_code == 0
    assert (root / "metadata.jsonl").read_bytes() == (whole / "metadata.jsonl").read_bytes()
    assert len(items(root)) == 80


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a child")
def test_ctrl_c_writes_what_is_there(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 30)

    def patient(asked: Asked, before: int) -> Answer:
        if len(server.asked) == 12:
            process.send_signal(signal.SIGINT)
        return replace(plain(asked), delay=2 if len(server.asked) >= 12 else 0)

    with ChatServer(patient) as server:
        process = start(root, server, "--concurrency", "2")
        output = process.communicate()[0]
        assert process.returncode == 130, output
    assert "same command" in output
    assert 10 <= len(items(root)) <= 11


def test_a_full_disk_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, append = pictures(tmp_path / "data", 6), Journal.append

    def full(journal: Journal, entry: dict) -> None:
        if journal.answers == 4:
            raise OSError(errno.ENOSPC, "No space left on device", str(journal.path))
        append(journal, entry)

    with ChatServer() as server:
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "append", full)
            result = run(root, server, "--concurrency", "1")
        assert result.exit_code == 2
        assert "the disk is full" in result.output and "the same command again" in result.output
        assert run(root, server).exit_code == 0
        assert len(items(root)) == 6 and len(server.asked) == 7


# ---------------------------------------------------------------- what ends a run


def error(status: int, message: str, **headers: str) -> Answer:
    return Answer(status=status, raw=json.dumps({"error": {"message": message}}), headers=headers)


HOPELESS = {
    "wrong key": (error(401, "no such key"), 1, "refuses the key.*no such key"),
    "wrong model": (error(404, "no model m"), 1, "has no model 'm'.*no model m"),
    "no pictures": (error(400, "no pictures"), 20, "20 questions in a row.*no pictures"),
    "broken": (Answer(status=500, raw="oh"), 10, "5 questions in a row got no answer"),
    "another page": (Answer(raw="<p>", headers={"Content-Type": "text/html"}), 5, "no chat compl"),
    "no choices": (Answer(raw='{"choices": []}'), 5, "no chat completion"),
    "half of JSON": (Answer(raw="{"), 5, "no chat completion"),
    "connection": (Answer("x", cut=True), 10, "the connection broke"),
    "too slow": (Answer("x", delay=1), 10, "no answer within 0.3 s"),
    "too long a wait": (error(429, "tomorrow", **{"Retry-After": "86400"}), 5, "tomorrow"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", HOPELESS)
def test_a_server_that_never_answers_ends_the_run(tmp_path: Path, what: str) -> None:
    answer, asked, message = HOPELESS[what]
    root = pictures(tmp_path / "data", 22)
    options = ["--timeout", "0.3"] if what == "too slow" else []
    with ChatServer(lambda question, before: answer) as server:
        result = run(root, server, "--concurrency", "1", "--retries", "1", *options)
        assert len(server.asked) == asked
    assert result.exit_code == 1
    assert re.search(message, result.output)
    assert "same command" in result.output
    # None of this counts as an answer: once the server is in health, all are asked.
    with ChatServer() as server:
        assert run(root, server).exit_code == 0
        assert len(server.asked) == 22


def test_nobody_listens(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 3)
    with ChatServer() as server:
        pass
    result = run(root, server)
    assert result.exit_code == 1
    assert "cannot be reached" in result.output
    assert "is the server running?" in result.output


def test_one_bad_picture_does_not_stop_the_others(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 12)
    (root / "3.png").write_bytes(b"no picture")

    def picky(asked: Asked, before: int) -> Answer:
        return error(400, "unsafe") if asked.key == "7" else plain(asked)

    with ChatServer(picky) as server:
        result = run(root, server)
    assert result.exit_code == 0
    assert "2 of 12 files have no tuple" in result.output
    assert "3.png: it cannot be read" in result.output
    assert "unsafe" in result.output
    assert len(rows(root)) == 10


@pytest.mark.slow
def test_pictures_that_a_server_refuses_do_not_stand_in_the_way(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 40)

    def strict(asked: Asked, before: int) -> Answer:
        return plain(asked) if len(server.asked) == 1 else error(400, "unsafe")

    with ChatServer(strict) as server:
        assert run(root, server, "--concurrency", "1").exit_code == 0
        assert len(server.asked) == 40


def test_a_server_that_wants_the_limit_under_its_newer_name(tmp_path: Path) -> None:
    root = pictures(tmp_path / "data", 4)

    def new(asked: Asked, before: int) -> Answer:
        if "max_tokens" in asked.body:
            return error(400, "use max_completion_tokens")
        return plain(asked)

    with ChatServer(new) as server:
        assert run(root, server).exit_code == 0
    assert len(items(root)) == 4
    assert {a.body.get("max_completion_tokens") for a in server.asked} == {None, 8192}
