"""Objectives: one made up here goes through configuration, training, logs, checks and plan."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field
from rich.console import Console
from tiny_run import SMALL
from torch import Tensor
from typer.testing import CliRunner, Result

from byg_train import progress
from byg_train.cli.app import app
from byg_train.config import ConfigError, TrainConfig, build_config, load_preset, merged
from byg_train.config.methods import METHODS, BygConfig, MethodConfig, SupervisedConfig
from byg_train.core.flow import noised
from byg_train.core.losses import velocity_mse
from byg_train.core.roles import EditBatch, Roles
from byg_train.core.schedule import Draw
from byg_train.objectives import OBJECTIVES
from byg_train.objectives.objective import (
    Backward,
    Calls,
    Objective,
    StepOutput,
    Term,
    detached,
    weighted,
)
from byg_train.training.cost import step_cost
from byg_train.training.run_folder import read_config, to_toml


class SketchConfig(MethodConfig):
    """The settings of the made-up objective."""

    objective: Literal["sketch"] = "sketch"
    lambda_match: float = Field(1.0, ge=0)
    lambda_calm: float = Field(0.5, ge=0)


TERMS = (
    Term("match", "mat", "the source is predicted", "lambda_match", ("match",)),
    Term("calm", "cal", "the base is not left far behind", "lambda_calm", ("calm",)),
)


def prepare(G: Roles, work: list[tuple[EditBatch, Draw]]) -> list[Tensor]:
    """What the base says of every item, before the first gradient is taken."""
    return [G.base(noised(b.x, d.eps, d.t), d.t, b.p_src) for b, d in work]


def sketch_step(
    G: Roles,
    batch: EditBatch,
    draw: Draw,
    w: SketchConfig,
    backward: Backward,
    v_base: Tensor,
) -> StepOutput:
    """Two graphs, one after the other."""
    x_t, u = noised(batch.x, draw.eps, draw.t), draw.eps - batch.x
    match = {"match": velocity_mse(G.edit(x_t, draw.t, batch.c, batch.x), u)}
    backward(weighted(TERMS, w, match), "match")
    calm = {"calm": velocity_mse(G.edit(x_t, draw.t, batch.c_inv, batch.x), v_base)}
    backward(weighted(TERMS, w, calm), "calm")
    terms = detached(match | calm)
    return StepOutput(weighted(TERMS, w, terms), terms, draw.t)


SKETCH = Objective(
    settings=SketchConfig,
    terms=TERMS,
    calls=lambda config: Calls(gradients=2, base=1),
    step=sketch_step,
    prepare=prepare,
)


@pytest.fixture
def sketch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A third objective in the registry: nothing else in the house knows of it."""
    monkeypatch.setitem(METHODS, "sketch", SketchConfig)
    monkeypatch.setitem(OBJECTIVES, "sketch", SKETCH)


def command(base: Path, data: Path, *more: str) -> Result:
    """The command line with the paper's preset, turned into the made-up objective."""
    tables = merged(SMALL, {"model": {"path": str(base)}, "data": {"path": str(data)}})
    tables = merged(
        tables, {"method": {"objective": "sketch"}, "train": {"check_gradients_every": 1}}
    )
    sets = [f"{s}.{k}={json.dumps(v)}" for s, keys in tables.items() for k, v in keys.items()]
    arguments = [part for assignment in sets for part in ("--set", assignment)]
    return CliRunner().invoke(app, ["--preset", "flux_edit", "--device", "cpu", *arguments, *more])


# ---------------------------------------------------------------- the registry


def test_every_objective_has_its_section() -> None:
    assert {name: objective.settings for name, objective in OBJECTIVES.items()} == METHODS
    for name, section in METHODS.items():
        assert section().objective == name


def test_a_term_must_be_weighed_by_a_setting() -> None:
    """A misspelt weight fails where it is declared, not in the middle of a run."""
    for term, message in (
        (Term("calm", "cal", "", "lambda_clam"), "calm: SketchConfig has no 'lambda_clam'"),
        (Term("calm", "cal", "", None, ("calm",)), "only a term with a weight"),
    ):
        with pytest.raises(ValueError, match=message):
            Objective(settings=SketchConfig, terms=(term,), calls=SKETCH.calls, step=sketch_step)


