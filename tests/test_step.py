"""Algorithm 1 against its line by line transcription, and the staged form against the joint."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from byg_train.config.methods import BygConfig, SupervisedConfig
from byg_train.core.flow import noised, rollout
from byg_train.core.losses import velocity_mse
from byg_train.core.roles import EditBatch, Roles
from byg_train.core.schedule import Draw
from byg_train.objectives.byg import BYG, byg_step, staged_step
from byg_train.objectives.identity import identity_step
from byg_train.objectives.objective import Backward, StepOutput
from byg_train.objectives.supervised import supervised_step
from byg_train.training.peak import peak_saved_bytes

WEIGHTS = BygConfig(lambda_cycle=1.3, lambda_prior=0.7, lambda_id=0.4, alpha=0.25)
GRID = torch.tensor([1.0, 0.8, 0.5, 0.3, 0.0], dtype=torch.float64)
ON_NODES = [0.5, 1.0, 0.3]


def changed(**settings: object) -> BygConfig:
    """`WEIGHTS`, but for these settings."""
    return WEIGHTS.model_copy(update=settings)


def weights(cycle: float, prior: float, identity: float, alpha: float = 0.1) -> BygConfig:
    return BygConfig(lambda_cycle=cycle, lambda_prior=prior, lambda_id=identity, alpha=alpha)


class Net(nn.Module):
    """A velocity with a closed form: tanh of linear maps of state, time, text and source."""

    def __init__(self, seed: int, channels: int = 2, hidden: int = 6, depth: int = 1) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.state = nn.Linear(channels, hidden)
        self.source = nn.Linear(channels, hidden)
        self.time, self.text = nn.Linear(1, hidden), nn.Linear(5, hidden)
        self.middle = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth))
        self.out = nn.Linear(hidden, channels)
        self.double()

    def forward(self, x_t: Tensor, t: Tensor, text: Tensor, source: Tensor | None = None) -> Tensor:
        h = self.state(x_t.movedim(1, -1))
        if source is not None:
            h = h + self.source(source.movedim(1, -1))
        h = h + (self.time(t[:, None]) + self.text(text))[:, None, None, None]
        for layer in self.middle:
            h = torch.tanh(layer(torch.tanh(h)))
        return self.out(h).movedim(-1, 1)


class Recorder:
    """A velocity that remembers what it was asked."""

    def __init__(self, velocity: nn.Module) -> None:
        self.velocity, self.calls = velocity, []

    def __call__(
        self, x_t: Tensor, t: Tensor, text: Tensor, source: Tensor | None = None
    ) -> Tensor:
        self.calls.append((x_t, t, text, source, torch.is_grad_enabled()))
        return self.velocity(x_t, t, text, source)


def roles() -> Roles:
    return Roles(edit=Net(0), ema=Net(1), base=Net(2))


def gaussian(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def problem(times: list[float], seed: int = 0, side: int = 3) -> tuple[EditBatch, Draw]:
    """Random latents (B, 2, 2, side, side) and five-number texts."""
    g, b = torch.Generator().manual_seed(seed), len(times)
    x, eps = (gaussian(g, b, 2, 2, side, side) for _ in range(2))
    batch = EditBatch(x, *(gaussian(g, b, 5) for _ in range(4)))
    return batch, Draw(eps, torch.tensor(times, dtype=torch.float64), GRID)


def scaled(factor: float) -> Backward:
    def backward(loss: Tensor, stage: str) -> float:
        (loss * factor).backward()
        return factor

    return backward


def gradients(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in net.named_parameters()}


def assert_same_gradients(
    found: dict[str, Tensor], wanted: dict[str, Tensor], factor: float = 1.0, rel: float = 1e-10
) -> None:
    """Tensor by tensor, in units of the wanted tensor's norm."""
    assert found.keys() == wanted.keys()
    for name, g in wanted.items():
        assert (found[name] - factor * g).norm() <= rel * factor * g.norm(), name


def joint_gradients(batch: EditBatch, draw: Draw, w: BygConfig = WEIGHTS) -> dict[str, Tensor]:
    G = roles()
    byg_step(G, batch, draw, w).loss.backward()
    return gradients(G.edit)


# ---------------------------------------------------------------- Algorithm 1, line by line


