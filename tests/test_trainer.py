"""The real trainer on a tiny random FLUX: gradients, alarms, the warm-up, what it writes."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from runs import metrics
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import run as train_whole
from tiny_run import settings, trainer

from byg_train.config import ConfigError, build_config
from byg_train.core.flow import at_rank
from byg_train.core.roles import EditBatch
from byg_train.objectives.byg import BYG, byg_step
from byg_train.training.optimizer import learning_rate
from byg_train.training.run_folder import check_output, write_config
from byg_train.training.source_watch import SourceWatch
from byg_train.training.state import State
from byg_train.training.trainer import Trainer, TrainingError


def test_staged_gradients_through_the_trainer_equal_the_joint_gradient_of_eq_5(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    over = {
        "method": {"lambda_cycle": 0.7, "lambda_prior": 1.3, "lambda_id": 0.4, "alpha": 0.6},
        "train": {"batch_size": 2, "global_batch": 8},
        "warmup": {"min_steps": 0, "max_steps": 0},
    }
    t = trainer(settings(tiny_base, tiny_data, over), tmp_path / "run")
    t.backbone.experts.double()
    generator = torch.Generator().manual_seed(5)
    for p in t.bank.named_parameters().values():
        p.data = 0.2 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
    t.bank.copy_to_ema()

    def double(part: torch.Tensor | dict) -> torch.Tensor | dict:
        return part.double() if isinstance(part, torch.Tensor) else {
            k: v.double() for k, v in part.items()
        }  # fmt: skip

    t.batches = [EditBatch(*map(double, t.batches[k][:5])) for k in range(8)]
    parameters, work = t.bank.named_parameters(), t._micro_batches(t.spans)
    draws = [one.draw for one in work]
    t._taken(t.objective, work)
    staged = {name: p.grad.clone() for name, p in parameters.items()}
    t.optimizer.zero_grad()
    for one in work:
        loss = byg_step(t.roles, one.batch, one.draw, t.config.method).loss
        (loss * len(one.batch.x) / 8).backward()

    assert [len(draw.t) for draw in draws] == [2, 2, 2, 2]
    assert len({float(time) for draw in draws for time in draw.t}) == 8
    for name, p in parameters.items():
        assert p.grad.norm() > 0, name
        assert (staged[name] - p.grad).norm() <= 1e-10 * p.grad.norm(), name


@pytest.mark.slow
def test_another_seed_gives_another_file_and_the_same_seed_the_same(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    files = []
    for i, seed in enumerate((0, 0, 1)):
        (tmp_path / str(i)).mkdir()
        config = settings(tiny_base, tiny_data, {"seed": seed, "train": {"steps": 1}})
        files.append(load_file(train_whole(config, tmp_path / str(i) / "run")))
    assert all(torch.equal(files[0][k], files[1][k]) for k in files[0])
    assert any(not torch.equal(files[0][k], files[2][k]) for k in files[0])


@pytest.mark.slow
def test_a_run_writes_what_the_design_promises(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run = train_whole(settings(tiny_base, tiny_data), tmp_path / "run").parent
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
    full = [m for m in metrics(run) if m["kind"] == "full"]
    assert full
    for m in full:
        w = dict(cycle=1.0, prior_fwd=1.0, prior_rev=1.0, identity=0.2)
        assert m["loss"] == pytest.approx(sum(w[k] * m[k] for k in w), rel=1e-5)
        assert m["grad_norm"] > 0
    gradients = [m for m in metrics(run) if m["kind"] == "gradients"]
    assert gradients
    checked = [f"{term.name}/{stage}" for term in BYG.terms for stage in term.stages]
    assert len(checked) == 5 and all(m[name] > 0 for m in gradients for name in checked)


@pytest.mark.slow
def test_the_gradient_check_takes_nothing_from_the_run(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    files = []
    for every in (1, 1000):
        folder = tmp_path / str(every)
        folder.mkdir()
        over = {"train": {"check_gradients_every": every, "steps": 2}}
        files.append(load_file(train_whole(settings(tiny_base, tiny_data, over), folder / "run")))
    assert all(torch.equal(files[0][k], files[1][k]) for k in files[0])


@pytest.mark.slow
def test_a_check_that_falls_on_an_identity_step_comes_with_the_next_full_one(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    over = {
        "seed": 3,
        "method": {"identity_probability": 0.5},
        "warmup": {"min_steps": 0, "max_steps": 0},
        "train": {"steps": 9, "check_gradients_every": 3, "sample_every": 0},
    }
    found = metrics(train_whole(settings(tiny_base, tiny_data, over), tmp_path / "run").parent)
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


@pytest.mark.slow
def test_a_dead_gradient_raises_the_alarm(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    t = trainer(settings(tiny_base, tiny_data), tmp_path / "run")
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
    t = trainer(settings(tiny_base, tiny_data), tmp_path / "run")
    next(iter(t.bank.named_parameters().values())).data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="nan at step 0.*checkpoint is intact"):
        t.optimizer_step()


@pytest.mark.slow
def test_the_warm_up_ends_by_the_measured_identity_loss(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    over = {"warmup": {"min_steps": 0, "until": 1e9, "max_steps": 5}}
    t = trainer(settings(tiny_base, tiny_data, over), tmp_path / "a")
    t.optimizer_step()
    assert t.state.warmup == 0
    over = {"warmup": {"min_steps": 0, "until": 1e-9, "max_steps": 2}}
    t = trainer(settings(tiny_base, tiny_data, over), tmp_path / "b")
    kinds = [t.optimizer_step()["kind"] for _ in range(3)]
    assert kinds[:2] == ["warmup", "warmup"]
    assert kinds[2] != "warmup"
    assert "max_steps" in caplog.text


def test_ema_starts_as_a_hard_copy_and_moves_only_after_the_warm_up(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    t = trainer(settings(tiny_base, tiny_data), tmp_path / "run")
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
    t = trainer(settings(tiny_base, tiny_data, {"method": {"prior_guidance": 3}}), tmp_path / "run")
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
        trainer(settings(tiny_base, tiny_data, over), tmp_path / "run")
    assert not (tmp_path / "cache").exists()


def test_the_alarms_of_a_look_reach_the_log_once_it_should_edit(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A random base knows no source, so identity is far away; editing may take a quarter."""
    t = trainer(settings(tiny_base, tiny_data), tmp_path / "run")
    for step, heard in ((1, False), (2, True)):
        t.state.warmup, t.state.step = 0, step
        t.validate()
        assert (f"step {step}: the source is being lost" in caplog.text) is heard
    t.losing, t.state.step = True, 3  # as it was said on the way
    t.validate()
    assert "step 3: drift" in caplog.text and "step 3: the source" not in caplog.text
    t.state.step = t.config.train.steps
    t.validate()  # at its end, hours later, it is said again
    assert f"step {t.state.step}: the source is being lost" in caplog.text


