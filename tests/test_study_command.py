"""`study` and `study report`: a real process that serves, and what is printed of its votes."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from cli_runs import byg
from study_folders import items_of, make_folders

from byg_train.cli import study as study_module
from byg_train.media.writer import write_clip
from byg_train.study.votes import VoteFile

ROOT = Path(__file__).parents[1]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_folders(tmp_path)
    return tmp_path


def refused(result: Any, *words: str) -> None:
    assert result.exit_code == 2, result.output
    for word in words:
        assert word in result.stderr, result.stderr


@pytest.mark.slow
def test_mistakes_are_one_sentence(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    where = ("--sources", root / "sources")
    refused(byg("study", "first", "second"), "--sources is missing")
    refused(byg("study", "first", *where), "two folders", "report")
    refused(byg("study", "first", "first", *where), "compared with itself")
    refused(byg("study", "first", "second", *where, "--per-rater", 0), "--per-rater 0")
    refused(byg("study", "first", "second", *where, "--instruction", " "), "--instruction is empty")
    refused(byg("study", "first", "none", *where), "none is not a folder")
    refused(byg("study", "report"), "no file of votes study.sqlite")
    refused(byg("study", "first", "second", *where, "--port", 99999), "--port 99999")
    refused(byg("study", "report"), "holds no votes yet")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(byg("study", "first", "second", *where, "--port", port), f"--port {port}")


@pytest.mark.slow
def test_clips_that_phones_may_not_show_are_told(tmp_path: Path) -> None:
    for method in ("sources", "first", "second"):
        for name, size in (("even", (16, 16)), ("odd", (17, 16))):
            pixels = np.full((*size, 3), len(method), np.uint8)
            (tmp_path / method).mkdir(exist_ok=True)
            write_clip(tmp_path / method / f"{name}.mp4", [pixels] * 2, Fraction(8))
    (tmp_path / "first/even.mp4").write_bytes(b"no clip")
    folders = (tmp_path / "first", tmp_path / "second", "--sources", tmp_path / "sources")
    told = byg("study", *folders, "--instruction", "x", "--votes", tmp_path / "v", "--port", 99999)
    refused(told, "--port 99999")  # what is told before anything is served
    text = told.stderr
    assert "4 clips whose pixels are not yuv420p" in text and "ffmpeg -i" in text
    for method in ("sources", "first", "second"):
        assert f"{tmp_path / method / 'odd.mp4'}: yuv444p" in text
    assert f"{tmp_path / 'first/even.mp4'}: nothing that can be read" in text
    assert text.count("even.mp4") == 1


def start(root: Path, *more: str) -> tuple[subprocess.Popen[str], str, list[str]]:
    """The command in a process of its own: (process, address, what it said)."""
    command = [sys.executable, "-u", "-m", "byg_train", "study", root / "first", root / "second"]
    command += ["--sources", root / "sources", "--votes", root / "s.sqlite", "--port", "0", *more]
    process = subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    said = [process.stdout.readline() for _ in range(3)]
    return process, said[1].strip(), said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to a child")
def test_the_command_serves_resumes_and_reports(root: Path) -> None:
    for rater, wins in (("ann", 2), ("ben", 3)):
        process, address, said = start(root, "--per-rater", "3")
        try:
            assert "4 comparisons of first (A) and second (B), 3 for each rater" in said[0]
            assert address.startswith("http://127.0.0.1:")
            base = urlsplit(address)
            connection = http.client.HTTPConnection(base.netloc, timeout=600)
            for done in range(3):
                connection.request("GET", f"{base.path}api/next?rater={rater}")
                item = json.loads(connection.getresponse().read())["item"]
                connection.request("GET", f"{base.path}media/{item['id']}/left?rater={rater}")
                left = connection.getresponse().read()
                a_left = left in [p.read_bytes() for p in (root / "first").rglob("*.png")]
                side = "left" if a_left == (done < wins) else "right"
                body = {"rater": rater, "item": item["id"], "side": side, "seconds": 2}
                head = {"Content-Type": "application/json"}
                connection.request("POST", f"{base.path}api/vote", json.dumps(body), head)
                assert connection.getresponse().read()
            connection.close()
        finally:
            process.send_signal(signal.SIGINT)
            rest = process.communicate(timeout=600)[0]
        assert process.returncode == 0
        assert f"{3 if rater == 'ann' else 6} votes in" in rest
    told = byg("study", "report", "--votes", root / "s.sqlite")
    assert told.exit_code == 0, told.output
    text = " ".join(told.output.split())
    assert "A = first B = second" in text
    assert "A wins 5 of 6 votes, 83.3%; mean of 2 raters 83.3% ± 16.7% (SEM)" in text
    assert "p = 0.22 (two-sided binomial), 0.11 (one-sided)" in text
    both = "6 │ 83.3% │ 43.6% to 97.0% │ 83.3% ± 16.7% │"
    for row in (f"all │ {both}", f"picture │ {both}", "ann │ 3 │ 66.7%", "ben │ 3 │ 100.0%"):
        assert row in text, text
    assert text.index("picture │") < text.index("├", text.index("picture │")) < text.index("ann │")
    assert "Asked: 4 of 4 items" in text
    assert "median 2.0 s" in text


def cast(root: Path, table: list[tuple[str, str, str]]) -> Path:
    """A file of these votes (rater, item, won)."""
    votes = VoteFile.begin(root / "cast.sqlite", ("a", "b"), items_of(root))
    for rater, item, won in table:
        votes.cast(rater, item, won, "a", 3.0)
    return votes.path


def test_the_report_of_raters_who_agree(root: Path) -> None:
    table = [(r, f"pictures/{i}", "ab"[i == 3]) for r in ("ann", "ben", "cy") for i in range(4)]
    text = " ".join(byg("study", "report", "--votes", cast(root, table)).output.split())
    assert "Fleiss' kappa 1.00, Krippendorff's alpha 1.00" in text
    assert "By majority A wins 3 of 4 items, 0 tied; sign test p = 0.62" in text
    assert "The left side won 75.0%" in text


def test_the_report_says_what_it_needs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_module, "find_spec", lambda name: None)
    path = cast(root, [("ann", "pictures/0", "a")])
    refused(byg("study", "report", "--votes", path), "scipy and statsmodels", '".[eval]"')


def test_the_report_of_one_rater(root: Path) -> None:
    path = cast(root, [("ann", "pictures/0", "a"), ("ann", "pictures/1", "b")])
    text = " ".join(byg("study", "report", "--votes", path).output.split())
    assert "A wins 1 of 2 votes, 50.0%. Against chance" in text
    assert "Agreement of raters: not known" in text
    assert "Asked: 2 of 4 items" in text
    assert "nan" not in text
    make_folders(root / "tied")
    tied = cast(root / "tied", [("ann", "pictures/0", "a"), ("ben", "pictures/0", "b")])
    text = " ".join(byg("study", "report", "--votes", tied).output.split())
    assert "By majority A wins 0 of 0 items, 1 tied. Agreement" in text
    assert "nan" not in text


def test_the_report_of_the_papers_study(root: Path) -> None:
    """The one table that fits all its numbers: 119 items, two votes each, by 8 raters."""
    table = [(i, won) for i in range(119) for won in ("aa", "ab", "bb")[(i >= 77) + (i >= 102)]]
    one = items_of(root)[0]
    items = [replace(one, name=f"{i}", group="clips") for i in range(119)]
    votes = VoteFile.begin(root / "paper.sqlite", ("ByG", "Ditto"), items)
    for number, (item, won) in enumerate(table):
        votes.cast(f"rater {number % 8}", str(item), won, "ab"[number % 2], 1.0)
    text = " ".join(byg("study", "report", "--votes", votes.path).output.split())
    assert "A wins 179 of 238 votes, 75.2%" in text
    assert "p = 3.1e-15 (two-sided binomial), 1.5e-15 (one-sided)" in text
    assert "By majority A wins 77 of 94 items, 25 tied; sign test p = 2.7e-10" in text
    assert "Fleiss' kappa 0.44" in text
    assert "clips │ 238 │ 75.2% │ 69.4% to 80.3%" in text
