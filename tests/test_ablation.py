"""The ablation study: its rows, its table, and a whole small study through real processes."""

from __future__ import annotations

import json
import math
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from byg_train.cli.app import app
from byg_train.config import merge_settings
from byg_train.world import ablation
from byg_train.world.ablation import plot
from byg_train.world.ablation_study import Subprocesses
from byg_train.world.demo import Demo

# What Table 4's rows leave out: section.key -> value.
LEFT_OUT = {
    "full": {},
    "no-routing": {"routing": False},
    "no-cycle": {"lambda_cycle": 0},
    "no-reverse": {"reverse": False},
    "no-directional": {"directional": 0, "alpha": 1, "gentle_alpha": 1},
    "no-bootstrapping": {"bootstrapping": False},
    "no-prior": {"lambda_prior": 0, "gentle_prior": 0},
    "no-identity": {"identity_probability": 0},
    "supervised": {"objective": "supervised"},
}


@pytest.mark.parametrize("name", ablation.ROWS)
def test_a_row_leaves_out_what_it_says_and_nothing_else(name: str) -> None:
    full = merge_settings("demo").model_dump()
    row = merge_settings("demo", assignments=ablation.ROWS[name].settings).model_dump()
    changed = {k: v for k, v in row.pop("method").items() if v != full["method"][k]}
    wanted = {k: v for k, v in LEFT_OUT[name].items() if v != full["method"][k]}
    assert changed == wanted
    del full["method"]
    assert row == full


def test_only_the_supervised_row_sees_pairs() -> None:
    assert {name for name, row in ablation.ROWS.items() if row.pairs} == {"supervised"}


def scores(edit: float, keep: float) -> dict:
    one = {"edit": edit, "keep": keep, "joint": math.sqrt(edit * keep)}
    return {"background": one, "colour": {**one, "edit": 1.0}}


def test_seeds_become_means_and_standard_errors() -> None:
    result = ablation.result(ablation.ROWS["full"], {0: scores(0.2, 0.5), 1: scores(0.6, 0.5)})
    assert result.all["edit"].mean == pytest.approx(0.7)  # of 0.6 and 0.8
    assert result.all["edit"].sem == pytest.approx(0.1)
    assert result.all["keep"].sem == 0
    assert result.kinds["background"]["edit"].mean == pytest.approx(0.4)
    table = ablation.markdown({"full": result})
    assert "0.700 ± 0.100" in table and "0.500 ± 0.000" in table
    assert "- **ByG (full)**: Algorithm 1 as it is." in table
    assert "Less the full method" not in table


def test_rows_differ_from_the_full_method_seed_by_seed() -> None:
    """Seeds that both have: what a seed does to all rows alike is no difference."""
    full = ablation.result(ablation.ROWS["full"], {0: scores(0.2, 0.5), 2: scores(0.6, 0.9)})
    runs = {0: scores(0.4, 0.5), 1: scores(0.0, 0.0), 2: scores(0.8, 0.7)}
    row = ablation.result(ablation.ROWS["no-cycle"], runs)
    less = ablation.against(row, full)
    assert less["edit"].mean == pytest.approx(0.1) and less["edit"].sem == pytest.approx(0)
    assert less["keep"].mean == pytest.approx(-0.1) and less["keep"].n == 2
    table = ablation.markdown({"full": full, "no-cycle": row})
    assert "| w/o cycle loss | +0.100 ± 0.000 | -0.100 ± 0.100 |" in table
    alone = ablation.result(ablation.ROWS["no-cycle"], {1: scores(0.0, 0.0)})
    assert ablation.against(alone, full)["edit"].n == 0
    table = ablation.markdown({"full": full, "no-cycle": alone})
    assert "| w/o cycle loss |            - |           - |     - |" in table


