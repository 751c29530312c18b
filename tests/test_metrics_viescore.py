"""VIEScore: marks read from whatever models answer, what is asked for them, and Table 2."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from byg_train.evaluate.metrics.viescore import Marks, geometric, judge_edit, read_marks
from byg_train.evaluate.score_tables import missing_lines, tables
from byg_train.evaluate.scoring import Scores
from byg_train.evaluate.tasks import Task

RED, BLUE = Image.new("RGB", (12, 8), "red"), Image.new("RGB", (24, 16), "blue")

# Style -> photo and photo -> style: semantic, quality, overall as printed.
TABLE_2 = [
    (7.67, 8.99, 8.30),
    (6.87, 8.96, 7.85),
    (6.86, 8.76, 7.75),
    (5.22, 7.67, 6.33),
    (1.46, 9.09, 3.64),
    # Kontext and Qwen-Image-Edit, whose two roots stand in each other's row in print.
    (3.97, 6.73, 5.17),
    (4.87, 7.39, 6.00),
]


COLUMNS = ("success", "kept", "SC", "PQ", "overall")


def scored(marks: Sequence[Marks]) -> Scores:
    """A method with these marks, as `evaluate score` has them."""
    tasks = [Task(str(i), Path(f"{i}.png"), "Paint it", "photo") for i in range(len(marks))]
    values = {
        str(i): dict(zip(COLUMNS, (m.success, m.kept, m.semantic, m.quality, m.overall),
                         strict=True))
        for i, m in enumerate(marks)
    }  # fmt: skip
    return Scores("byg", tasks, values)


def printed(marks: Sequence[Marks]) -> dict[str, dict[str, str]]:
    """Row -> column -> cell of the table by group."""
    lines = list(tables([scored(marks)], COLUMNS))[-1].splitlines()
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in lines)
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


@pytest.mark.parametrize(("semantic", "quality", "overall"), TABLE_2)
def test_overall_of_means_is_what_table_2_prints(
    semantic: float, quality: float, overall: float
) -> None:
    assert geometric(semantic, quality) == pytest.approx(overall, abs=0.0101)
    # Two edits whose marks differ, and whose means are those of the paper.
    marks = [Marks(semantic - 1, 10, 10, quality - 0.5), Marks(10, semantic + 1, quality + 0.5, 10)]
    row = printed(marks)["photo"]
    assert (row["SC"], row["PQ"]) == (f"{semantic:.3f} ± 1.000", f"{quality:.3f} ± 0.500")
    assert float(row["√(SC·PQ)"]) == pytest.approx(overall, abs=0.0101)


def test_table_2_has_one_root_that_does_not_fit() -> None:
    """FlowEdit, style -> photo: 6.20 in print."""
    assert round(geometric(4.27, 8.90), 2) == 6.16


def test_marks_are_minima_and_their_geometric_mean() -> None:
    marks = Marks(9, 4, 6, 8)
    assert (marks.semantic, marks.quality, marks.overall) == (4, 6, pytest.approx(math.sqrt(24)))
    assert Marks(0, 10, 10, 10).overall == 0


def test_the_mean_of_overalls_is_not_the_overall_of_means() -> None:
    row = printed([Marks(10, 10, 10, 10), Marks(0, 9, 10, 10)])["photo"]
    assert (row["overall"], row["√(SC·PQ)"]) == ("5.000 ± 5.000", f"{math.sqrt(50):.2f}")
    assert (row["success"], row["kept"]) == ("5.000 ± 5.000", "9.500 ± 0.500")


def test_missing_marks_are_counted_and_fill_no_mean() -> None:
    marks = [Marks(4, 8, 9, 9), Marks(None, None, 5, 5), Marks(6, 6, None, None)]
    row = printed(marks)["photo"]
    assert row["edits"] == "3"
    assert (row["SC"], row["PQ"], row["overall"]) == ("5.000 ± 1.000", "7.000 ± 2.000", "6.000")
    assert list(missing_lines([scored(marks)], COLUMNS)) == [
        "byg: of 3 edits without a value: success 1, kept 1, SC 1, PQ 1, overall 2"
    ]
    nothing = printed([Marks(None, None, None, None)])
    assert nothing["photo"] == {name: "–" for name in (*COLUMNS, "√(SC·PQ)")} | {"edits": "1"}
    assert nothing["mean of groups"]["overall"] == "–"


@pytest.mark.parametrize(
    "answer",
    [
        '{"score": [7, 3], "reasoning": "fine"}',
        '```json\n{"score": [7, 3], "reasoning": "fine"}\n```',
        'Sure!\n{"reasoning": "it {really} is", "score": [7.0, 3]} Bye.',
        '{"score": ["7", "3"]}',
        '<think>maybe {"score": [1, 1]}?</think>\n{"score": [7, 3]}',
        '{"score": [7, 3], "reasoning": "a "quoted" word"}',  # broken JSON
        '{\n"score" : [7, 3]\n"reasoning" : "no comma"\n}',
        "score: [7, 3]",
        "[7, 3]",
        "The marks are [7,3].",
    ],
)
def test_marks_are_read_from_what_models_say(answer: str) -> None:
    assert read_marks(answer) == (7, 3)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I cannot judge this picture.",
        "7 and 3",
        '{"score": [7]}',
        '{"score": [7, 3, 5]}',
        '{"score": 7}',
        '{"score": [11, 3]}',
        '{"score": [7, -1]}',
        '{"score": ["high", "low"]}',
        '{"score": [NaN, 3]}',
        '{"marks": {"a": 7}}',
        '<think>{"score": [7, 3]} and then</think>',
        '<think>{"score": [7, 3]} and then',
        "<think>Both marks go from 0 to 10, so [0, 10] is the range. The edit",
        '{"score": "10"}',
        '{"score": "73"}',
        '{"score": {"7": 1, "3": 2}}',
        '{"score": [true, false]}',
        "[FIRST, SECOND]",
    ],
)
def test_what_cannot_be_read_is_missing(answer: str) -> None:
    assert read_marks(answer) is None


def judged(ask: Callable[[Sequence[Image.Image], str], str | None], instruction: str) -> Marks:
    """The marks of a judge that answers at once."""

    async def later(images: Sequence[Image.Image], prompt: str) -> str | None:
        return ask(images, prompt)

    return asyncio.run(judge_edit(later, RED, BLUE, instruction))


def test_a_judge_is_asked_what_viescore_asks() -> None:
    asked: list[tuple[list[Image.Image], str]] = []

    def ask(images: list[Image.Image], prompt: str) -> str:
        asked.append((images, prompt))
        return '{"score": [8, 6]}' if len(images) == 2 else '{"score": [9, 7]}'

    assert judged(ask, "Paint {it} blue") == Marks(8, 6, 9, 7)
    (both, semantic), (alone, quality) = asked
    assert [image.size for image in both] == [(12, 8), (12, 8)]  # at the source's size
    assert both[0] is RED
    assert alone[0].getpixel((0, 0)) == (0, 0, 255)
    assert "Instruction: Paint {it} blue" in semantic
    assert "instruction" not in quality.lower()
    assert all('{"score": [FIRST, SECOND]' in prompt for prompt in (semantic, quality))


def test_one_more_try_then_the_mark_is_missing() -> None:
    answers = iter(["hm", '{"score": [5, 5]}', "hm", "hm", "never asked"])
    asked: list[str] = []
    marks = judged(lambda images, prompt: asked.append(prompt) or next(answers), "Paint it blue")
    assert marks == Marks(5, 5, None, None)
    assert next(answers) == "never asked"
    assert marks.overall is None
    # A greedy judge says the same to the same question: the second one is another.
    assert len(set(asked)) == 4 and asked[1].startswith(asked[0])


def test_silence_is_not_asked_again() -> None:
    answers = iter([None, '{"score": [5, 4]}'])
    assert judged(lambda images, prompt: next(answers), "Paint it") == Marks(None, None, 5, 4)
