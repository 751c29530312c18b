"""NP-Edit through the trainer: two networks, two optimisers, resume, stops, skips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import runs
import torch
from npedit_run import apart, settings, weights
from runs import metrics, stop_after, timeless
from states import same
from torch import Tensor

from byg_train.core.critic import Question
from byg_train.core.roles import EditBatch, Text
from byg_train.core.schedule import time_grid
from byg_train.critics import judge
from byg_train.models.lora_file import read_info
from byg_train.training.checkpoint import checkpoints, load_checkpoint
from byg_train.training.state import SKIPS
from byg_train.training.stopping import HalfStep, Interrupted
from byg_train.training.trainer import Trainer, TrainingError


@pytest.fixture(autouse=True)
def critic(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that likes what is bright: what it says does not matter here, that it is asked does."""

    def bright(source: Tensor, edited: Tensor, questions: Sequence[Question]) -> Tensor:
        light = torch.stack([edited[q.row].mean() - source[q.row].mean() for q in questions])
        return torch.stack([-light, light], 1)

    monkeypatch.setattr(judge, "load_critic", lambda config, device: bright)


# ---------------------------------------------------------------- one step


def test_a_step_trains_both_and_measures_both(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    t = runs.trainer(settings(tiny_base, tiny_data), tmp_path / "run", 8)
    before = weights(t), weights(t, "aux")
    warm = t.optimizer_step()
    assert warm["kind"] == "warmup" and not apart(before[1], weights(t, "aux"))
    before, places = (weights(t), weights(t, "aux")), _places(t)
    record = t.optimizer_step()
    assert apart(before[0], weights(t)) and apart(before[1], weights(t, "aux"))
    n = t.config.items_per_step
    assert places == list(range(3 * n, 6 * n))  # of step 1: batches of their own
    terms = {"edit", "kept", "dmd", "nothing", "auxiliary", "aux_loss", "aux_grad_norm"}
    assert terms <= record.keys() and record["aux_grad_norm"] > 0 and record["grad_norm"] > 0
    w = t.config.method.after(0)
    total = sum(getattr(w, term.weight) * record[term.name] for term in t.objective.terms)
    assert record["loss"] == pytest.approx(total, rel=1e-5)
    assert t.labels["auxiliary"] == "aux" and t.state.helped == 0
    assert all(p.grad is None for p in t.bank.named_parameters("aux").values())


def _places(t: Trainer) -> list[int]:
    """Where items are taken from in the order of the data, as a step asks for them."""
    found: list[int] = []

    class Noted:
        def __getitem__(self, k: int) -> EditBatch:
            found.append(k)
            return batches[k]

    batches, t.batches = t.batches, Noted()
    t.state.checked = t.state.main_step  # that check takes an item too
    return found


@pytest.mark.slow
def test_checkpointed_blocks_leave_the_same_gradients(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """The auxiliary's blocks compute themselves again as the auxiliary, not as the student."""
    found = []
    for again in (False, True):
        over = {"model": {"gradient_checkpointing": again}, "warmup": {"min_steps": 0}}
        t = runs.trainer(settings(tiny_base, tiny_data, over), tmp_path / str(again), 8)
        t.optimizer_step()
        t.optimizer_step()
        found.append(weights(t) | {f"aux.{k}": v for k, v in weights(t, "aux").items()})
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=1e-6, rtol=1e-3, msg=name)


def test_the_depth_is_drawn_once_for_all_micro_batches_of_an_update(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    t = runs.trainer(settings(tiny_base, tiny_data), tmp_path / "run", 8)
    depths = []
    for step in range(60):
        t.state.step = step
        grids = [one.draw.unroll.grid.tolist() for one in t._micro_batches(t.spans)]
        assert all(grid == grids[0] for grid in grids) and grids[0][0] == 1 and grids[0][-1] == 0
        depths.append(tuple(grids[0][1:-1]))
    grid = time_grid(4, 1.0).tolist()
    assert set(depths) == {(), *((time,) for time in grid[1:-1])}
    assert all(7 <= depths.count(depth) <= 25 for depth in set(depths))  # of 60, each a fourth


def test_texts_of_its_own_are_embedded(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    over = {"method": {"nothing_probability": 1.0}}
    t = runs.trainer(settings(tiny_base, tiny_data, over), tmp_path / "run", 8)
    batch = t.batches[0]

    def is_text(found: Text, text: str) -> bool:
        return all(torch.equal(found[k][0], v) for k, v in t.cache.text(text).items())

    assert is_text(batch.c, "do nothing.") and is_text(batch.negative, "low quality, artifacts")
    assert {ask.edit_type for ask in batch.asks} == {"nothing"}
    assert all(torch.equal(a, batch.p_src[name]) for name, a in batch.p_tgt.items())
    over = {"method": {"nothing_probability": 0.0}}
    t = runs.trainer(settings(tiny_base, tiny_data, over), tmp_path / "run2", 8)
    assert not {"nothing"} & {ask.edit_type for k in range(8) for ask in t.batches[k].asks}


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_what_an_item_does_not_ask_raises_no_alarm(
    share: float,
    tiny_base: Path,
    tiny_data: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without the second question a critic is asked nothing at all of an item to do nothing."""
    over = {"method": {"nothing_probability": share, "identity_question": False}}
    t = runs.trainer(settings(tiny_base, tiny_data, over), tmp_path / "run", 8)
    t._check_gradients()
    (found,) = metrics(tmp_path / "run")
    assert found["kind"] == "gradients" and found["dmd/student"] > 0
    assert ("edit/student" in found) == (share == 0) and found.get("edit/student") != 0
    assert "no gradient" not in caplog.text


# ---------------------------------------------------------------- a run


@pytest.mark.slow
def test_a_resumed_run_equals_the_uninterrupted_one_bitwise(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tiny_base, tiny_data)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    (file,) = runs.run(config, tmp_path / "whole" / "run", 8)
    stop_after(monkeypatch, 2)
    parts = tmp_path / "parts" / "run"
    with pytest.raises(Interrupted, match="stopped at step"):
        runs.run(config, parts, 8)
    runs.run(config, parts, 8, resume=True)
    newest = [checkpoints(run / "checkpoints")[-1] for run in (file.parent, parts)]
    a, b = map(load_checkpoint, newest)
    assert same(a, b) and {"optimizer", "helper_optimizer"} <= a.keys()
    assert any(name.startswith("aux.") for name in a["lora"])
    assert timeless(file.parent) == timeless(parts)
    info = read_info(file)
    assert (info.sampler, info.sample_steps) == ("renoise", 4)
    checked = [m for m in metrics(file.parent) if m["kind"] == "gradients"]
    assert checked and all(m[f"{t}/student"] > 0 for m in checked for t in ("edit", "dmd"))


@pytest.mark.slow
def test_a_stop_between_updates_of_the_auxiliary_loses_none(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """Stopped at every forward in turn: each finished update is kept, and is not taken again."""
    config = settings(tiny_base, tiny_data, {"warmup": {"min_steps": 0, "max_steps": 0}})
    whole = runs.trainer(config, tmp_path / "whole", 8)
    whole.optimizer_step()
    t, left, kept = runs.trainer(config, tmp_path / "run", 8), [0], []
    real = t.backbone.velocity

    def counted(*args: object, **options: object) -> Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise HalfStep
        return real(*args, **options)

    t.backbone.velocity = counted
    config_roles = t.roles
    t.roles = config_roles._replace(edit=_heeding(config_roles.edit, left))
    for forwards in range(0, 200, 3):
        left[0] = forwards
        try:
            with t.whole():
                t.optimizer_step()
            break
        except HalfStep:
            kept.append(t.state.helped)
    assert kept == sorted(kept) and set(kept) == {0, 1, 2}
    assert not apart(weights(whole), weights(t))
    assert not apart(weights(whole, "aux"), weights(t, "aux"))


def _heeding(velocity: object, left: list[int]) -> object:
    def answer(*args: object) -> Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise HalfStep
        return velocity(*args)

    return answer


def test_a_step_with_a_huge_gradient_is_not_taken(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    over = {"warmup": {"min_steps": 0, "max_steps": 0}, "optimizer": {"skip_above": 1e-9}}
    t = runs.trainer(settings(tiny_base, tiny_data, over), tmp_path / "run", 8)
    before = weights(t), weights(t, "aux")
    record = t.optimizer_step()
    assert record["skipped"] == record["aux_skipped"] == 1 and t.state.step == 1
    assert not apart(before[0], weights(t)) and not apart(before[1], weights(t, "aux"))
    assert t.state.skipped == 3
    with pytest.raises(TrainingError, match=rf"{SKIPS} updates in a row"):
        while True:
            t.optimizer_step()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_is_not_taken(
    bad: float, tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    over = {"warmup": {"min_steps": 0, "max_steps": 0}, "method": {"dmd_weight": 0.0}}
    t = runs.trainer(settings(tiny_base, tiny_data, over), tmp_path / "run", 8)
    assert t.helper_optimizer is None and t.bank.adapters == ("edit",)
    real, before = t.roles.judge, weights(t)

    def judged(*args: object) -> dict[str, Tensor]:
        return {kind: loss * bad for kind, loss in real(*args).items()}

    t.roles = t.roles._replace(judge=judged)
    record = t.optimizer_step()
    assert record["skipped"] and record["grad_norm"] is None and not apart(before, weights(t))
    t.roles = t.roles._replace(judge=real)
    assert "skipped" not in t.optimizer_step() and apart(before, weights(t))
    assert t.state.skipped == 0
