"""NP-Edit's step: staged as it adds, gradients through both evaluations, who sees what."""

from __future__ import annotations

import pytest
import torch
from npedit_problems import ASKS, W, roles, work
from step_problems import Recorder, assert_same_gradients, gradients, scaled
from torch import Tensor

from byg_train.config import ConfigError, TrainConfig, build_config, merge_settings
from byg_train.config.critic import CriticConfig
from byg_train.config.methods import NpEditConfig
from byg_train.core.flow import noised, one_step
from byg_train.core.losses import distribution_matching_loss, velocity_mse
from byg_train.core.roles import EditBatch, Roles
from byg_train.core.schedule import Draw
from byg_train.objectives.npedit import (
    AUXILIARY,
    NPEDIT,
    auxiliary_step,
    npedit_joint,
    npedit_step,
    student_samples,
)
from byg_train.objectives.objective import Calls
from byg_train.training import plan
from byg_train.training.cost import critic_bytes, shapes, step_cost
from byg_train.training.plan import _rows


def changed(**settings: object) -> NpEditConfig:
    return W.model_copy(update=settings)


def joint_gradients(batch: EditBatch, draw: Draw, w: NpEditConfig) -> dict[str, Tensor]:
    G = roles()
    npedit_joint(G, batch, draw, w).loss.backward()
    return gradients(G.edit)


# ---------------------------------------------------------------- the student


@pytest.mark.parametrize("teacher", ["base", "editor"])
@pytest.mark.parametrize("factor", [1.0, 0.25, 1024.0])
@pytest.mark.parametrize("depth", [1, 2])
def test_the_staged_step_leaves_the_joint_gradient(depth: int, factor: float, teacher: str) -> None:
    (batch, draw), w = work(depth), changed(teacher=teacher)
    G = roles()
    staged = npedit_step(G, batch, draw, w, scaled(factor))
    assert_same_gradients(gradients(G.edit), joint_gradients(batch, draw, w), factor)
    joint = npedit_joint(roles(), batch, draw, w)
    torch.testing.assert_close(staged.loss, joint.loss.detach())
    torch.testing.assert_close(staged.terms, joint.terms)
    assert all(p.grad is None for net in (G.base, G.aux, G.teacher) for p in net.parameters())


@pytest.mark.parametrize("weight", ["critic_weight", "dmd_weight", "nothing_weight"])
def test_each_weight_alone_stages_as_it_adds(weight: str) -> None:
    batch, draw = work(2)
    none = {"critic_weight": 0.0, "dmd_weight": 0.0, "nothing_weight": 0.0}
    w = changed(**none | {weight: 0.8})
    G = roles()
    out = npedit_step(G, batch, draw, w, scaled(0.5))
    assert_same_gradients(gradients(G.edit), joint_gradients(batch, draw, w), 0.5)
    declared = {term.name for term in NPEDIT.terms if term.weight == weight}
    assert out.terms.keys() == declared
    if weight != "critic_weight":
        assert not G.judge.asked


def test_the_unroll_is_the_papers_by_hand() -> None:
    """eps -> x_hat -> noised anew -> x_0, and the gradient of both evaluations by autograd."""
    batch, draw = work(2)
    G, (x, c) = roles(), batch[:2]
    one = torch.ones(3, dtype=torch.float64)
    x_hat = draw.eps - G.edit(draw.eps, one, c, x)
    y_t = 0.4 * x_hat + 0.6 * draw.unroll.fresh
    x_0 = y_t - 0.6 * G.edit(y_t, 0.6 * one, c, x)
    w = changed(dmd_weight=0.0, nothing_weight=0.0)
    found = roles()
    npedit_step(found, batch, draw, w, scaled(1.0))
    torch.testing.assert_close(found.judge.asked[0][1], x_0)
    answers = G.judge(x, x_0, ASKS)
    (w.critic_weight * (answers["edit"] + answers["identity"])).mean().backward()
    assert_same_gradients(gradients(found.edit), gradients(G.edit))
    # Both evaluations teach: without the first one's part it is another gradient.
    alone = roles()
    x_0 = y_t.detach() - 0.6 * alone.edit(y_t.detach(), 0.6 * one, c, x)
    answers = alone.judge(x, x_0, ASKS)
    (w.critic_weight * (answers["edit"] + answers["identity"])).mean().backward()
    mine, theirs = gradients(G.edit), gradients(alone.edit)
    assert all((mine[k] - theirs[k]).norm() > 0.05 * mine[k].norm() for k in mine)


