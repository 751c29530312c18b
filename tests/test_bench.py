"""The step-cost report: its arithmetic, its rows and its measure of memory; never a time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.step_cost import markdown
from byg_train.config import ConfigError, TrainConfig, build_config
from byg_train.core.roles import EditBatch, Roles, Text, Velocity
from byg_train.core.schedule import Draw
from byg_train.models.flux.backbone import FluxBackbone
from byg_train.objectives import OBJECTIVES
from byg_train.objectives.objective import Calls
from byg_train.training import bench
from byg_train.training.bench import GRAPHS, WORK, CostReport, measure, show, table, works
from byg_train.training.peak import peak_saved_bytes

# Two repetitions; the second ran on a machine twice as slow.
MADE_UP = CostReport(
    setting="made up",
    calls=Calls(gradients=3, ema=10, base=4),
    seconds={
        "edit": [1.0, 2.0],
        "ema": [1.0, 2.0],
        "base": [0.5, 1.0],
        "supervised": [3.0, 6.0],
        "identity": [3.3, 6.6],
        "joint": [22.0, 44.0],
        "staged": [22.05, 44.1],
    },
    memory={"supervised": 2**20, "joint": 3 * 2**20, "staged": 2**20 + 2**16},
)


# ---------------------------------------------------------------- arithmetic


def test_parts_are_ten_rollout_forwards_four_priors_three_gradients() -> None:
    assert MADE_UP.parts == [10 + 2 + 9, 2 * (10 + 2 + 9)]


def test_overhead_is_what_the_full_step_takes_beyond_its_parts() -> None:
    assert MADE_UP.overhead == pytest.approx(0.05)


def test_ratios_are_taken_inside_a_repetition() -> None:
    """A slow repetition moves the medians and leaves every ratio."""
    rows = {row.name: row for row in MADE_UP.times()}
    assert rows[WORK["staged"]].value == pytest.approx((22.05 + 44.1) / 2)
    assert rows[WORK["staged"]].per_forward == pytest.approx(22.05)
    assert rows[WORK["staged"]].per_supervised == pytest.approx(7.35)
    assert rows[WORK["identity"]].per_supervised == pytest.approx(1.1)
    assert [row.per_supervised for row in MADE_UP.graphs()] == [1, 3, 1.0625]


def test_table_has_every_row_in_both_renderings(capsys: pytest.CaptureFixture[str]) -> None:
    cells = {row[0]: row[1:] for row in table(MADE_UP)}
    parts = "its parts alone: 10 EMA + 4 F_t + 3 supervised"
    assert cells[parts] == ["31500.0 ms", "21.00", "7.00 x"]
    assert cells[f"memory, {WORK['staged']}"] == ["1.1 MiB", "", "1.06 x"]
    assert cells["the loop's own overhead"][0] == "+5.0%"
    assert {*WORK.values(), *(f"memory, {WORK[work]}" for work in GRAPHS)} <= cells.keys()

    text = markdown(MADE_UP)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert text.startswith("made up\n") and len(lines) == len(table(MADE_UP)) + 1
    assert {line.count("|") for line in lines} == {5}
    show(MADE_UP)
    printed = capsys.readouterr().out
    assert "+5.0%" in printed and printed.count("MiB") == 3


METHODS = {
    "byg": {},
    "byg, as section 6 leaves out": {"reverse": False, "lambda_id": 0.0},
    "byg without routing": {"routing": False},
    "supervised": {"objective": "supervised"},
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_an_objective_says_what_its_step_really_asks(method: dict) -> None:
    """Calls of the editor with and without a gradient, of the EMA and the base, in every work."""
    config = build_config({"method": method, "rollout": {"steps": 10}})
    objective = OBJECTIVES[config.method.objective]
    calls: list[str] = []
    weight = torch.ones((), requires_grad=True)

    def velocity(role: str) -> Velocity:
        def called(x_t: Tensor, t: Tensor, text: Text, source: Tensor | None = None) -> Tensor:
            with_gradient = role == "edit" and torch.is_grad_enabled()
            calls.append("gradients" if with_gradient else role)
            assert (source is None) == (role == "base")
            return weight * x_t + (0 if source is None else weight * source)

        return called

    x, roles = torch.randn(2, 3, 1, 2, 2), Roles(*map(velocity, ("edit", "ema", "base")))
    draw = Draw(torch.randn_like(x), torch.tensor([0.9, 0.3]), torch.linspace(1, 0, 11))
    todo = works(objective, roles, EditBatch(x, *"cipq"), draw, config.method)
    joint = {"joint"} if objective.joint else set()
    assert set(todo) == set(WORK) - {"joint"} | joint
    found = {}
    for name, work in todo.items():
        calls.clear()
        work()
        found[name] = Calls(**{"gradients": 0} | Counter(calls))
    full, one = objective.calls(config), Calls(gradients=1)
    assert found.pop("joint", full) == full._replace(edit=0)
    assert found == {
        "edit": Calls(0, edit=1), "ema": Calls(0, ema=1), "base": Calls(0, base=1),
        "supervised": one, "identity": one, "staged": full,
    }  # fmt: skip


# ---------------------------------------------------------------- memory


def test_saved_bytes_of_known_graphs() -> None:
    x = torch.ones(1000, requires_grad=True)  # 4000 bytes
    one = 4000
    assert peak_saved_bytes(lambda: x.exp().sum().backward(), []) == one  # its output
    assert peak_saved_bytes(lambda: x.exp().exp().sum().backward(), []) == 2 * one
    assert peak_saved_bytes(lambda: (x * x).sum().backward(), []) == one  # one storage, twice
    assert peak_saved_bytes(lambda: (x[:9] * x[9:18]).sum().backward(), []) == one  # whole storage
    assert peak_saved_bytes(lambda: (x * x).sum().backward(), [x]) == 0  # a weight
    with torch.no_grad():
        assert peak_saved_bytes(lambda: x.exp().exp(), []) == 0


def test_saved_bytes_peak_over_graphs_that_follow_each_other() -> None:
    x = torch.ones(1000, requires_grad=True)

    def one_after_another() -> None:
        for _ in range(3):
            x.exp().sum().backward()

    def all_at_once() -> None:
        sum(x.exp().sum() for _ in range(3)).backward()

    assert peak_saved_bytes(one_after_another, []) == 4000
    assert peak_saved_bytes(all_at_once, []) == 12000


def test_watching_saved_tensors_leaves_gradients_alone() -> None:
    x = torch.linspace(0, 1, 9, requires_grad=True)
    peak_saved_bytes(lambda: x.exp().sin().sum().backward(), [])
    torch.testing.assert_close(x.grad, (x.exp().cos() * x.exp()).detach())


# ---------------------------------------------------------------- a real model


def tiny(base: Path, **method: object) -> TrainConfig:
    model = {"path": str(base), "dtype": "float32", "text_len": 24, "gradient_checkpointing": False}
    tables = {"model": model, "data": {"resolution": 16}, "rollout": {"steps": 2}}
    return build_config({**tables, "lora": {"rank": 4}, "method": method})


@pytest.mark.slow
def test_measure_fills_every_row_for_a_real_model(tiny_base: Path) -> None:
    config = tiny(tiny_base)
    report = measure(config, "cpu", batch=2, repeats=2)
    assert list(report.seconds) == list(WORK)
    assert all(len(s) == 2 and min(s) > 0 for s in report.seconds.values())
    assert report.calls == Calls(gradients=3, ema=2, base=4) and len(report.parts) == 2
    assert "2x4x1x4x4" in report.setting
    one, joint, staged = (report.memory[work] for work in GRAPHS)
    assert one <= staged <= 1.1 * one
    assert joint >= 2 * one
    assert len(table(report)) == 1 + len(WORK) + 1 + len(GRAPHS) + 1


@pytest.mark.slow
def test_measure_takes_every_setting_of_the_method(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guidance of the prior doubles what the base is asked; an objective has its own step."""
    asked: list[bool] = []
    real = FluxBackbone.velocity

    def velocity(*args: object, source: Tensor | None = None, guidance: float) -> Tensor:
        source = args[4] if len(args) > 4 else source
        asked.append(source is None)
        return real(*args[:4], source, guidance=guidance)

    monkeypatch.setattr(FluxBackbone, "velocity", velocity)
    found = {}
    for name, method in (
        ("plain", {}),
        ("guided", {"prior_guidance": 3.0}),
        ("forward alone", {"reverse": False}),
        ("supervised", {"objective": "supervised"}),
    ):
        asked.clear()
        report = measure(tiny(tiny_base, **method), "cpu", batch=1, repeats=1)
        found[name] = sum(asked)
        assert list(report.memory) == list(GRAPHS if report.calls.ema else ("supervised", "staged"))
    assert found["guided"] == 2 * found["plain"]
    # Alone it is run as often as in a step: 4 or 2 times in either of two rounds. Then come joint
    # and staged steps, three of each.
    assert found["plain"] == 2 * 4 + 6 * 4 and found["forward alone"] == 2 * 2 + 6 * 2
    assert found["supervised"] == 2 * 1


def test_run_takes_the_presets_settings_and_the_callers_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[TrainConfig, str, int, int]] = []
    monkeypatch.setattr(bench, "measure", lambda *a: asked.append(a))
    bench.run("cpu", 3, "some/folder", 7)
    config, *rest = asked[0]
    assert (config.preset, config.model.path, rest) == ("demo", "some/folder", ["cpu", 3, 7])
    with pytest.raises(ConfigError, match="unknown preset"):
        bench.run(preset="dmeo")