def test_an_undeclared_term_is_no_term(sketch: None) -> None:
    with pytest.raises(KeyError, match="clam"):
        weighted(TERMS, SketchConfig(), {"clam": 1.0})


# ---------------------------------------------------------------- its section


def test_one_setting_turns_a_preset_into_another_objective(sketch: None) -> None:
    """The preset's weights are left out, also of the run's own file."""
    for name, section in (("supervised", SupervisedConfig), ("sketch", SketchConfig)):
        tables = merged(load_preset("flux_edit"), {"method": {"objective": name}})
        config = build_config(tables)
        assert type(config.method) is section
        assert config.method.ema_decay == load_preset("flux_edit")["method"]["ema_decay"]
        assert "lambda_cycle" not in to_toml(config)
    assert type(build_config({}).method) is BygConfig


def test_wrong_settings_are_named(sketch: None) -> None:
    for method, message in (
        (
            {"objective": "sketsh"},
            r"method: .*'sketsh'; did you mean 'sketch'\? \(known: byg, super",
        ),
        (
            {"objective": "sketch", "lambda_clam": 1},
            "method.lambda_clam; did you mean 'lambda_calm'",
        ),
        ({"objective": "sketch", "lambda_calm": -1}, r"method.lambda_calm: .* \(found -1\)"),
        ({"lambda_calmer": 1}, r"unknown setting method.lambda_calmer.*known: objective, .*alpha"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_config({"method": method})


# ---------------------------------------------------------------- a run


@pytest.mark.slow
def test_a_third_objective_trains(
    sketch: None,
    tiny_base: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    console = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(progress, "CONSOLE", console)
    monkeypatch.setattr(progress, "PLAIN_EVERY", 1)
    run = tmp_path / "run"
    more = ["--set", "method.lambda_calm=0.25", "--output", str(run)]
    done = command(tiny_base, tiny_data, *more)
    assert done.exit_code == 0, done.output
    assert (run / "run.safetensors").is_file()
    config = read_config(run)
    assert config.method == SketchConfig(lambda_calm=0.25, ema_decay=SMALL["method"]["ema_decay"])

    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    full = [r for r in records if r["kind"] == "full"]
    assert len(full) == SMALL["train"]["steps"]
    assert {r["kind"] for r in records} >= {"warmup", "full"} and "identity" not in {
        r["kind"] for r in records
    }
    for r in full:
        assert r["loss"] == pytest.approx(r["match"] + 0.25 * r["calm"], rel=1e-5)
        assert r["grad_norm"] > 0 and not {"cycle", "identity"} & r.keys()
    assert "method.lambda" not in caplog.text  # the advice is for those who have these settings
    checks = [r for r in records if r["kind"] == "gradients"]
    assert len(checks) == len(full)
    # At the first step B is zero and the editor is the base: nothing pulls it back there.
    assert all(r["match/match"] > 0 and (r["calm/calm"] > 0 or r is checks[0]) for r in checks)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    last = next(line for line in reversed(lines) if line[0] == "training")
    assert [w for w in last if w.isalpha()][-3:] == ["mat", "cal", "id"]
    resumed = command(tiny_base, tiny_data, *more, "--steps", "5", "--resume")
    assert resumed.exit_code == 0, resumed.output


def test_the_plan_knows_a_third_objective(sketch: None, tiny_base: Path, tiny_data: Path) -> None:
    planned = command(tiny_base, tiny_data, "--dry-run")
    text = " ".join(planned.output.split())
    assert planned.exit_code == 0, planned.output
    assert "1 x match: the source is predicted" in text
    assert "0.5 x calm: the base is not left far behind" in text
    assert "cycle" not in text


def test_the_cost_is_what_it_asks_for(sketch: None) -> None:
    method: dict[str, Any] = {"objective": "sketch"}
    config: TrainConfig = build_config({"method": method})
    cost = step_cost(config, 0.5)
    assert cost.full == cost.mean == 2 * 3 + 0.5
    guided = build_config({"method": {**method, "prior_guidance": 3}})
    assert step_cost(guided, 0.5).full == 2 * 3 + 1
