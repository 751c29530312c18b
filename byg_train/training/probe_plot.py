"""A probe's picture: the base's direction, what the prior finds, and where the bottom lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..files import atomic
from ..objectives import objective_of
from ..objectives.bottom import COPY, FORGETTING, TRUTH
from .probe import Probe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Measure or candidate -> its colour in every panel.
COLOURS = {TRUTH: "#2a7f3f", COPY: "#2c6fbb", FORGETTING: "#c03a30", "way back": "#80bf80"}
CURVES = {"edited": TRUTH, "copied": COPY, "back": "way back"}
LAMBDAS = torch.linspace(0, 2.5, 101).tolist()


def plot(probe: Probe, path: Path) -> None:
    """Four panels as a PNG; needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    direction, bottom, first, second = figure.subplots(2, 2).flat
    _direction(probe, direction)
    _bottom(probe, bottom)
    titles = {"dir": "$L_{dir}$: off the base's direction", "mse": "$L_{MSE}$: off its answer"}
    for axes, (loss, title) in zip((first, second), titles.items(), strict=True):
        for name, label in CURVES.items():
            _curve(probe, axes, f"{name}_{loss}", label, COLOURS[label])
        axes.axhline(
            0, color=COLOURS[FORGETTING], lw=1.5, label=f"{FORGETTING} (pays nothing here)"
        )
        axes.set_title(title)
    _error_without_source(probe, second)
    for axes in (direction, first, second):
        axes.set_xlabel("t (1 = noise)")
        axes.set_xlim(0, 1)
    for axes in (direction, bottom, first, second):
        axes.grid(alpha=0.3)
        # Above the curves, whatever they are.
        axes.set_ylim(top=axes.get_ylim()[0] + 1.45 * (axes.get_ylim()[1] - axes.get_ylim()[0]))
        axes.legend(fontsize=8, loc="upper left", ncols=1 if axes is second else 2)
    edits = "true edits" if probe.has_truth else "FlowEdit's edits"
    figure.suptitle(f"{probe.config.preset}: {len(probe.kinds)} items, {edits}")
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


def _bottom(probe: Probe, axes: Axes) -> None:
    """Every candidate's loss over lambda_prior."""
    ends, prices = probe.config.method.after(1.0), probe.prices
    loss_of = objective_of(probe.config).bottom
    curves = {name: [] for name in (TRUTH, COPY, FORGETTING)}
    for prior in LAMBDAS:
        weights = ends.model_copy(update={"lambda_prior": prior})
        for name, loss in loss_of(prices, weights).items():
            curves[name].append(loss.mean().item())
    for name, losses in curves.items():
        axes.plot(LAMBDAS, losses, color=COLOURS[name], label=name)
    axes.axvline(ends.lambda_prior, color="black", lw=1, ls="--", label="this run ends here")
    recipe = probe.recipe
    label = f"recommended (at alpha {recipe.alpha:g})"
    axes.axvline(recipe.lambda_prior, color=COLOURS[TRUTH], lw=1, ls="--", label=label)
    axes.set(xlabel="$\\lambda_{prior}$", ylabel="loss", xlim=(0, LAMBDAS[-1]), ylim=(0, None))
    axes.set_title(f"The bottom of the loss, at alpha {ends.alpha:g}")
