"""The progress line: a total and an ETA in every phase, whole on a terminal of 80 columns."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from byg_train import progress
from byg_train.objectives.byg import BYG
from byg_train.progress import Phase, Progress

FULL = {"cycle": 0.5, "prior_fwd": 0.25, "prior_rev": 0.125, "identity": 0.0625}
LABELS = {term.name: term.label for term in BYG.terms}
TERMS = "cyc 0.500 pri→ 0.250 pri← 0.125 id 0.062"


class Watched:
    """A progress line on a console of 80 columns, whose steps take a minute each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, start: Phase, terminal: bool) -> None:
        self.console = Console(file=io.StringIO(), width=80, force_terminal=terminal)
        monkeypatch.setattr(progress, "CONSOLE", self.console)
        self.line, self.now, self.steps = Progress(*start, labels=LABELS), 0.0, 0
        self.line.bar.get_time = lambda: self.now

    def show(self, terms: dict[str, float], phase: Phase) -> None:
        self.now += 60
        self.steps += 1
        self.line.show({"step": self.steps, **terms}, phase)

    def text(self) -> str:
        paper = Console(file=io.StringIO(), width=80)
        paper.print(self.line.bar.get_renderable())
        (line,) = paper.file.getvalue().splitlines()
        return line


def test_every_phase_has_its_total_and_eta(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, Phase(300, "warm-up"), terminal=True)
    with watched.line:
        assert "warm-up" in watched.text() and "0/300" in watched.text()
        for done in (1, 2, 3):
            watched.show({"identity": 0.25}, Phase(300, "warm-up", done))
        assert watched.text().split()[-5:] == ["3/300", "eta", "4:57:00", "id", "0.250"]
        for done in (1, 2):  # the loss fell long before 300: another total, and another pace
            watched.now += 60
            watched.show(FULL | {"identity": 0.25}, Phase(250, "training", done))
        assert "training" in watched.text() and "warm-up" not in watched.text()
        assert "2/250 eta 8:16:00" in " ".join(watched.text().split())
        watched.show(FULL, Phase(250, "training", 250))
        assert "250/250 took 0:03:00" in " ".join(watched.text().split())  # since its first step


def test_the_line_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, Phase(30000, "training", 12000), terminal=True)
    with watched.line:
        for done in (12001, 12002):
            watched.show(FULL, Phase(30000, "training", done))
        assert "…" not in watched.text()
        assert watched.text().endswith(TERMS)
        assert "12002/30000" in watched.text()


def test_a_log_file_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, Phase(300, "warm-up"), terminal=False)
    with watched.line:
        for done in range(1, 26):
            watched.show({"identity": 0.25}, Phase(300, "warm-up", done))
        lines = watched.console.file.getvalue().splitlines()
        watched.line.said = "source 97 %"
        for done in range(12001, 12026):
            watched.show(FULL, Phase(30000, "training", done))
        last = watched.console.file.getvalue().splitlines()[-1]
    assert lines == ["warm-up 25/300 eta 275 min id 0.250"]
    # Longer than 80 columns, and one line all the same.
    assert last.startswith("training 12025/30000 eta ") and last.endswith(" source 97 %")
    assert len(last) > 80


def test_a_long_phase_speaks_in_a_log_file_too(monkeypatch: pytest.MonkeyPatch) -> None:
    watched, seconds = Watched(monkeypatch, Phase(4, "drawing"), terminal=False), [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: seconds[0])
    with watched.line:
        watched.line.spoke = 0.0
        for _ in range(4):
            seconds[0] += progress.SILENCE * 0.6
            watched.now += 60
            watched.line.advance()
        lines = watched.console.file.getvalue().splitlines()
    assert lines == ["drawing 2/4 eta 2 min"]  # at the end rich prints the whole line
