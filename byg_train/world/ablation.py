"""The ablation study (section 6) on the tiny world: what is left out, and how it is scored.

python -m byg_train.world.ablation SCORES --lora FILE --queries N     scores one run
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from ..evaluate.summary import Summary, summarise, table
from ..evaluate.true_pairs import ColourMap
from ..files import atomic, write_json
from .judge import PICTURES, Frames, Method, Recolour
from .report import Methods
from .scenes import Edit

HERE = Path(__file__).parent
WARMUP = HERE / "warmup.safetensors"
# What tables show, each in [0, 1]: `evaluate/true_pairs.py`.
MEASURES = ("edit", "keep", "joint")
# Raised with every change of what a score means: kept scores of another number are made again.
SCORING = 2
# The one method of a training run; baselines have names of their own.
TRAINED = "trained"
# Full, what is left out of it, and what it is compared with.
COLOURS = {"full": "#c0392b", "ablation": "#2c6fbb", "baseline": "#7f8c8d"}
# B.1's, before what a row changes: the demo leaves this term of full steps out, for its minutes.
FULL = ("method.lambda_id=0.2",)


class Variant(NamedTuple):
    """A training run of the study."""

    title: str
    about: str
    settings: tuple[str, ...] = ()
    pairs: bool = False  # trained on true pairs


ROWS = {
    "full": Variant("ByG (full)", "Algorithm 1 as it is."),
    "no-routing": Variant(
        "w/o gradient routing",
        "The reverse pass sees and learns through the one-step y_hat; y_0 is not used.",
        ("method.routing=false",),
    ),
    "no-cycle": Variant(
        "w/o cycle loss",
        "lambda_cycle is 0; the reverse pass stays, for its prior.",
        ("method.lambda_cycle=0",),
    ),
    "no-reverse": Variant(
        "w/o reverse pass",
        "Neither cycle loss nor reverse prior: forward prior and identity alone.",
        ("method.reverse=false",),
    ),
    "no-directional": Variant(
        "w/o directional loss",
        "The prior is its MSE alone, at alpha 1.",
        ("method.directional=0", "method.alpha=1", "method.gentle_alpha=1"),
    ),
    "no-bootstrapping": Variant(
        "w/o bootstrapping",
        "The forward pass gets the noised source x_t for y_t; y_0 still comes from the rollout.",
        ("method.bootstrapping=false",),
    ),
    "no-prior": Variant(
        "w/o prior",
        "lambda_prior is 0, forward and reverse.",
        ("method.lambda_prior=0", "method.gentle_prior=0"),
    ),
    "no-identity": Variant(
        "w/o random identity steps",
        "Every step is a full one.",
        ("method.identity_probability=0",),
    ),
    "supervised": Variant(
        "supervised LoRA",
        "Eq. 1 on true pairs of the same sources, as many steps.",
        ("method.objective=supervised",),
        pairs=True,
    ),
}
BASELINES = {
    "flowedit": Variant("FlowEdit", "Zero-shot, on the same base, from caption to caption."),
    "text-to-image": Variant("text-to-image", "The base alone, from the target caption."),
    "copy": Variant("copy", "The source."),
    "recoloured": Variant(
        "recoloured copy", "The source through a colour map learned from 30 other true pairs."
    ),
    "own-map": Variant(
        "colour map of its truth", "The same map fitted on this very picture and its true edit."
    ),
    "encoded": Variant("true target, encoded", "The truth through the VAE: what could be reached."),
}


def baselines(methods: Methods) -> dict[str, Method]:
    """What needs no training."""
    judge = methods.judge
    # Not from the pairs that `edit_score` tells results from.
    recolour = Recolour(judge, lot="row ")
    return {
        "flowedit": methods.flowedit,
        "text-to-image": methods.text_to_image,
        "copy": lambda label, edits: [judge.drawn(e.source) for e in edits],
        "recoloured": lambda label, edits: [recolour(label, e) for e in edits],
        "own-map": lambda label, edits: [_by_its_truth(e) for e in edits],
        "encoded": methods.reconstruct,
    }


def _by_its_truth(edit: Edit) -> Frames:
    source, target = PICTURES.drawn(edit.source), PICTURES.drawn(edit.target)
    return ColourMap(source, target)(source)


def base_digest() -> str:
    """Names the base and its warm-up: runs on other ones do not compare."""
    state = hashlib.sha256()
    for path in [*sorted((HERE / "base").rglob("*.safetensors")), WARMUP]:
        state.update(hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()[:16]


# ---------------------------------------------------------------- scores of one run


def score_run(file: Path, lora: Path | None, queries: int, seed: int, device: str) -> None:
    """Write scores {method: {label: Score}}; without a LoRA those of all baselines."""
    methods = Methods(lora or WARMUP, PICTURES, device, seed)
    measured = {TRAINED: methods.edit} if lora else baselines(methods)
    scores, _ = PICTURES.measure(measured, queries)
    result = {
        method: {label: asdict(rows[method]) for label, rows in scores.items()}
        for method in measured
    }
    write_json(file, {**_what_was_scored(lora, queries), "scores": result})


def read_scores(file: Path, lora: Path | None, queries: int) -> dict | None:
    """What `score_run` wrote, if it scored this very LoRA, and as would be done now."""
    if not file.exists() or (lora and not lora.exists()):
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    scores = content.pop("scores")
    return scores if content == _what_was_scored(lora, queries) else None


def _what_was_scored(lora: Path | None, queries: int) -> dict:
    digest = lora and hashlib.sha256(lora.read_bytes()).hexdigest()
    return {"scoring": SCORING, "queries": queries, "lora": digest}


# ---------------------------------------------------------------- over seeds


class Result(NamedTuple):
    """One row's measures over its seeds: means over edit types first, each type alike."""

    title: str
    about: str
    all: dict[str, Summary]
    kinds: dict[str, dict[str, Summary]]  # label -> measure -> over seeds
    seeds: dict[str, dict[int, float]]  # measure -> seed -> value