def test_matching_by_hand() -> None:
    """Teacher and auxiliary at one state, without the source; guidance by the type of edit."""
    batch, draw = work(1)
    w = changed(critic_weight=0.0, nothing_weight=0.0, dmd_weight=1.0)
    G, one = roles(), torch.ones(3, dtype=torch.float64)
    x_0 = draw.eps - G.edit(draw.eps, one, batch.c, batch.x)
    with torch.no_grad():
        x_t = noised(x_0, draw.unroll.eps, draw.t)
        v, v_neg = (G.base(x_t, draw.t, text) for text in (batch.p_tgt, batch.negative))
        weights = torch.tensor([2.0, 7.5, 2.0], dtype=torch.float64).view(3, 1, 1, 1, 1)
        real = one_step(x_t, v_neg + weights * (v - v_neg), draw.t)
        fake = one_step(x_t, G.aux(x_t, draw.t, batch.p_tgt), draw.t)
    wanted = distribution_matching_loss(x_0, real, fake)
    torch.testing.assert_close(npedit_joint(roles(), batch, draw, w).terms["dmd"], wanted.detach())


@pytest.mark.parametrize("teacher", ["base", "editor"])
def test_who_sees_what(teacher: str) -> None:
    """NP-Edit's teacher sees captions alone; an editor as teacher sees what the student sees."""
    batch, draw = work(2)
    G = roles()
    G = G._replace(**{n: Recorder(getattr(G, n)) for n in ("edit", "base", "aux", "teacher")})
    npedit_step(G, batch, draw, changed(teacher=teacher, teacher_guidance=1.0,
                                        teacher_guidance_strong=1.0), scaled(1.0))  # fmt: skip
    asked, idle = (G.base, G.teacher) if teacher == "base" else (G.teacher, G.base)
    assert not idle.calls
    for x_t, t, text, source, graph in (*asked.calls, *G.aux.calls):
        assert not graph and not x_t.requires_grad and torch.equal(t, draw.t)
        assert text is (batch.p_tgt if teacher == "base" else batch.c)
        assert source is (None if teacher == "base" else batch.x)
    assert len(asked.calls) == len(G.aux.calls) == 1
    assert all(text is batch.c and source is batch.x for _, _, text, source, _ in G.edit.calls)
    assert [graph for *_, graph in G.edit.calls] == [False, False, True, True]
    assert [t[0].item() for _, t, *_ in G.edit.calls] == [1.0, 0.6, 0.6, 1.0]


def test_scores_keep_away_from_both_ends() -> None:
    batch, draw = work(1)
    draw = draw._replace(t=torch.tensor([1.0, 1e-6, 0.5], dtype=torch.float64))
    G = roles()
    G = G._replace(aux=Recorder(G.aux))
    npedit_step(G, batch, draw, W, scaled(1.0))
    assert G.aux.calls[0][1].tolist() == [0.98, 0.02, 0.5]


def test_rows_that_do_nothing_are_held_to_their_source() -> None:
    batch, draw = work(2)
    out = npedit_joint(roles(), batch, draw, W)
    assert out.terms["nothing"].tolist()[:2] == [0, 0]
    G = roles()
    npedit_step(G, batch, draw, W, scaled(1.0))
    wanted = velocity_mse(G.judge.asked[0][1], batch.x)[2]
    assert out.terms["nothing"][2].item() == pytest.approx(wanted.item())


def test_one_graph_is_alive_at_a_time() -> None:
    """As the stages are called, and nothing of the student's graph is held by the sample's."""
    batch, draw = work(2)
    stages, leaves = [], []

    def backward(loss: Tensor, stage: str) -> float:
        stages.append(stage)
        G = gradients(student.edit)
        leaves.append(all(g is None for g in G.values()))
        return scaled(1.0)(loss, stage)

    student: Roles = roles()
    npedit_step(student, batch, draw, W, backward)
    assert stages == ["sample", "student", "student"]
    assert leaves[:2] == [True, True]  # the sample's graph reaches no weight of the student


# ---------------------------------------------------------------- the auxiliary


@pytest.mark.parametrize("teacher", ["base", "editor"])
def test_the_auxiliary_learns_what_the_student_draws(teacher: str) -> None:
    (batch, draw), w = work(2), changed(teacher=teacher)
    G = roles()
    (x_0,) = student_samples(G, [(batch, draw)])
    assert not x_0.requires_grad
    out = auxiliary_step(G, batch, draw, w, scaled(1.0), x_0)
    shown = (batch.c, batch.x) if teacher == "editor" else (batch.p_tgt, None)
    twin, eps = roles(), draw.unroll.eps
    loss = velocity_mse(twin.aux(noised(x_0, eps, draw.t), draw.t, *shown), eps - x_0)
    loss.mean().backward()
    torch.testing.assert_close(out.terms["auxiliary"], loss.detach())
    assert_same_gradients(
        {k: g for k, g in gradients(G.aux).items() if g is not None},
        {k: g for k, g in gradients(twin.aux).items() if g is not None},
    )
    assert all(p.grad is None for p in G.edit.parameters())


# ---------------------------------------------------------------- settings