@pytest.mark.slow
def test_kept_scores_are_of_this_very_lora_and_of_these_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, lora = tmp_path / "scores.json", tmp_path / "lora.safetensors"
    lora.write_bytes(ablation.WARMUP.read_bytes())
    ablation.score_run(file, lora, 1, 0, "cpu")
    assert ablation.read_scores(file, lora, 1) is not None
    assert ablation.read_scores(file, lora, 2) is None
    with monkeypatch.context() as patch:
        patch.setattr(ablation, "SCORING", ablation.SCORING + 1)
        assert ablation.read_scores(file, lora, 1) is None
    lora.write_bytes(b"trained again")
    assert ablation.read_scores(file, lora, 1) is None


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    one = ablation.result(ablation.ROWS["full"], {0: scores(0.2, 0.5), 1: scores(0.6, 0.6)})
    other = ablation.result(ablation.BASELINES["copy"], {0: scores(0.0, 1.0)})  # no standard error
    plot([(one, "full"), (other, "baseline")], tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width > 600
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    assert (0xC0, 0x39, 0x2B) in colours and (0x7F, 0x8C, 0x8D) in colours


# ---------------------------------------------------------------- the command


def study(root: Path, *arguments: object) -> Result:
    small = ("warmup.max_steps=0", "train.batch_size=1", "train.global_batch=1", "sample.steps=1",
             "rollout.steps=1")  # fmt: skip
    sets = [part for each in small for part in ("--set", each)]
    command = ["ablate", "--output", root, "--seeds", 1, "--queries", 1, "--device", "cpu"]
    return CliRunner().invoke(app, [*map(str, command), *sets, *map(str, arguments)])


@pytest.fixture(autouse=True)
def few_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes train on what is there."""
    prepare = Demo.prepare
    monkeypatch.setattr(
        Demo, "prepare", lambda self, folder, **pairs: prepare(self, folder, 20, **pairs)
    )


@pytest.mark.slow
def test_a_whole_study_and_nothing_twice(tmp_path: Path) -> None:
    only = ("--only", "no-routing,supervised", "--jobs", 2)
    done = study(tmp_path, "--steps", 1, *only)
    assert done.exit_code == 0, done.output
    for name in ("no-routing", "supervised"):
        run = tmp_path / f"{name}-seed0"
        assert (run / f"{name}-seed0.safetensors").is_file()
        config = (run / "config.toml").read_text()
        wanted = "routing = false" if name == "no-routing" else 'objective = "supervised"'
        assert wanted in config
    told = json.loads((tmp_path / "ablation.json").read_text())
    assert list(told["rows"]) == ["no-routing", "supervised"]
    assert told["steps"] == 1 and told["machine"] and "rollout.steps=1" in told["settings"]
    assert told["dtype"] in ("bfloat16", "float32")
    assert all(0 < told["seconds of training"][f"{name}-seed0"] < 600 for name in told["rows"])
    for row in told["rows"].values():
        assert all(0 <= row[name]["mean"] <= 1 for name in ("edit", "keep", "joint"))
        assert set(row["kinds"]) == {
            "background", "style 3d → ink", "style ink → 3d", "colour", "add", "remove", "replace"
        }  # fmt: skip
    table = (tmp_path / "ablation.md").read_text()
    assert "| w/o gradient routing" in table and table.strip() in done.stdout
    assert (tmp_path / "ablation.png").is_file()

    logs = [path.read_bytes() for path in (tmp_path / "logs").iterdir()]
    again = study(tmp_path, "--steps", 1, *only)
    assert again.exit_code == 0 and "2 of 2 runs are there already" in again.stderr
    assert [path.read_bytes() for path in (tmp_path / "logs").iterdir()] == logs
    assert (tmp_path / "ablation.md").read_text() == table

    # Who asks for one row keeps the table of the others.
    assert study(tmp_path, "--steps", 1, "--only", "supervised").exit_code == 0
    assert (tmp_path / "ablation.md").read_text() == table

    other = study(tmp_path, "--steps", 2, *only)
    assert other.exit_code == 2
    assert "train.steps: 1 there, 2 now" in other.stderr
    other = study(tmp_path, "--steps", 1, *only, "--set", "method.alpha=0.4")
    assert other.exit_code == 2 and "method.alpha: 1.0 in the run, 0.4 now" in other.stderr


@pytest.mark.slow
def test_a_run_that_fails_is_named_with_its_log(tmp_path: Path) -> None:
    done = study(tmp_path, "--steps", 1, "--only", "full", "--set", "warmup.lora=nowhere")
    assert done.exit_code == 1
    assert "1 runs failed" in done.stderr and "full-seed0.log" in done.stderr
    assert "nowhere" in (tmp_path / "logs/full-seed0.log").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "no-prio"], "row no-prio; did you mean 'no-prior'?"),
        (["--preset", "flux_edit"], "needs the true edit of every picture"),
        (["--set", "train.stps=3"], "unknown setting train.stps"),
    ],
)
def test_wrong_options(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = study(tmp_path / "out", *arguments)
    assert done.exit_code == 2 and message in done.stderr
    assert not (tmp_path / "out").exists()


def test_runs_on_another_base_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "ablation.json").write_text(json.dumps({"base": "another"}))
    done = study(tmp_path, "--only", "full")
    assert done.exit_code == 2 and "another base" in done.stderr


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_table_that_is_not_a_studys_is_said_to_be_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "ablation.json").write_text(content)
    done = study(tmp_path, "--only", "full")
    assert done.exit_code == 2 and "ablation.json" in done.stderr


def test_pictures_of_another_preset_are_not_taken(tmp_path: Path) -> None:
    about = {"base": ablation.base_digest(), "preset": "demo_long"}
    (tmp_path / "ablation.json").write_text(json.dumps(about))
    done = study(tmp_path, "--preset", "demo", "--only", "full")
    assert done.exit_code == 2 and "pictures of the preset demo_long" in done.stderr


def test_processes_are_asked_to_stop_and_waited_for(tmp_path: Path) -> None:
    children = Subprocesses(threads=1)
    ended: list[bool] = []
    thread = threading.Thread(
        target=lambda: ended.append(children.run(["http.server", "0"], tmp_path / "log"))
    )
    thread.start()
    while not children._running:
        time.sleep(0.01)
    while b"Serving" not in (tmp_path / "log").read_bytes():
        time.sleep(0.05)
    children.stop()
    thread.join(60)
    assert ended and not children._running
    assert not children.run(["http.server", "0"], tmp_path / "log")  # nothing new begins