def test_what_is_kept_of_the_source_is_told_on_the_way(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the metrics, on the progress line, and as an alarm once; a resumed run knows its start."""
    monkeypatch.setattr("byg_train.training.keeper.EVERY", 1)
    said, lines = [], []
    monkeypatch.setattr(
        "byg_train.training.keeper.log.warning", lambda *of: said.append(of[0] % of[1:])
    )
    t = trainer(settings(tiny_base, tiny_data, {"warmup": {"min_steps": 0}}), tmp_path / "run")
    for lost in (0.1, 0.6, 0.7, 0.2, 0.8):
        t.optimizer_step()
        monkeypatch.setattr(
            t.validator.watch, "lost", lambda each, lost=lost: {"transformer": lost}
        )
        t.line = SimpleNamespace(said="")
        t.watch_source()
        lines.append(t.line.said)
    assert lines == ["source 90 %", "source 40 %", "source 30 %", "source 80 %", "source 20 %"]
    assert [m["lost"] for m in metrics(tmp_path / "run") if m["kind"] == "source"] == [
        0.1,
        0.6,
        0.7,
        0.2,
        0.8,
    ]
    assert [sentence.split(": ")[0] for sentence in said] == ["step 2", "step 5"]
    assert all("the source is being lost" in sentence for sentence in said)
    copied = t.state.copied
    assert copied == t.validator.watch.copied and copied["transformer"] > 0
    t.save()
    again = trainer(t.config, tmp_path / "run")
    again.resume()
    assert again.validator.watch.copied == copied


def test_what_a_gentle_end_is_to_bring_back_raises_no_alarm_before_it(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byg_train.training.keeper.EVERY", 1)
    said = []
    for level in ("info", "warning"):
        monkeypatch.setattr(
            f"byg_train.training.keeper.log.{level}", lambda *of: said.append(of[0] % of[1:])
        )
    over = {"warmup": {"min_steps": 0}, "train": {"steps": 20}, "method": {"gentle_from": 0.45}}
    t = trainer(settings(tiny_base, tiny_data, over), tmp_path / "run")
    monkeypatch.setattr(t.validator.watch, "lost", lambda each: {"transformer": 0.8})
    t.state.step = 3  # of a warm-up
    t.end_warmup()
    assert t.gentle_end() == (
        "lambda_prior 1 and alpha 0.1 hold for 9 of the 20 steps, then 0.5 and 0.1 "
        "(method.gentle_from 0.45)"
    )
    monkeypatch.setattr(t.validator.watch, "copied", {})  # the random base cannot be measured by
    # A tenth of the run is left to it.
    for step in (9, 11, 13, 14, 15):
        t.state.step = step
        t.watch_source()
    assert [sentence.split(": ")[0] for sentence in said] == ["step 9", "step 14"]
    assert "20 % of the source is kept; more is expected after step 12" in said[0]
    assert "the source is being lost" in said[1] and "gentle_prior" in said[1]
    assert not t.gentle_end()
    # A run that goes on behind the turn promises nothing any more.
    t.state.step, t.losing, t.awaits = 12, False, False
    t.watch_source()
    assert len(said) == 2


@pytest.mark.slow
def test_a_source_that_is_first_lost_at_the_end_is_told_once(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("byg_train.training.keeper.EVERY", 1)
    said = []
    log = "byg_train.training.keeper.log.warning"
    monkeypatch.setattr(log, lambda *of: said.append(of[0] % of[1:]))
    over = {"warmup": {"min_steps": 0}, "train": {"steps": 4}}
    t = trainer(settings(tiny_base, tiny_data, over), tmp_path / "run")
    t.end_warmup()
    monkeypatch.setattr(t.validator.watch, "lost", lambda each: {"transformer": 0.8})
    t.state.step = 4
    for _ in range(2):
        t.watch_source()
        t.validate()
    lost = [sentence for sentence in said if "the source is being lost" in sentence]
    assert len(lost) == 1 and lost[0].startswith("step 4: ")
    t.told_lost = 2  # a source that was lost earlier is told once more
    t.validate()
    assert sum("the source is being lost" in sentence for sentence in said) == 2


@pytest.mark.parametrize(("share", "steps", "turn"), [(0.55, 6000, 3300), (0.28, 100, 28)])
def test_the_turn_is_the_step_from_which_the_gentle_weights_hold(
    share: float, steps: int, turn: int
) -> None:
    config = build_config({"method": {"gentle_from": share}, "train": {"steps": steps}})
    keeper = SimpleNamespace(config=config)
    assert Trainer.turn.fget(keeper) == turn
    before, after = (config.method.after(step / steps) for step in (turn - 1, turn))
    assert before is config.method and after.lambda_prior == config.method.gentle_prior


@pytest.mark.slow
def test_a_run_that_begins_with_a_finished_warm_up_has_lost_nothing_yet(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a LoRA that is only named (--init) nobody knows whether it copies: 100 % is a copy."""
    # The random base is no worse than its editor, which would be a warm-up that copied nothing.
    monkeypatch.setattr(
        SourceWatch, "without_source", lambda self, each=None: {"transformer": 50.0}
    )
    over = {"warmup": {"min_steps": 0, "until": 1e9, "max_steps": 5}, "train": {"steps": 1}}
    lora = train_whole(settings(tiny_base, tiny_data, over), tmp_path / "run")
    looks = [m for m in metrics(tmp_path / "run") if m["kind"] == "validation"]
    assert looks[0]["step"] == 0 and looks[0]["source_lost"] == pytest.approx(0, abs=1e-6)
    none = {"min_steps": 0, "until": None, "max_steps": 0}
    t = trainer(
        settings(tiny_base, tiny_data, {"warmup": {"lora": str(lora), **none}}), tmp_path / "on"
    )
    t.end_warmup()
    assert not t.state.warming_up and t.state.copied == {}
    (lost,), (now,) = t.validator.watch.lost().values(), t.validator.watch.identity().values()
    assert lost == pytest.approx(now / 50) and lost > 0


def test_a_run_whose_checkpoints_are_gone_keeps_its_loras(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """To begin anew would write over them; where there is none yet, nothing is lost by it."""
    run = tmp_path / "run"
    run.mkdir()
    t = trainer(settings(tiny_base, tiny_data), run)
    t.resume()
    assert t.state.step == 0
    (run / "run-000002.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"write over its LoRAs \(run-000002.*--init"):
        t.resume()


@pytest.mark.slow
def test_what_the_alarms_advise_may_be_done_at_a_resume(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    run, gentle = tmp_path / "run", {"lambda_prior": 0.5, "alpha": 0.2, "gentle_from": 0.5}
    train_whole(settings(tiny_base, tiny_data), run)
    write_config(run, settings(tiny_base, tiny_data))
    config = settings(tiny_base, tiny_data, {"method": gentle, "train": {"steps": 6}})
    check_output(run, config, resume=True)
    train_whole(config, run, resume=True)
    other = settings(tiny_base, tiny_data, {"method": {"lambda_cycle": 2.0}})
    with pytest.raises(ConfigError, match="method.lambda_cycle"):
        check_output(run, other, resume=True)
