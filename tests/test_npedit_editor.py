"""A four-step editor of a ByG LoRA: the editor teaches its own student, on FLUX and both of Wan."""

from __future__ import annotations

from pathlib import Path

import pytest
import runs
import torch
import wan_run
from npedit_run import apart, settings, weights

from byg_train.config.methods import BygConfig
from byg_train.training.assembly import make_roles


@pytest.mark.slow
def test_an_editor_teaches_its_own_student(
    tiny_base: Path, tiny_data: Path, tmp_path: Path, flux_lora: Path
) -> None:
    """Student, auxiliary and teacher begin as the editor; the teacher stays so."""
    over = {
        "method": {"critic_weight": 0.0, "teacher": "editor", "teacher_guidance": 1.0,
                   "teacher_guidance_strong": 1.0},
        "warmup": {"lora": str(flux_lora), "min_steps": 0, "max_steps": 0},
    }  # fmt: skip
    t = runs.trainer(settings(tiny_base, tiny_data, over), tmp_path / "run", 8)
    first = weights(t)
    assert any(value.any() for name, value in first.items() if "lora_B" in name)
    assert not apart(first, weights(t, "aux")) and not apart(first, weights(t, "teacher"))
    assert t.roles.judge is None
    record = t.optimizer_step()
    # Of equal networks DMD asks for nothing; two updates of the auxiliary later it asks for little.
    assert record["dmd"] < 0.05 and "edit" not in record
    assert apart(first, weights(t, "aux")) and not apart(first, weights(t, "teacher"))


@pytest.mark.slow
def test_both_experts_of_wan_learn_from_a_schedule_that_crosses_the_boundary(
    wan_clips: Path, tmp_path: Path, wan_lora: Path
) -> None:
    over = {
        "method": {"objective": "npedit", "critic_weight": 0.0, "aux_updates": 1,
                   "teacher": "editor", "ema_decay": None, "teacher_guidance": 1.0,
                   "teacher_guidance_strong": 1.0},
        "time": {"distribution": "uniform", "shift": 1.0},
        "warmup": {"lora": str(wan_lora), "min_steps": 0, "max_steps": 0},
        "sample": {"sampler": "renoise", "steps": 4, "shift": 12.0},
        "train": {"global_batch": 2},
        "lora": {"rank": 4},
    }  # fmt: skip
    t = wan_run.trainer(wan_run.settings(wan_clips, over), tmp_path / "run")
    t.bank.named_parameters("aux")  # it has one for each expert
    with torch.no_grad():  # else teacher and auxiliary agree, and nothing is asked for
        for p in t.bank.named_parameters("aux").values():
            p.mul_(1.5)
    t.helper_optimizer.param_groups[0]["lr"] = 0.0
    moved: dict[tuple[float, ...], set[str]] = {}
    for step in range(24):
        t.state.step, before = step, weights(t)
        depth = t._micro_batches(t.spans)[0].draw.unroll.grid.tolist()[1:-1]
        t.optimizer_step()
        t.state.step -= 1
        after = weights(t)
        names = {n.split(".")[0] for n in after if not torch.equal(before[n], after[n])}
        moved.setdefault(tuple(depth), set()).update(names)
        if len(moved) == 4:
            break
    low = {depth for depth in moved if depth and depth[0] < 0.875}
    assert low and len(moved) > len(low)
    for depth, names in moved.items():
        assert names == ({"high", "low"} if depth in low else {"high"}), depth


def test_a_student_is_trained_as_it_is_sampled(
    tiny_base: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """With the guidance that samples have, which ByG's editor sees only there."""
    over = {"method": {"critic_weight": 0.0}, "guidance": {"train": 1.0, "sample": 2.5}}
    t = runs.trainer(settings(tiny_base, tiny_data, over), tmp_path / "run", 8)
    seen = []

    class Backbone:
        def velocity(self, *args: object, guidance: float) -> None:
            seen.append(guidance)

    for method in (t.config.method, BygConfig()):
        config = t.config.model_copy(update={"method": method})
        make_roles(config, Backbone(), t.bank, {}).edit(None, None, None)
    assert seen == [2.5, 1.0]