def result(row: Variant, runs: Mapping[int, Mapping[str, Mapping[str, float]]]) -> Result:
    """Summarise the scores {label: {measure: value}} of every seed."""
    labels = list(next(iter(runs.values())))
    seeds = {
        name: {
            seed: sum(run[label][name] for label in labels) / len(labels)
            for seed, run in runs.items()
        }
        for name in MEASURES
    }
    kinds = {
        label: {name: summarise(run[label][name] for run in runs.values()) for name in MEASURES}
        for label in labels
    }
    overall = {name: summarise(values.values()) for name, values in seeds.items()}
    return Result(row.title, row.about, overall, kinds, seeds)


def against(row: Result, full: Result) -> dict[str, Summary]:
    """The difference of a row from the full method, seed by seed, with the same edits and noise.

    Much of what the seeds do is done to all rows alike, so this tells rows apart better than two
    means with their standard errors.
    """
    return {
        name: summarise(
            value - full.seeds[name][seed]
            for seed, value in row.seeds[name].items()
            if seed in full.seeds[name]
        )
        for name in MEASURES
    }


def markdown(results: Mapping[str, Result]) -> str:
    """Table 4's form, what differs from the full method, and the joint score by type of edit."""
    rows = list(results.values())
    measures = ["edit success", "source kept", "joint"]
    parts = [
        table(
            ["", *measures, "seeds"],
            [[r.title, *_cells(r.all), str(r.all["edit"].n)] for r in rows],
        )
    ]
    trained = [results[name] for name in ROWS if name in results and name != "full"]
    if trained and "full" in results:
        less = [[r.title, *_cells(against(r, results["full"]), "+.3f")] for r in trained]
        parts += ["Less the full method, seed by seed:", table(["", *measures], less)]
    labels = list(rows[0].kinds)
    by_kind = [[r.title, *(_cell(r.kinds[label]["joint"]) for label in labels)] for r in rows]
    parts += ["Joint score by type of edit:", table(["", *labels], by_kind)]
    parts.append("\n".join(f"- **{r.title}**: {r.about}" for r in rows))
    return "\n\n".join(parts) + "\n"


def _cells(measures: Mapping[str, Summary], form: str = ".3f") -> list[str]:
    return [_cell(measures[name], form) for name in MEASURES]


def _cell(summary: Summary, form: str = ".3f") -> str:
    if not summary.n:
        return "-"  # no seed in common with the full method
    sem = f" ± {summary.sem:.3f}" if summary.n > 1 else ""
    return f"{summary.mean:{form}}{sem}"


def plot(results: Sequence[tuple[Result, str]], path: Path) -> None:
    """Draw results, each with its part: `full`, `ablation` or `baseline`; needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 6), dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for result, part in results:
        keep, edit = result.all["keep"], result.all["edit"]
        axes.errorbar(
            keep.mean, edit.mean,
            xerr=_length(keep.sem), yerr=_length(edit.sem),
            fmt="o", color=COLOURS[part], markersize=9 if part == "full" else 6, capsize=2,
        )  # fmt: skip
    for (x, y), (result, part) in zip(_apart(results), results, strict=True):
        keep, edit = result.all["keep"].mean, result.all["edit"].mean
        axes.annotate(
            result.title, (keep, edit), (x, y), fontsize=8, color=COLOURS[part], va="center",
            arrowprops={"arrowstyle": "-", "color": COLOURS[part], "lw": 0.4},
        )  # fmt: skip
    axes.set(xlim=(-0.03, 1.25), ylim=(-0.05, 1.05), xlabel="source kept", ylabel="edit success")
    axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.set_title("Held-out names of the tiny world; mean and standard error over seeds")
    figure.tight_layout()
    with atomic(path) as temporary:
        figure.savefig(temporary)


def _length(sem: float) -> float:
    return sem if sem == sem else 0.0  # NaN: a single seed


def _apart(results: Sequence[tuple[Result, str]]) -> list[tuple[float, float]]:
    """Places for the labels, right of their points, that do not cover each other."""
    order = sorted(range(len(results)), key=lambda i: results[i][0].all["edit"].mean)
    places, taken = {}, []
    for i in order:
        result = results[i][0]
        x, y = result.all["keep"].mean + 0.03, result.all["edit"].mean
        while any(
            abs(y - other_y) < 0.035 and abs(x - other_x) < 0.3 for other_x, other_y in taken
        ):
            y += 0.012
        taken.append((x, y))
        places[i] = (x, y)
    return [places[i] for i in range(len(results))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scores", type=Path)
    parser.add_argument("--lora", type=Path, help="without it, the baselines are scored")
    parser.add_argument("--queries", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    score_run(args.scores, args.lora, args.queries, args.seed, args.device)


if __name__ == "__main__":
    main()
