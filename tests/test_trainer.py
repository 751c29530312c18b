"""The real trainer on a tiny random FLUX: gradients, exact resume, alarms, what it writes."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import signals
import torch
from safetensors.torch import load_file
from states import same
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import SMALL

from byg_train.config import ConfigError, TrainConfig, build_config, merged
from byg_train.core.flow import at_rank
from byg_train.core.roles import EditBatch
from byg_train.core.schedule import Draw
from byg_train.data.cache import Cache, Turn
from byg_train.data.items import load_items
from byg_train.objectives.byg import BYG, byg_step
from byg_train.training.assembly import assemble
from byg_train.training.checkpoint import checkpoints, load_checkpoint
from byg_train.training.optimizer import learning_rate
from byg_train.training.state import State
from byg_train.training.stopping import Interrupted
from byg_train.training.trainer import Trainer, TrainingError, train


def _config(base: Path, data: Path, over: dict | None = None) -> TrainConfig:
    tables = merged(SMALL, {"model": {"path": str(base)}, "data": {"path": str(data)}})
    return build_config(merged(tables, over or {}))


def _run(config: TrainConfig, output: Path, resume: bool = False) -> Path:
    output.mkdir(exist_ok=True)
    data = load_items(config.data, 8)
    return train(config, data, output, device="cpu", resume=resume)[0]


def _trainer(config: TrainConfig, output: Path) -> Trainer:
    output.mkdir(exist_ok=True)
    data = load_items(config.data, 8)
    return Trainer(config, data, output, assemble(config, data, output, "cpu"))


def _metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_staged_gradients_through_the_trainer_equal_the_joint_gradient_of_eq_5(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    over = {
        "method": {"lambda_cycle": 0.7, "lambda_prior": 1.3, "lambda_id": 0.4, "alpha": 0.6},
        "train": {"batch_size": 2, "global_batch": 8},
        "warmup": {"min_steps": 0, "max_steps": 0},
    }
    t = _trainer(_config(tiny_base, tiny_data, over), tmp_path / "run")
    t.backbone.experts.double()
    generator = torch.Generator().manual_seed(5)
    for p in t.bank.named_parameters().values():
        p.data = 0.2 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
    t.bank.copy_to_ema()

    def double(part: torch.Tensor | dict) -> torch.Tensor | dict:
        return part.double() if isinstance(part, torch.Tensor) else {
            k: v.double() for k, v in part.items()
        }  # fmt: skip

    batches = [EditBatch(*map(double, t.batches[k][:5])) for k in range(4)]
    draws = []
    for batch in batches:
        eps = torch.randn(batch.x.shape, generator=generator, dtype=torch.float64)
        times = 1 - torch.rand(2, generator=generator, dtype=torch.float64)
        draws.append(Draw(eps, times, torch.linspace(1, 0, 4, dtype=torch.float64)))
    left = iter(draws)
    t.batches, t._draw = batches, lambda x, expert: next(left)
    parameters = t.bank.named_parameters()

    t._gradients([t._micro_batch(t.spans) for _ in range(4)], identity_only=False)
    staged = {name: p.grad.clone() for name, p in parameters.items()}
    t.optimizer.zero_grad()
    for batch, draw in zip(batches, draws, strict=True):
        (byg_step(t.roles, batch, draw, t.config.method).loss / 4).backward()

    assert len({float(time) for draw in draws for time in draw.t}) == 8
    for name, p in parameters.items():
        assert p.grad.norm() > 0, name
        assert (staged[name] - p.grad).norm() <= 1e-10 * p.grad.norm(), name


@pytest.mark.slow
def test_a_resumed_run_equals_the_uninterrupted_one_bitwise(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(tiny_base, tiny_data)
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = _run(config, tmp_path / "whole" / "run").parent
    real, calls = Trainer.optimizer_step, []

    def interrupted(self: Trainer) -> dict:
        record = real(self)
        calls.append(1)
        if len(calls) in (1, 4):  # once in the warm-up, once in the method
            signals.send(signal.SIGTERM)
        return record

    monkeypatch.setattr(Trainer, "optimizer_step", interrupted)
    parts = tmp_path / "parts" / "run"
    for resume in (False, True):
        with pytest.raises(Interrupted, match="--resume"):
            _run(config, parts, resume=resume)
    _run(config, parts, resume=True)

    newest = [checkpoints(run / "checkpoints")[-1] for run in (whole, parts)]
    assert same(*map(load_checkpoint, newest))
    a, b = (load_file(run / "run.safetensors") for run in (whole, parts))
    assert all(torch.equal(a[key], b[key]) for key in a)
    timeless = [
        [{k: v for k, v in m.items() if k != "seconds"} for m in _metrics(run)]
        for run in (whole, parts)
    ]
    assert timeless[0] == timeless[1]
    assert [m["step"] for m in timeless[0] if m["kind"] in ("warmup", "full", "identity")] == [
        1, 2, 3, 4, 5, 6]  # fmt: skip


@pytest.mark.slow
def test_another_seed_gives_another_file_and_the_same_seed_the_same(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    files = []
    for i, seed in enumerate((0, 0, 1)):
        (tmp_path / str(i)).mkdir()
        config = _config(tiny_base, tiny_data, {"seed": seed, "train": {"steps": 1}})
        files.append(load_file(_run(config, tmp_path / str(i) / "run")))
    assert all(torch.equal(files[0][k], files[1][k]) for k in files[0])
    assert any(not torch.equal(files[0][k], files[2][k]) for k in files[0])


def test_a_run_writes_what_the_design_promises(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run = _run(_config(tiny_base, tiny_data), tmp_path / "run").parent
    names = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    assert {"run.safetensors", "run-000004.safetensors", "checkpoints/warmup.safetensors"} <= names
    assert {f"samples/step-{s:06d}.png" for s in (0, 4, 6)} <= names
    assert any("tfevents" in name for name in names)
    assert not [name for name in names if ".tmp" in name]
    tags = EventAccumulator(str(run / "logs")).Reload().Tags()["scalars"]
    assert {"train/identity", "train/cycle", "validation/identity", "gradients/cycle/forward"} <= {
        *tags
    }
    assert {tag.split("/")[0] for tag in tags} == {"train", "validation", "gradients"}
    full = [m for m in _metrics(run) if m["kind"] == "full"]
    assert full
    for m in full:
        w = dict(cycle=1.0, prior_fwd=1.0, prior_rev=1.0, identity=0.2)
        assert m["loss"] == pytest.approx(sum(w[k] * m[k] for k in w), rel=1e-5)
        assert m["grad_norm"] > 0
    gradients = [m for m in _metrics(run) if m["kind"] == "gradients"]
    assert gradients
    checked = [f"{term.name}/{stage}" for term in BYG.terms for stage in term.stages]
    assert len(checked) == 5 and all(m[name] > 0 for m in gradients for name in checked)


def test_the_gradient_check_takes_nothing_from_the_run(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    files = []
    for every in (1, 1000):
        folder = tmp_path / str(every)
        folder.mkdir()
        over = {"train": {"check_gradients_every": every, "steps": 2}}
        files.append(load_file(_run(_config(tiny_base, tiny_data, over), folder / "run")))
    assert all(torch.equal(files[0][k], files[1][k]) for k in files[0])


def test_a_check_that_falls_on_an_identity_step_comes_with_the_next_full_one(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    over = {
        "seed": 3,
        "method": {"identity_probability": 0.5},
        "warmup": {"min_steps": 0, "max_steps": 0},
        "train": {"steps": 9, "check_gradients_every": 3, "sample_every": 0},
    }
    found = _metrics(_run(_config(tiny_base, tiny_data, over), tmp_path / "run").parent)
    kinds = [m["kind"] for m in found if m["kind"] in ("full", "identity")]
    windows = [kinds[i : i + 3] for i in (0, 3, 6)]
    assert any(window[0] == "identity" and "full" in window for window in windows)
    wanted = [3 * i + w.index("full") for i, w in enumerate(windows) if "full" in w]
    assert [m["step"] for m in found if m["kind"] == "gradients"] == wanted


def test_a_missed_check_stays_due() -> None:
    state = State(step=10, warmup=10)
    assert state.check_is_due(5)
    state.checked = 0
    assert [n for n in range(12) if State(10 + n, 10, checked=0).check_is_due(5)] == [*range(5, 12)]
    assert [n for n in range(12) if State(10 + n, 10, checked=7).check_is_due(5)] == [10, 11]


def test_a_dead_gradient_raises_the_alarm(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    t = _trainer(_config(tiny_base, tiny_data), tmp_path / "run")
    t._check_gradients()
    assert "no gradient" not in caplog.text
    living = t.roles.edit

    def cut_in_reverse(x_t, t_, text, source=None):  # noqa: ANN001, ANN202
        """What reentrant checkpointing does: the source gets its gradient, the LoRA gets none."""
        if source.requires_grad:
            with t.bank.using("base"):
                return living(x_t, t_, text, source)
        return living(x_t, t_, text, source)

    t.roles = t.roles._replace(edit=cut_in_reverse)
    t._check_gradients()
    assert "no gradient from cycle/reverse reaches the LoRA at step 0" in caplog.text
    assert "cycle/forward" not in caplog.text


def test_a_loss_that_is_no_number_stops_the_run(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    t = _trainer(_config(tiny_base, tiny_data), tmp_path / "run")
    next(iter(t.bank.named_parameters().values())).data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="nan at step 0.*checkpoint is intact"):
        t.optimizer_step()


def test_the_warm_up_ends_by_the_measured_identity_loss(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    over = {"warmup": {"min_steps": 0, "until": 1e9, "max_steps": 5}}
    t = _trainer(_config(tiny_base, tiny_data, over), tmp_path / "a")
    t.optimizer_step()
    assert t.state.warmup == 0
    over = {"warmup": {"min_steps": 0, "until": 1e-9, "max_steps": 2}}
    t = _trainer(_config(tiny_base, tiny_data, over), tmp_path / "b")
    kinds = [t.optimizer_step()["kind"] for _ in range(3)]
    assert kinds[:2] == ["warmup", "warmup"]
    assert kinds[2] != "warmup"
    assert "max_steps" in caplog.text


def test_ema_starts_as_a_hard_copy_and_moves_only_after_the_warm_up(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    t = _trainer(_config(tiny_base, tiny_data), tmp_path / "run")
    first = {k: v.clone() for k, v in t.bank.tensors("transformer", "ema").items()}
    t.optimizer_step()
    t.optimizer_step()
    ema = t.bank.tensors("transformer", "ema")
    assert all(torch.equal(first[k], ema[k]) for k in first)
    live = {k: v.clone() for k, v in t.bank.tensors("transformer", "edit").items()}
    t.optimizer_step()  # the hard copy, then one step: k = 0, decay 1 / 10
    now, ema = t.bank.tensors("transformer", "edit"), t.bank.tensors("transformer", "ema")
    for k in live:
        assert torch.allclose(ema[k], 0.1 * live[k] + 0.9 * now[k], atol=1e-7)


def test_learning_rate_warms_up_and_follows_a_cosine() -> None:
    tables = {"optimizer": {"lr": 1.0, "warmup": 4, "schedule": "cosine"}, "train": {"steps": 10}}
    config = build_config(tables)
    assert learning_rate(config, 0, 0) == 0.25
    assert learning_rate(config, 3, 0) == 1.0
    assert learning_rate(config, 9, 5) == pytest.approx(0.5)
    assert learning_rate(config, 14, 10) == pytest.approx(0.0)


def test_prior_guidance_extrapolates_from_the_empty_caption(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    t = _trainer(_config(tiny_base, tiny_data, {"method": {"prior_guidance": 3}}), tmp_path / "run")
    batch = t.batches[0]
    times = torch.full((len(batch.x),), 0.6)
    empty = {k: v.expand(len(batch.x), *v.shape) for k, v in t.cache.text("").items()}
    with t.bank.using("base"), torch.no_grad():
        v, v_empty = (
            t.backbone.velocity(batch.x, times, text, guidance=t.config.guidance.prior)
            for text in (batch.p_tgt, empty)
        )
    guided = t.roles.base(batch.x, times, batch.p_tgt)
    assert torch.allclose(guided, v_empty + 3 * (v - v_empty), atol=1e-6)
    assert at_rank(times, batch.x).ndim == 5


# ---------------------------------------------------------------- before, after and being stopped


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"lora": {"targets": ["to_qq"]}}, "lora.targets: no linear module is named 'to_qq'"),
        ({"optimizer": {"name": "adamw8bit"}}, "needs the bitsandbytes package"),
    ],
)
def test_wrong_settings_of_lora_and_optimiser_fail_before_encoding(
    over: dict,
    words: str,
    tiny_base: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    over["data"] = {"cache": tmp_path / "cache"}
    with pytest.raises(ConfigError, match=words):
        _trainer(_config(tiny_base, tiny_data, over), tmp_path / "run")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_being_stopped_while_encoding_loses_nothing(
    number: signal.Signals,
    tiny_base: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = _config(tiny_base, tiny_data, {"data": {"cache": tmp_path / "cache"}})
    monkeypatch.setattr("byg_train.data.cache.AT_ONCE", 2)
    real, encoded = Cache._encode_pixels, []

    def encode(self: Cache, turn: Turn) -> None:
        if len(encoded) == 1:
            signals.send(number)
        encoded.append(len(turn.items))
        real(self, turn)

    monkeypatch.setattr(Cache, "_encode_pixels", encode)
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted, match="nothing is lost.*the same command again") as stop:
        _run(config, tmp_path / "run")
    assert stop.value.code == 128 + number
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    entries = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*.safetensors")}
    assert encoded == [2] and entries
    monkeypatch.undo()
    assert _run(config, tmp_path / "run").is_file()
    assert all(path.stat().st_mtime_ns == written for path, written in entries.items())


def test_being_stopped_names_the_files_there_are(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Trainer.optimizer_step

    def stopped(self: Trainer) -> dict:
        record = real(self)
        if self.state.step in (1, 5):  # in the warm-up of 2, and between checkpoints
            signals.send(signal.SIGTERM)
        return record

    monkeypatch.setattr(Trainer, "optimizer_step", stopped)
    config, run = _config(tiny_base, tiny_data), tmp_path / "run"
    with pytest.raises(Interrupted) as warmup:
        _run(config, run)
    assert "LoRA" not in str(warmup.value)
    assert str(run / "samples" / "step-000000.png") in str(warmup.value)
    with pytest.raises(Interrupted) as stop:
        _run(config, run, resume=True)
    files = run / "run-000005.safetensors", run / "samples" / "step-000004.png"
    for path in (*files, run / "checkpoints" / "step-000005"):
        assert path.exists()
        assert f"{path}" in str(stop.value)


def test_being_stopped_in_the_last_validation_leaves_the_lora(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Trainer.validate

    def validate(self: Trainer) -> None:
        if self.state.step == 6:
            signals.send(signal.SIGINT)
        real(self)

    monkeypatch.setattr(Trainer, "validate", validate)
    config, run = _config(tiny_base, tiny_data), tmp_path / "run"
    with pytest.raises(Interrupted, match="complete, but for its last samples") as stop:
        _run(config, run)
    assert str(run / "run.safetensors") in str(stop.value)
    assert (run / "run.safetensors").is_file()


def test_what_a_kill_left_half_written_is_removed_at_the_next_start(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    killed = [run / "run.safetensors", run / "samples" / "step-000000.png"]
    folder, outside = run / "checkpoints" / "step-000002", tmp_path / "run.safetensors"
    code = (
        "import os, sys; from pathlib import Path; from byg_train.files import atomic\n"
        "with atomic(Path(sys.argv[1])) as t:\n"
        "    (t.mkdir() or t / 'a' if sys.argv[2] else t).write_bytes(b'half')\n"
        "    os.kill(os.getpid(), 9)"
    )
    for path, inside in [(folder, "in"), *((p, "") for p in (*killed, outside))]:
        subprocess.run([sys.executable, "-c", code, str(path), inside], check=False)
    kept = [run / ".notes.tmp", run / "a.1.tmp", run / "data" / ".x.1.tmp", run / ".hidden"]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("somebody's")
    left = sorted(p for p in tmp_path.rglob(".*.tmp*") if p not in kept)
    assert len(left) == 4
    _run(_config(tiny_base, tiny_data, {"train": {"steps": 1}}), run)
    assert [p for p in left if p.exists()] == [p for p in left if p.parent == tmp_path]
    assert all(path.exists() for path in kept)


def test_the_alarms_of_a_look_reach_the_log_once_it_should_edit(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A random base knows no source, so identity is far away; editing may take a quarter."""
    t = _trainer(_config(tiny_base, tiny_data), tmp_path / "run")
    for step, heard in ((1, False), (2, True)):
        t.state.warmup, t.state.step = 0, step
        t.validate()
        assert (f"step {step}: the source is being lost" in caplog.text) is heard


