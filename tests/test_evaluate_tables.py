"""The tables that are printed, from the paper's own numbers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from paper_tables import TABLE_3

from byg_train.evaluate.score_tables import tables
from byg_train.evaluate.scoring import Scores
from byg_train.evaluate.tasks import Task


def read(text: str) -> dict[str, list[str]]:
    """First column -> the others, the head among them."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return {line[0]: line[1:] for line in lines}


def task(name: str, group: str, intersection: bool = False) -> Task:
    return Task(name, Path(f"{name}.png"), "Edit it", group, intersection=intersection)


def test_table_3() -> None:
    """GEdit-Bench: groups by methods, and their means that weigh every group alike."""
    methods = []
    for i, name in enumerate(("byg", "kontext", "flowedit")):
        tasks, values = [], {}
        for number, (group, row) in enumerate(TABLE_3.items()):
            for each in range(number % 3 + 1):  # groups of different sizes
                tasks.append(task(f"{group}{each}", group, group != "text_change"))
                values[f"{group}{each}"] = {"overall": row[i]}
        methods.append(Scores(name, tasks, values))
    side_by_side = read(list(tables(methods, ["overall"]))[1])
    assert side_by_side["overall, higher is better"] == ["byg", "kontext", "flowedit"]
    for group, row in TABLE_3.items():
        assert [float(cell.partition(" ")[0]) for cell in side_by_side[group]] == list(row)
    means = [float(cell) for cell in side_by_side["mean of groups"]]
    assert [round(mean, 2) for mean in means] == [5.75, 5.98, 3.59]
    # The intersection is here all but text_change.
    for column, mean in enumerate(side_by_side["of the intersection"]):
        others = [row[column] for group, row in TABLE_3.items() if group != "text_change"]
        assert float(mean) == pytest.approx(sum(others) / 10, abs=5e-4)


def test_table_2() -> None:
    """Two directions; of each method the means of SC and PQ, and the root of their product."""
    printed = {"byg": [(7.67, 8.99, 8.30), (5.22, 7.67, 6.33)],
               "kontext": [(6.87, 8.96, 7.85), (3.97, 6.73, 5.17)]}  # fmt: skip
    groups = ("style → photo", "photo → style")
    methods = []
    for name, rows in printed.items():
        values = {g: {"SC": sc, "PQ": pq} for g, (sc, pq, _) in zip(groups, rows, strict=True)}
        methods.append(Scores(name, [task(group, group) for group in groups], values))
    own = {text.split()[1]: read(text) for text in list(tables(methods, ["SC", "PQ"]))[1:]}
    for name, rows in printed.items():
        assert own[name][name] == ["edits", "SC", "PQ", "√(SC·PQ)"]
        for group, (sc, pq, overall) in zip(groups, rows, strict=True):
            assert own[name][group][:3] == ["1", f"{sc:.3f}", f"{pq:.3f}"]
            assert float(own[name][group][3]) == pytest.approx(overall, abs=0.0101)


def test_what_is_not_known_is_a_dash() -> None:
    tasks = [task("a", "x"), task("b", "x"), task("c", "y")]
    one = Scores("one", tasks, {"a": {"psnr": 20.0}, "b": {"psnr": math.inf}})
    first, by_group = map(read, tables([one], ["psnr"]))
    assert first["one"] == ["inf"]  # a copy of the truth is a value
    assert by_group["x"] == ["2", "inf"]
    assert by_group["y"] == ["1", "–"]
    assert by_group["mean of groups"] == ["", "–"]
    assert len(list(tables([Scores("none", [task("a", "")], {})], ["psnr"]))) == 1  # no groups
