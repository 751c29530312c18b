"""What a probe found, in words and in numbers."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from ..config.methods import BygConfig
from ..objectives.bottom import COPY, EDIT, FORGETTING, UNRELIABLE, Recipe
from .probe import Probe

# Measure -> what it is.
MEASURES = {
    "size": "RMS of the base's direction from caption to caption, over that of the velocity",
    "reliability": "cosine of the base's directions under two noises",
    "towards": "cosine of the base's direction and the edit itself",
    "edited_dir": "L_dir of the edit, at the noised edit",
    "edited_mse": "L_MSE of the same",
    "kept_dir": "L_dir of an answer with the source, at the noised edit",
    "kept_mse": "L_MSE of the same",
    "copied_dir": "L_dir of a copy, at the noised source",
    "copied_mse": "L_MSE of the same",
    "back_dir": "L_dir of the true way back, at the noised source",
    "back_mse": "L_MSE of the same: the identity loss of the base without a source",
}


NOTHING_KEEPS = (
    "nothing keeps the source: lambda_cycle (or the reverse pass), lambda_id and "
    "identity_probability are 0"
)


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """The mean over items (N,), and its standard error; NaN of a single item."""
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return values.mean().item(), error


def asks_for_text_to_image(losses: dict[str, Tensor]) -> bool:
    """Whether forgetting the source is cheaper than editing, by more than chance on these items.

    Ratios are told from chance, since one item may cost twenty times what the others do.
    """
    edit, forgetting = losses[EDIT], losses[FORGETTING]
    dearer, error = mean_and_error((edit / forgetting).log())
    return bool(edit.mean() > forgetting.mean()) and dearer > 2 * (
        0 if math.isnan(error) else error
    )


def verdict(probe: Probe) -> list[str]:
    """Sentences: what the bottom of the loss is, and what to set."""
    ends = probe.config.method.after(1.0)
    said = [f"lambda_prior {ends.lambda_prior:g}, alpha {ends.alpha:g}: {bottom_told(probe)}"]
    experts = dict.fromkeys(time.expert for time in probe.times)
    if len(experts) > 1:
        said += [f"{expert} noise: {bottom_told(probe, expert)}" for expert in experts]
    recipe = probe.recipe
    if not ends.lambda_prior:
        name = _names(probe.config.method)[0]
        said.append(f"{name} is 0: nothing asks for an edit, and training copies")
    if recipe.balance:
        said.append(
            f"with {_with(recipe)} forgetting the source costs as much as editing at lambda_prior "
            f"{recipe.balance:.2g}; recommended, about half of that: "
            f"{settings(recipe, probe.config.method)}"
        )
    else:
        said.append(NOTHING_KEEPS)
    asked = "Do the captions say what changes, and does the base know it?"
    if not probe.prices.leads_back.any():
        said.append(
            "at none of these noise levels does the base's direction lead back to the source: its "
            f"L_dir there is above {UNRELIABLE:g}, and no weights mend that. {asked}"
        )
    best = probe.losses(under=recipe)
    if best[COPY].mean() < best[EDIT].mean():
        said.append(
            "the base's direction is no reason to edit: with the recommended weights, too, a copy "
            f"pays less than the edit. {asked}"
        )
    return said


def _with(recipe: Recipe) -> str:
    """What the balance of a recipe holds with."""
    return f"alpha {recipe.alpha:g}" + (" and prior_by_t as below" if recipe.prior_by_t else "")


def bottom_told(probe: Probe, expert: str | None = None) -> str:
    """The three losses, and which is the least."""
    losses = probe.losses(expert)
    costs = {name: mean_and_error(of) for name, of in losses.items()}
    least = min(mean for mean, _ in costs.values())
    ends = " or ".join(probe.names[name] for name, (mean, _) in costs.items() if mean == least)
    told = ", ".join(f"{probe.names[name]} costs {_told(*cost)}" for name, cost in costs.items())
    return f"{told}; the bottom of the loss is {ends}"


def _told(mean: float, error: float) -> str:
    return f"{mean:.2f}" if math.isnan(error) else f"{mean:.2f} ± {error:.2f}"


def settings(recipe: Recipe, run: BygConfig) -> str:
    """A recipe as it is typed, for a run of these weights: those that it ends with."""
    prior, alpha = _names(run)
    pairs = [f"method.{prior}={recipe.lambda_prior:g}", f"method.{alpha}={recipe.alpha:g}"]
    if recipe.prior_by_t or run.prior_by_t:
        points = ",".join(f"[{t:g},{factor:g}]" for t, factor in recipe.prior_by_t)
        pairs.append(f"'method.prior_by_t=[{points}]'")  # shells read brackets as patterns
    return " ".join(f"--set {pair}" for pair in pairs)


def _names(run: BygConfig) -> tuple[str, str]:
    """The settings that hold lambda_prior and alpha of a run's end."""
    return ("gentle_prior", "gentle_alpha") if run.turns else ("lambda_prior", "alpha")


def rows(probe: Probe) -> list[list[str]]:
    """Heads, and a row for every time, from noise to data."""
    shown = ("size", "reliability", "towards", "edited", "kept", "copied", "back")

    def cell(name: str, i: int) -> str:
        if name in MEASURES:
            return f"{probe.values[name][i].mean():.2f}"
        return " / ".join(
            f"{probe.values[f'{name}_{loss}'][i].mean():.2f}" for loss in ("dir", "mse")
        )

    heads = ["t", "size", "steady", "true", "edit", "source", "copy", "way back"]
    order = reversed(range(len(probe.times)))
    return [heads, *([f"{probe.times[i].t:.3g}", *(cell(n, i) for n in shown)] for i in order)]


def about(probe: Probe) -> dict[str, Any]:
    """Everything, for JSON."""
    config, recipe, kinds = probe.config, probe.recipe, dict.fromkeys(probe.kinds)
    losses = probe.losses()
    return {
        "preset": config.preset,
        "base": str(config.model.path),
        "dtype": config.model.dtype,
        "items": len(probe.kinds),
        "edits": "true" if probe.has_truth else "by FlowEdit on the same base",
        "measures": MEASURES,
        "times": [
            {**time._asdict(), **{name: _number(of[i]) for name, of in probe.values.items()}}
            for i, time in enumerate(probe.times)
        ],
        "weights": {
            "at the start": config.method.model_dump(),
            "at the end": config.method.after(1).model_dump(),
        },
        "losses": {name: _number(of) for name, of in losses.items()},
        "losses by edit type": {
            kind: {name: _number(of[of_kind(probe, kind)]) for name, of in losses.items()}
            for kind in kinds
        },
        "recommended": {**recipe._asdict(), "settings": settings(recipe, config.method)}
        if recipe.balance
        else None,
        "verdict": verdict(probe),
    }


def of_kind(probe: Probe, kind: str) -> list[int]:
    """Which items have this type of edit."""
    return [i for i, other in enumerate(probe.kinds) if other == kind]


def _number(values: Tensor) -> dict[str, float | None]:
    mean, sem = mean_and_error(values)
    return {"mean": round(mean, 4), "sem": None if math.isnan(sem) else round(sem, 4)}
