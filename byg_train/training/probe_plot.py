"""A probe's picture: the base's direction, what the prior finds, and where the bottom lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..data import counted
from ..files import atomic
from ..objectives import objective_of
from ..objectives.bottom import COPY, EDIT, FORGETTING
from .probe import Probe
from .probe_report import mean_and_error, of_kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..config.methods import BygConfig

# Measure or candidate -> its colour in every panel.
COLOURS = {EDIT: "#2a7f3f", COPY: "#2c6fbb", FORGETTING: "#c03a30", "way back": "#b08d2a"}
CURVES = {"edited": EDIT, "copied": COPY, "back": "way back"}
# How far the axis of lambda_prior goes at least.
LAMBDA = 2.5


def plot(probe: Probe, path: Path) -> None:
    """Six panels as a PNG; needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    direction, first, second, now, then, kinds = figure.subplots(2, 3).flat
    _direction(probe, direction)
    titles = {"dir": "$L_{dir}$: off the base's direction", "mse": "$L_{MSE}$: off its answer"}
    for axes, (loss, title) in zip((first, second), titles.items(), strict=True):
        for name, candidate in CURVES.items():
            label = probe.names.get(candidate, candidate)
            _curve(probe, axes, f"{name}_{loss}", label, COLOURS[candidate])
        axes.axhline(
            0, color=COLOURS[FORGETTING], lw=1.5, label=f"{FORGETTING} (pays nothing here)"
        )
        axes.set_title(title)
    _error_without_source(probe, second)
    ends, recipe = probe.config.method.after(1.0), probe.recipe
    _bottom(probe, now, ends, "this run ends here")
    label = "recommended" if recipe.balance else "nothing keeps the source"
    _bottom(probe, then, ends.model_copy(update=recipe.weights), label)
    _by_kind(probe, kinds)
    for axes in (direction, first, second):
        axes.set_xlabel("t (1 = noise)")
        axes.set_xlim(0, 1)
    for axes in (direction, first, second, now, then, kinds):
        axes.grid(alpha=0.3)
        # Above the curves, whatever they are.
        axes.set_ylim(top=axes.get_ylim()[0] + 1.45 * (axes.get_ylim()[1] - axes.get_ylim()[0]))
        axes.legend(fontsize=8, loc="upper left", ncols=1 if axes is second else 2)
    edits = "true edits" if probe.has_truth else "FlowEdit's edits"
    figure.suptitle(f"{probe.config.preset}: {counted(len(probe.kinds), 'item')}, {edits}")
    with atomic(path) as temporary:
        figure.savefig(temporary)


def _direction(probe: Probe, axes: Axes) -> None:
    shown = {"size": "size, in velocities", "reliability": "the same under two noises (cosine)"}
    shown["towards"] = "towards the edit (cosine)"
    for i, (name, label) in enumerate(shown.items()):
        _curve(probe, axes, name, label, f"C{i}")
    axes.set_title("The base's direction, from caption to caption")


def _curve(probe: Probe, axes: Axes, name: str, label: str, colour: str) -> None:
    t = [time.t for time in probe.times]
    values = probe.values[name]
    middle = values.mean(1)
    axes.plot(t, middle, color=colour, marker=".", label=label)
    if values.shape[1] > 1:
        sem = values.std(1) / values.shape[1] ** 0.5
        axes.fill_between(t, middle - sem, middle + sem, color=colour, alpha=0.2, lw=0)


def _error_without_source(probe: Probe, axes: Axes) -> None:
    """The way back's L_MSE is what the base errs by without a source."""
    t, error = [time.t for time in probe.times], probe.values["back_mse"].mean(1)
    label = f"what {FORGETTING} pays in cycle and identity"
    axes.plot(t, error, color=COLOURS[FORGETTING], ls=":", label=label)


def _bottom(probe: Probe, axes: Axes, weights: BygConfig, label: str) -> None:
    """Every candidate's loss over lambda_prior, and where these weights have it."""
    prices, loss_of = probe.prices, objective_of(probe.config).bottom
    curves = {name: [] for name in probe.names}
    lambdas = torch.linspace(0, max(LAMBDA, 1.25 * weights.lambda_prior), 101).tolist()
    for prior in lambdas:
        here = weights.model_copy(update={"lambda_prior": prior})
        for name, loss in loss_of(prices, here).items():
            curves[name].append(loss.mean().item())
    for name, losses in curves.items():
        axes.plot(lambdas, losses, color=COLOURS[name], label=probe.names[name])
    axes.axvline(weights.lambda_prior, color="black", lw=1, ls="--", label=label)
    axes.set(xlabel="$\\lambda_{prior}$", ylabel="loss", xlim=(0, lambdas[-1]), ylim=(0, None))
    without = ", some t left out" if weights.prior_by_t else ""
    axes.set_title(f"The bottom of the loss, at alpha {weights.alpha:g}{without}")


def _by_kind(probe: Probe, axes: Axes) -> None:
    """What every type of edit costs, under the weights with which the run ends."""
    losses, kinds = probe.losses(), list(dict.fromkeys(probe.kinds))
    width = 0.8 / len(losses)
    for k, (name, of) in enumerate(losses.items()):
        costs = [mean_and_error(of[of_kind(probe, kind)]) for kind in kinds]
        axes.bar(
            [i + (k - 1) * width for i in range(len(kinds))],
            [mean for mean, _ in costs],
            width,
            yerr=[error for _, error in costs],
            color=COLOURS[name],
            label=probe.names[name],
        )
    axes.set_xticks(range(len(kinds)), kinds, rotation=30, ha="right", fontsize=8)
    axes.set_title("The same by type of edit, as this run ends")