def algorithm_1(
    G_edit: Net, G_EMA: Net, G_T2I: Net, batch: EditBatch, draw: Draw, w: BygConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Lines 2-34 as printed, `s = t` included: t must lie on the grid. Returns L and its terms."""
    x, c, c_bar, p_src, p_tgt, _ = batch
    eps, t = draw.eps, draw.t
    b = len(x)
    t_ = t.view(b, 1, 1, 1, 1)
    with torch.no_grad():
        y, y_t = eps, torch.full_like(eps, torch.nan)  # 5
        for s, s_next in pairwise(draw.grid.tolist()):  # 6
            for i in range(b):  # 8-10
                if s == t[i]:
                    y_t[i] = y[i]
            y = y - (s - s_next) * G_EMA(y, torch.full_like(t, s), c, x)  # 7
        y_0 = y
    v_fwd = G_edit(y_t, t, c, x)  # 14
    y_hat = y_t - t_ * v_fwd  # 15

    def prior(v: Tensor, v_src: Tensor, v_tgt: Tensor) -> Tensor:
        v, v_src, v_tgt = (a.reshape(b, -1) for a in (v, v_src.detach(), v_tgt.detach()))
        l_dir = 1 - cosine_similarity(v - v_src, v_tgt - v_src, dim=1)  # 19
        return l_dir + w.alpha * (v - v_tgt).pow(2).mean(1)  # 20, 21

    l_prior_fwd = prior(v_fwd, G_T2I(y_t, t, p_src), G_T2I(y_t, t, p_tgt))  # 18-21
    x_t = (1 - t_) * x + t_ * eps  # 24
    y_hyb = y_0.detach() + (y_hat - y_hat.detach())  # 25
    v_rev = G_edit(x_t, t, c_bar, y_hyb)  # 26
    l_cycle = (v_rev - (eps - x)).pow(2).reshape(b, -1).mean(1)  # 27
    l_prior_rev = prior(v_rev, G_T2I(x_t, t, p_tgt), G_T2I(x_t, t, p_src))  # 28
    l_id = (G_edit(x_t, t, c_bar, x) - (eps - x)).pow(2).reshape(b, -1).mean(1)  # 31
    total = (
        w.lambda_cycle * l_cycle + w.lambda_prior * (l_prior_fwd + l_prior_rev) + w.lambda_id * l_id
    )  # 34
    terms = dict(cycle=l_cycle, prior_fwd=l_prior_fwd, prior_rev=l_prior_rev, identity=l_id)
    return total.mean(), terms


def test_byg_step_is_algorithm_1() -> None:
    batch, draw = problem(ON_NODES)
    G, twin = roles(), roles()
    loss, terms = algorithm_1(*twin, batch, draw, WEIGHTS)
    out = byg_step(G, batch, draw, WEIGHTS)
    torch.testing.assert_close(out.loss, loss)
    for name, term in terms.items():
        torch.testing.assert_close(out.terms[name], term.detach())
    assert torch.equal(out.t, draw.t)
    loss.backward()
    out.loss.backward()
    assert_same_gradients(gradients(G.edit), gradients(twin.edit), rel=1e-12)


# ---------------------------------------------------------------- staged = joint

FREE = [[0.93, 0.21], [0.93, 0.5, 0.04]]  # B = 2 and 3, between the nodes and on one


@pytest.mark.parametrize("factor", [1.0, 1 / 4, 1024.0, 1024 / 4])
@pytest.mark.parametrize("times", FREE)
def test_staged_gradients_equal_the_joint_ones(times: list[float], factor: float) -> None:
    """Whatever `backward` scales by: nothing, accumulation over 4, a loss scaler, both."""
    batch, draw = problem(times)
    G = roles()
    staged = staged_step(G, batch, draw, WEIGHTS, scaled(factor))
    assert_same_gradients(gradients(G.edit), joint_gradients(batch, draw), factor)
    joint = byg_step(roles(), batch, draw, WEIGHTS)
    torch.testing.assert_close(staged.loss, joint.loss.detach())
    torch.testing.assert_close(staged.terms, joint.terms)
    assert torch.equal(staged.t, draw.t)


def test_accumulated_micro_batches_give_the_mean_of_the_joint_gradients() -> None:
    times = [0.9, 0.35], [0.15, 0.6], [1.0, 0.5]
    parts = [problem(t, seed) for seed, t in enumerate(times)]
    G = roles()
    for batch, draw in parts:
        staged_step(G, batch, draw, WEIGHTS, scaled(1 / len(parts)))
    wanted = [joint_gradients(batch, draw) for batch, draw in parts]
    mean = {name: sum(g[name] for g in wanted) / len(parts) for name in wanted[0]}
    assert_same_gradients(gradients(G.edit), mean)


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_the_cycle_reaches_the_forward_edit(form: str) -> None:
    """With text only in the forward call, the text's weights learn from what y_hat routes."""
    batch, draw = problem([0.9, 0.4])
    batch, w = batch._replace(c_inv=torch.zeros_like(batch.c_inv)), weights(1.3, 0.0, 0.0)
    G = roles()
    if form == "joint":
        byg_step(G, batch, draw, w).loss.backward()
    else:
        staged_step(G, batch, draw, w, scaled(1.0))
    arrived = G.edit.text.weight.grad

    # d L_cycle / d y_hyb, sent by hand through y_hat = y_t - t v_fwd.
    twin = roles()
    with torch.no_grad():
        y_t, y_0 = rollout(lambda y, s: twin.ema(y, s, batch.c, batch.x), *_times(draw))
    y_hyb, u = y_0.requires_grad_(), draw.eps - batch.x
    v_rev = twin.edit(noised(batch.x, draw.eps, draw.t), draw.t, batch.c_inv, y_hyb)
    (g,) = torch.autograd.grad(1.3 * velocity_mse(v_rev, u).mean(), y_hyb)
    v_fwd = twin.edit(y_t, draw.t, batch.c, batch.x)
    g = -draw.t.view(-1, 1, 1, 1, 1) * g
    (wanted,) = torch.autograd.grad(v_fwd, twin.edit.text.weight, g)
    assert wanted.norm() > 1e-4
    torch.testing.assert_close(arrived, wanted)


def _times(draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    return draw.eps, draw.grid, draw.t


@pytest.mark.parametrize(
    "w",
    [
        weights(0.0, 0.7, 0.4, 0.3),
        weights(1.3, 0.0, 0.4, 0.3),
        weights(1.3, 0.7, 0.0, 0.3),
        weights(1.3, 0.7, 0.4, 0.0),
        weights(0.0, 0.0, 0.4, 0.3),
    ],
)
def test_zero_weights_stage_as_they_add(w: BygConfig) -> None:
    batch, draw = problem([0.9, 0.35])
    G = roles()
    staged_step(G, batch, draw, w, scaled(0.25))
    assert_same_gradients(gradients(G.edit), joint_gradients(batch, draw, w), 0.25)


@pytest.mark.parametrize("weight", sorted({term.weight for term in BYG.terms}))
def test_each_weight_alone_stages_as_it_adds(weight: str) -> None:
    """A term that is declared is in both forms, and its gradient is the same."""
    batch, draw = problem([0.9, 0.35])
    w = changed(**{term.weight: 0.0 for term in BYG.terms} | {weight: 0.8})
    G = roles()
    out = staged_step(G, batch, draw, w, scaled(0.25))
    assert_same_gradients(gradients(G.edit), joint_gradients(batch, draw, w), 0.25)
    assert {term.name for term in BYG.terms if term.weight == weight} <= out.terms.keys()
    torch.testing.assert_close(out.terms, byg_step(roles(), batch, draw, w).terms)


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_identity_at_weight_zero_is_not_asked(form: str) -> None:
    """No forward and no backward; the other terms and the gradient are Algorithm 1's."""
    batch, draw = problem(ON_NODES)
    w, twin = changed(lambda_id=0.0), roles()
    G = roles()
    G = G._replace(edit=Recorder(G.edit))
    stages: list[str] = []

    def backward(loss: Tensor, stage: str) -> float:
        stages.append(stage)
        return scaled(1.0)(loss, stage)

    if form == "joint":
        out = byg_step(G, batch, draw, w)
        backward(out.loss, "joint")
    else:
        out = staged_step(G, batch, draw, w, backward)
    assert len(G.edit.calls) == 2
    assert stages == {"joint": ["joint"], "staged": ["reverse", "forward"]}[form]
    assert set(out.terms) == {"cycle", "prior_fwd", "prior_rev"}
    loss, terms = algorithm_1(*twin, batch, draw, w)
    loss.backward()
    torch.testing.assert_close(out.loss, loss)
    for name, term in out.terms.items():
        torch.testing.assert_close(term, terms[name].detach())
    assert_same_gradients(gradients(G.edit.velocity), gradients(twin.edit))


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_all_weights_zero_leave_a_zero_gradient(form: str) -> None:
    batch, draw = problem([0.9, 0.35])
    G, w = roles(), weights(0.0, 0.0, 0.0, 0.3)
    if form == "joint":
        byg_step(G, batch, draw, w).loss.backward()
    else:
        staged_step(G, batch, draw, w, scaled(1024.0))
    assert all(torch.equal(g, torch.zeros_like(g)) for g in gradients(G.edit).values())


# ---------------------------------------------------------------- who is asked what


def recorded(form: str, w: BygConfig = WEIGHTS) -> tuple[Roles, StepOutput, EditBatch, Draw]:
    batch, draw = problem([0.9, 0.35])
    G = Roles(*(Recorder(net) for net in roles()))
    if form == "joint":
        out = byg_step(G, batch, draw, w)
        out.loss.backward()
    else:
        out = staged_step(G, batch, draw, w, scaled(1.0))
    return G, out, batch, draw


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_only_the_editor_learns(form: str) -> None:
    G, out, _, _ = recorded(form)
    for p in [*G.ema.velocity.parameters(), *G.base.velocity.parameters()]:
        assert p.grad is None
    for name, p in G.edit.velocity.named_parameters():
        assert p.grad is not None and p.grad.norm() > 0, name
    assert not any(term.requires_grad for term in out.terms.values())
    assert {name: tuple(term.shape) for name, term in out.terms.items()} == dict.fromkeys(
        ("cycle", "prior_fwd", "prior_rev", "identity"), (2,)
    )


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_base_is_asked_without_a_source_and_with_captions_swapped(form: str) -> None:
    G, _, batch, draw = recorded(form)
    with torch.no_grad():
        y_t, _ = rollout(lambda y, s: G.ema.velocity(y, s, batch.c, batch.x), *_times(draw))
    x_t = noised(batch.x, draw.eps, draw.t)
    assert len(G.base.calls) == 4
    for _, t, _, source, grad in G.base.calls:
        assert source is None and not grad and torch.equal(t, draw.t)
    # In the order in which prior_loss takes them: from the first caption, to the second.
    forward = [text for state, _, text, *_ in G.base.calls if torch.equal(state, y_t)]
    reverse = [text for state, _, text, *_ in G.base.calls if torch.equal(state, x_t)]
    assert [id(text) for text in forward] == [id(batch.p_src), id(batch.p_tgt)]
    assert [id(text) for text in reverse] == [id(batch.p_tgt), id(batch.p_src)]


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_editor_and_ema_are_asked_as_the_algorithm_says(form: str) -> None:
    G, _, batch, draw = recorded(form)
    assert len(G.ema.calls) == len(GRID) - 1 and len(G.edit.calls) == 3
    for _, _, text, source, grad in G.ema.calls:
        assert text is batch.c and source is batch.x and not grad
    with torch.no_grad():
        y_t, y_0 = rollout(lambda y, s: G.ema.velocity(y, s, batch.c, batch.x), *_times(draw))
    x_t = noised(batch.x, draw.eps, draw.t)
    wanted = [(y_t, batch.c, batch.x), (x_t, batch.c_inv, y_0), (x_t, batch.c_inv, batch.x)]
    for state, text, source in wanted:
        assert any(
            torch.equal(call[0], state) and call[2] is text and torch.equal(call[3], source)
            for call in G.edit.calls
        )


def test_the_pseudo_target_carries_no_gradient_to_the_ema() -> None:
    """Even if the EMA is the editor itself (a stop-gradient copy, App. C.1)."""
    batch, draw = problem([0.9, 0.35])
    shared, apart = roles(), roles()
    shared = shared._replace(ema=shared.edit)
    apart = apart._replace(ema=copy.deepcopy(apart.edit))
    for G in (shared, apart):
        staged_step(G, batch, draw, WEIGHTS, scaled(1.0))
    assert_same_gradients(gradients(shared.edit), gradients(apart.edit))


# ---------------------------------------------------------------- the ablation study (section 6)

VARIANTS = {
    "full": {},
    "w/o routing": {"routing": False},
    "w/o cycle": {"lambda_cycle": 0.0},
    "w/o reverse pass": {"reverse": False},
    "w/o directional": {"directional": 0.0, "alpha": 1.0},
    "w/o bootstrapping": {"bootstrapping": False},
    "w/o prior": {"lambda_prior": 0.0},
    "w/o all of it": {"routing": False, "bootstrapping": False, "lambda_id": 0.0},
}


@pytest.mark.parametrize("times", FREE)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_stages_as_it_adds(name: str, times: list[float]) -> None:
    batch, draw = problem(times)
    G, w = roles(), changed(**VARIANTS[name])
    staged = staged_step(G, batch, draw, w, scaled(1 / 4))
    assert_same_gradients(gradients(G.edit), joint_gradients(batch, draw, w), 1 / 4)
    joint = byg_step(roles(), batch, draw, w)
    torch.testing.assert_close(staged.loss, joint.loss.detach())
    torch.testing.assert_close(staged.terms, joint.terms)


def _asked(form: str, **switches: object) -> tuple[Roles, StepOutput, EditBatch, Draw]:
    return recorded(form, changed(**switches))


def _dreams(G: Roles, batch: EditBatch, draw: Draw) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return rollout(lambda y, s: G.ema.velocity(y, s, batch.c, batch.x), *_times(draw))


def _call(G: Roles, text: Tensor, not_source: Tensor | None = None) -> tuple:
    """The editor's gradient pass with a text, and a source other than the one given."""
    calls = [
        call
        for call in G.edit.calls
        if call[2] is text and call[4] and (not_source is None or call[3] is not not_source)
    ]
    assert len(calls) == 1
    return calls[0]


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_without_bootstrapping_the_forward_pass_starts_from_the_source(form: str) -> None:
    G, _, batch, draw = _asked(form, bootstrapping=False)
    x_t, (_, y_0) = noised(batch.x, draw.eps, draw.t), _dreams(G, batch, draw)
    assert torch.equal(_call(G, batch.c)[0], x_t)
    assert torch.equal(_call(G, batch.c_inv, batch.x)[3], y_0)  # the rollout still gives y_0
    assert all(torch.equal(state, x_t) for state, *_ in G.base.calls)


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_without_routing_the_reverse_pass_sees_the_one_step_guess(form: str) -> None:
    G, _, batch, draw = _asked(form, routing=False)
    y_t, _ = _dreams(G, batch, draw)
    with torch.no_grad():
        v = G.edit.velocity(y_t, draw.t, batch.c, batch.x)
    y_hat = y_t - draw.t.view(-1, 1, 1, 1, 1) * v
    assert torch.equal(_call(G, batch.c)[0], y_t)
    torch.testing.assert_close(_call(G, batch.c_inv, batch.x)[3].detach(), y_hat)


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_without_the_cycle_the_reverse_prior_stays(form: str) -> None:
    """The reverse instruction's weights learn, from the reverse prior alone."""
    G, out, batch, _ = _asked(form, lambda_cycle=0.0, lambda_id=0.0)
    assert _call(G, batch.c_inv)
    loss = WEIGHTS.lambda_prior * (out.terms["prior_fwd"] + out.terms["prior_rev"]).mean()
    torch.testing.assert_close(out.loss.detach(), loss)


@pytest.mark.parametrize("form", ["joint", "staged"])
def test_without_the_reverse_pass_nothing_is_undone(form: str) -> None:
    G, out, batch, draw = _asked(form, reverse=False)
    assert set(out.terms) == {"prior_fwd", "identity"}
    assert len(G.edit.calls) == 2 and len(G.base.calls) == 2
    twin = roles()
    _, terms = algorithm_1(*twin, *problem(ON_NODES), WEIGHTS)
    batch, draw = problem(ON_NODES)
    out = byg_step(roles(), batch, draw, changed(reverse=False))
    wanted = WEIGHTS.lambda_prior * terms["prior_fwd"] + WEIGHTS.lambda_id * terms["identity"]
    torch.testing.assert_close(out.loss, wanted.mean())


def test_without_the_direction_the_prior_is_the_mse() -> None:
    batch, draw = problem([0.9, 0.4])
    G = Roles(*(Recorder(net) for net in roles()))
    out = byg_step(G, batch, draw, changed(directional=0.0, alpha=1.0))
    with torch.no_grad():
        y_t, _ = _dreams(G, batch, draw)
        v = G.edit.velocity(y_t, draw.t, batch.c, batch.x)
        v_tgt = G.base.velocity(y_t, draw.t, batch.p_tgt)
    torch.testing.assert_close(out.terms["prior_fwd"], (v - v_tgt).square().mean((1, 2, 3, 4)))


# ---------------------------------------------------------------- memory


def test_staged_step_keeps_one_graph_alive() -> None:
    """Bytes saved for backward: staged near one supervised step, joint near three."""
    batch, draw = problem([0.9, 0.35], side=6)
    wide = [Net(seed, hidden=32, depth=6) for seed in range(3)]
    G = Roles(*wide)
    weights = list(wide[0].parameters())
    u = draw.eps - batch.x

    def peak(work: Callable[[], None]) -> int:
        return peak_saved_bytes(work, weights)

    def supervised() -> None:
        v = G.edit(noised(batch.x, draw.eps, draw.t), draw.t, batch.c, batch.x)
        velocity_mse(v, u).mean().backward()

    one = peak(supervised)
    staged = peak(lambda: staged_step(G, batch, draw, WEIGHTS, scaled(1.0)) and None)
    joint = peak(lambda: byg_step(G, batch, draw, WEIGHTS).loss.backward())
    assert one <= staged <= 1.1 * one
    assert 2.5 * one <= joint <= 3.5 * one


# ---------------------------------------------------------------- identity step


@pytest.mark.parametrize("factor", [1.0, 256.0])
def test_identity_step_is_the_identity_loss_alone(factor: float) -> None:
    batch, draw = problem([0.9, 0.35])
    G, twin = Roles(*(Recorder(net) for net in roles())), roles()
    out = identity_step(G, batch, draw, WEIGHTS, scaled(factor))
    v = twin.edit(noised(batch.x, draw.eps, draw.t), draw.t, batch.c_inv, batch.x)
    wanted = (v - (draw.eps - batch.x)).square().mean((1, 2, 3, 4))
    wanted.mean().backward()
    assert_same_gradients(gradients(G.edit.velocity), _present(twin.edit), factor)
    torch.testing.assert_close(out.terms, {"identity": wanted.detach()})
    torch.testing.assert_close(out.loss, wanted.detach().mean())
    assert torch.equal(out.t, draw.t)
    assert [len(G.edit.calls), G.ema.calls, G.base.calls] == [1, [], []]


def test_a_supervised_step_is_equation_1() -> None:
    """The noised true edit goes in, its velocity is asked for; no other network is."""
    batch, draw = problem([0.9, 0.35])
    y = gaussian(torch.Generator().manual_seed(5), *batch.x.shape)
    G, twin = Roles(*(Recorder(net) for net in roles())), roles()
    out = supervised_step(G, batch._replace(y=y), draw, SupervisedConfig(), scaled(256.0))
    t = draw.t.view(-1, 1, 1, 1, 1)
    v = twin.edit((1 - t) * y + t * draw.eps, draw.t, batch.c, batch.x)
    wanted = (v - (draw.eps - y)).square().mean((1, 2, 3, 4))
    wanted.mean().backward()
    assert_same_gradients(gradients(G.edit.velocity), _present(twin.edit), 256.0)
    torch.testing.assert_close(out.terms, {"edit": wanted.detach()})
    torch.testing.assert_close(out.loss, wanted.detach().mean())
    assert [len(G.edit.calls), G.ema.calls, G.base.calls] == [1, [], []]


def _present(net: nn.Module) -> dict[str, Tensor]:
    found = gradients(net)
    assert all(g is not None for g in found.values())
    return found


def test_identity_step_is_the_full_step_with_one_weight() -> None:
    batch, draw = problem([0.9, 0.35])
    alone, full = roles(), roles()
    identity_step(alone, batch, draw, WEIGHTS, scaled(1.0))
    staged_step(full, batch, draw, weights(0, 0, 1), scaled(1.0))
    assert_same_gradients(gradients(full.edit), gradients(alone.edit))