def test_the_curve_goes_on_with_an_interrupted_seed(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(__file__).parents[1] / "benchmarks" / "curve.py"
    spec = importlib.util.spec_from_file_location("curve", path)
    curve = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(curve)
    real, taken = Trainer.optimizer_step, []

    def stopped(self: Trainer) -> dict:
        taken.append(self.state.step)
        if len(taken) == 4:
            signals.send(signal.SIGTERM)
        return real(self)

    monkeypatch.setattr(Trainer, "optimizer_step", stopped)
    config, run = _config(tiny_base, tiny_data), tmp_path / "seed0"
    with pytest.raises(Interrupted):
        curve.train_whole(config, run)
    for _ in range(2):
        files = [path.name for path in curve.train_whole(config, run)]
        assert files == ["seed0-000004.safetensors", "seed0.safetensors"]
        assert taken == [0, 1, 2, 3, 4, 5]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGTERM to a child: it kills")
def test_sigterm_saves_and_says_how_to_resume(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable, "-m", "byg_train", "--preset", "demo", "--data", str(tiny_data),
        "--output", str(tmp_path / "run"), "--device", "cpu", "--steps", "100000",
    ]  # fmt: skip
    over = merged(SMALL, {"model": {"path": str(tiny_base)}, "warmup": {"lora": "none"}})
    sets = [f"{s}.{k}={v}" for s, keys in over.items() for k, v in keys.items()]
    for assignment in sets:
        if not assignment.startswith("train.steps"):
            command += ["--set", assignment.replace("True", "true").replace("False", "false")]
    root = Path(__file__).parents[1]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=root)
    metrics = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 600
    while not (metrics.exists() and '"full"' in metrics.read_text()):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 143, errors
    assert "--resume" in errors
    assert checkpoints(tmp_path / "run" / "checkpoints")
