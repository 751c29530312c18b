"""`evaluate score` with a real server for a judge."""

from __future__ import annotations

from pathlib import Path

import pytest
from chat_server import Answer, Asked, ChatServer
from edit_folders import make_tasks, marks, score
from typer.testing import Result


@pytest.fixture
def root(tmp_path: Path) -> Path:
    make_tasks(tmp_path)
    return tmp_path


def ask(root: Path, server: ChatServer, *arguments: object) -> tuple[Result, dict]:
    return score(root, "--metrics", "viescore", "--judge", "j", "--endpoint", server.url,
                 *arguments)  # fmt: skip


def test_viescore_by_group_as_in_table_3(root: Path) -> None:
    with ChatServer(marks) as server:
        done, told = ask(root, server)
        assert done.exit_code == 0, done.output
        assert len(server.asked) == 10  # two questions about each of five results
        again, _ = ask(root, server)
        assert len(server.asked) == 10 and again.stdout == done.stdout
    first = told["first"]["all"]
    means = {column: first[column]["mean"] for column in first}
    assert means == {"success": 8, "kept": 6, "SC": 6, "PQ": 4, "overall": pytest.approx(24**0.5)}
    root_of_means = pytest.approx(24**0.5)
    groups = {"add": root_of_means, "style": root_of_means}
    assert told["first"]["sqrt(SC*PQ)"] == {"all": root_of_means, "groups": groups}
    assert (told["second"]["all"]["overall"]["n"], first["overall"]["n"]) == (2, 3)
    table_3 = done.output.split("overall, higher is better")[1]
    assert all(
        line in table_3 for line in ("add", "style", "mean of groups", "of the intersection")
    )


@pytest.mark.slow
def test_a_judge_that_stops_is_gone_on_with(root: Path) -> None:
    """What was answered before the server broke is kept, and not asked again."""
    broken = True

    def answer(asked: Asked, before: int) -> Answer:
        late = len(server.asked) > 1
        return Answer(status=400, raw="{}") if broken and late else marks(asked, before)

    with ChatServer(answer) as server:
        done, told = ask(root, server, "--concurrency", 1, "--metrics", "psnr,viescore",
                         "--truths", root / "truths")  # fmt: skip
        assert done.exit_code == 2
        assert "got no answer" in done.stderr and "judge.jsonl" in done.stderr
        assert "same command" in done.stderr
        # What was measured is told, and what the judge did not come to is missing.
        assert f"printed and in {root / 'out.json'}" in done.stderr
        assert [told[name]["all"]["psnr"]["n"] for name in told] == [3, 2]
        assert [told[name]["all"]["success"]["n"] for name in told] == [1, 0]
        assert f"{told['first']['all']['psnr']['mean']:.3f}" in done.stdout
        assert "second: of 3 edits without a value: psnr 1, success 3" in done.stdout
        broken, before = False, len(server.asked)
        done, told = ask(root, server)
        assert done.exit_code == 0, done.output
        assert len(server.asked) - before == 9
    assert told["first"]["all"]["overall"]["missing"] == 0


def test_answers_that_were_cut_are_told(root: Path) -> None:
    finish = "length"

    def answer(asked: Asked, before: int) -> Answer:
        if len(asked.pictures) == 2:
            return Answer('{"score": [9, 9], "reasoning": "Well, the fi', finish=finish)
        return marks(asked, before)

    with ChatServer(answer) as server:
        done, told = ask(root, server)
        assert "first: 3 answers were too long, and cut" in done.output
        assert "higher --max-tokens" in done.output
        assert told["first"]["all"]["success"]["missing"] == 3
        before, finish = len(server.asked), "stop"
        done, told = ask(root, server, "--max-tokens", 4096)
        assert "were too long" not in done.output
        assert [len(each.pictures) for each in server.asked[before:]] == [2] * 5
        assert told["first"]["all"]["success"] == {"mean": 9, "sem": 0, "n": 3, "missing": 0}


def test_a_judge_that_cannot_be_reached(root: Path) -> None:
    with ChatServer(marks) as server:
        pass  # closed again
    done, told = ask(root, server)
    assert done.exit_code == 2 and "cannot be reached" in done.stderr and not told


@pytest.mark.parametrize(
    ("who", "message"),
    [
        (["--judge", "a", "--vlm", "b"], "wanted either --judge NAME"),
        (["--judge", "a", "--endpoint", "host"], "wanted an address such as"),
        (["--judge", "a", "--endpoint", "http://127.0.0.1:9/v1"], "cannot be reached"),
        (["--vlm", "no-such-folder/model/of-anybody"], "is no vision-language model here"),
    ],
)
def test_the_judge_is_checked_before_anything_is_measured(
    root: Path, who: list[str], message: str
) -> None:
    """The result is no picture: to measure it, or to load this network, would be another error."""
    (root / "first/a.png").write_bytes(b"broken")
    done, _ = score(root, "--metrics", "dino,viescore", "--dino", root / "nothing", *who)
    assert done.exit_code == 2 and message in done.stderr


def test_answers_that_cannot_be_read_are_missing(root: Path) -> None:
    with ChatServer(lambda a, n: marks(a, n) if len(a.pictures) == 1 else Answer("hm")) as server:
        done, told = ask(root, server)
    assert done.exit_code == 0
    assert told["first"]["all"]["success"]["missing"] == 3
    assert told["first"]["all"]["PQ"]["mean"] == 4
    assert told["first"]["all"]["overall"]["mean"] is None
    assert "of 3 edits without a value: success 3, kept 3, SC 3, overall 3" in done.output


def test_imgedit_asks_by_type(root: Path) -> None:
    said = "It is.\nPrompt compliance: 5\nVisual seamlessness: 4\nDetail fidelity: 3"
    with ChatServer(lambda a, n: Answer(said)) as server:
        done, told = score(root, "--metrics", "imgedit", "--judge", "j", "--endpoint", server.url)
    assert done.exit_code == 0, done.output
    assert told["first"]["all"]["imgedit"]["mean"] == 4
    assert sum("whole picture is in the style" in each.prompt for each in server.asked) == 2
