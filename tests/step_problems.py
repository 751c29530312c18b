"""Steps on networks of closed form: problems, recorders, gradients, Algorithm 1 line by line."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from byg_train.config.methods import BygConfig
from byg_train.core.roles import EditBatch, Roles
from byg_train.core.schedule import Draw
from byg_train.objectives.byg import byg_step, staged_step
from byg_train.objectives.objective import Backward, StepOutput

WEIGHTS = BygConfig(lambda_cycle=1.3, lambda_prior=0.7, lambda_id=0.4, alpha=0.25)
GRID = torch.tensor([1.0, 0.8, 0.5, 0.3, 0.0], dtype=torch.float64)
ON_NODES = [0.5, 1.0, 0.3]
FREE = [[0.93, 0.21], [0.93, 0.5, 0.04]]  # B = 2 and 3, between the nodes and on one


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


def algorithm_1(
    G_edit: Net, G_EMA: Net, G_T2I: Net, batch: EditBatch, draw: Draw, w: BygConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Lines 2-34 as printed, `s = t` included: t must lie on the grid. Returns L and its terms."""
    x, c, c_bar, p_src, p_tgt, *_ = batch
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


def recorded(form: str, w: BygConfig = WEIGHTS) -> tuple[Roles, StepOutput, EditBatch, Draw]:
    batch, draw = problem([0.9, 0.35])
    G = Roles(*(Recorder(net) for net in roles()))
    if form == "joint":
        out = byg_step(G, batch, draw, w)
        out.loss.backward()
    else:
        out = staged_step(G, batch, draw, w, scaled(1.0))
    return G, out, batch, draw


def times_of(draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    return draw.eps, draw.grid, draw.t