def test_the_critics_weight_rises_over_its_share_of_the_run() -> None:
    w = changed(critic_rise=0.2)
    risen = [w.after(share).critic_weight / w.critic_weight for share in (0, 0.1, 0.2, 1)]
    assert risen == pytest.approx([0.1, 0.55, 1, 1])
    assert changed(critic_weight=0.0).after(0).critic_weight == 0


def test_guidance_goes_by_the_type_of_edit() -> None:
    strong = {kind: W.guidance(kind) for kind in ("remove", "style_change", "add", "")}
    assert strong == {"remove": 7.5, "style_change": 7.5, "add": 2.0, "": 2.0}


def test_what_cannot_teach_is_refused() -> None:
    for method, message in (
        ({"critic_weight": 0, "dmd_weight": 0}, "nothing teaches the student"),
        ({"teacher": "editor"}, "name its LoRA, as --init"),
        ({"critic_weight": 0.5}, "set critic.path"),
    ):
        with pytest.raises(ConfigError, match=message):
            build_config({"method": {"objective": "npedit", **method}})


def test_the_roles_are_those_that_are_asked() -> None:
    def adapters(**method: object) -> tuple[str, ...]:
        config = build_config(
            {
                "method": {"objective": "npedit", **method},
                "critic": {"path": "world"},
                "warmup": {"lora": "world"},
            }
        )
        return NPEDIT.adapters(config)

    assert adapters() == ("aux",)
    assert adapters(teacher="editor") == ("aux", "teacher")
    assert adapters(dmd_weight=0) == ()


def test_a_profile_makes_four_steps_of_any_editor() -> None:
    for preset in ("flux_edit", "wan22_style", "z_image_edit"):
        config = merge_settings(preset, profile="four_steps", init="mine.safetensors")
        assert (config.method.objective, config.method.teacher) == ("npedit", "editor")
        assert (config.sample.sampler, config.sample.steps, config.sample.cfg) == ("renoise", 4, 1)
        assert config.warmup.lora == "mine.safetensors" and config.warmup.max_steps == 0
        assert config.method.ema_decay is None
        calls, aux = NPEDIT.calls(config), AUXILIARY.calls(config)
        assert calls.critic == 0 and calls.teacher == 1 and calls.aux_gradients == 5
        assert calls.edit == 1.75 * 6 and calls.gradients == aux.edit == 1.75


# ---------------------------------------------------------------- the plan


def test_the_plan_counts_every_network() -> None:
    config = merge_settings("npedit_z_image")
    calls, r = NPEDIT.calls(config), 0.5
    assert calls == Calls(
        gradients=1.75, edit=1.75 * 6, aux=1, aux_gradients=5, teacher=2, critic=1
    )
    # Student with the source; auxiliary and teacher without; three F for a gradient.
    wanted = 1.75 * 3 + 1.75 * 6 + r * (1 + 2 + 5 * 3)
    assert step_cost(config, r).full == pytest.approx(wanted)
    with_source = merge_settings("z_image_edit", profile="four_steps", init="a.safetensors")
    assert step_cost(with_source, r).full == pytest.approx(1.75 * 3 + 1.75 * 6 + 1 + 1 + 5 * 3)
    rows = dict(_rows(config, shapes(config, 16, None), None))
    assert "auxiliary 5 with a gradient" in rows["forwards"] and "teacher 2" in rows["forwards"]
    assert "critic 14" in rows["memory per GPU"]
    assert "forwards" not in dict(
        _rows(merge_settings("flux_edit"), shapes(config, 16, None), None)
    )


@pytest.mark.parametrize(
    ("path", "size"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", 14e9),
        ("Qwen/Qwen3-VL-30B-A3B-Instruct", 60e9),
        ("OpenGVLab/InternVL3-14B-hf", 28e9),
        ("models/InternVL3_5-2B", 4e9),
        ("my/critic", 0),
    ],
)
def test_the_critics_memory_is_read_from_its_name(path: str, size: float) -> None:
    def settings(**more: object) -> TrainConfig:
        return build_config({"method": {"objective": "npedit"}, "critic": {"path": path}, **more})

    config = settings()
    need = [plan.need(one, shapes(one, 16, None)) for one in (
        config,
        config.model_copy(update={"critic": CriticConfig(path=path, device="cuda:1")}),
    )]  # fmt: skip
    assert critic_bytes(config) == need[0].critic == size and need[1].critic == 0
    assert need[0].step - need[1].step == pytest.approx(size)
    assert critic_bytes(build_config({"critic": {"path": path}})) == 0


def test_two_trained_adapters_are_counted_as_two() -> None:
    def adapter(profile: str | None) -> tuple[float, float]:
        config = merge_settings("flux_edit", profile=profile, init="a.safetensors")
        found = plan.need(config, shapes(config, 16, None))
        return found.adapter, found.ema

    (one, ema), (two, teacher) = adapter(None), adapter("four_steps")
    assert two == 2 * one and teacher == ema > 0
