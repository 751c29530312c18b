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

from ..evaluate.markdown import table
from ..evaluate.summary import Summary, summarise
from ..files import atomic
from .measure import Editor, Method, Recolour, drawn, measure

HERE = Path(__file__).parent
WARMUP = HERE / "warmup.safetensors"
# What tables show, each in [0, 1]: `evaluate/true_pairs.py`.
MEASURES = ("edit", "keep", "joint")
# The one method of a training run; baselines have names of their own.
TRAINED = "trained"


class Row(NamedTuple):
    """A training run of the study."""

    title: str
    about: str
    settings: tuple[str, ...] = ()
    pairs: bool = False  # trained on true pairs


ROWS = {
    "full": Row("ByG (full)", "Algorithm 1 as it is."),
    "no-routing": Row(
        "w/o gradient routing",
        "The reverse pass sees and learns through the one-step y_hat; y_0 is not used.",
        ("method.routing=false",),
    ),
    "no-cycle": Row(
        "w/o cycle loss",
        "lambda_cycle is 0; the reverse pass stays, for its prior.",
        ("method.lambda_cycle=0",),
    ),
    "no-reverse": Row(
        "w/o reverse pass",
        "Neither cycle loss nor reverse prior: forward prior and identity alone.",
        ("method.reverse=false",),
    ),
    "no-directional": Row(
        "w/o directional loss",
        "The prior is its MSE alone, at alpha 1.",
        ("method.directional=0", "method.alpha=1"),
    ),
    "no-bootstrapping": Row(
        "w/o bootstrapping",
        "The forward pass gets the noised source x_t for y_t; y_0 still comes from the rollout.",
        ("method.bootstrapping=false",),
    ),
    "no-prior": Row(
        "w/o prior", "lambda_prior is 0, forward and reverse.", ("method.lambda_prior=0",)
    ),
    "no-identity": Row(
        "w/o random identity steps",
        "Every step is a full one.",
        ("method.identity_probability=0",),
    ),
    "supervised": Row(
        "supervised LoRA",
        "Eq. 1 on true pairs of the same sources, as many steps.",
        ("method.objective=supervised",),
        pairs=True,
    ),
}
BASELINES = {
    "flowedit": Row("FlowEdit", "Zero-shot, on the same base, from caption to caption."),
    "text-to-image": Row("text-to-image", "The base alone, from the target caption."),
    "copy": Row("copy", "The source."),
    "recoloured": Row(
        "recoloured copy", "The source through the best colour map that is told both values."
    ),
    "encoded": Row("true target, encoded", "The truth through the VAE: what could be reached."),
}


def baselines(editor: Editor, recolour: Recolour) -> dict[str, Method]:
    """What needs no training."""
    return {
        "flowedit": editor.flowedit,
        "text-to-image": editor.text_to_image,
        "copy": lambda label, edits: [drawn(e.source) for e in edits],
        "recoloured": lambda label, edits: [recolour(label, e) for e in edits],
        "encoded": editor.reconstruct,
    }


def base_digest() -> str:
    """Names the base and its warm-up: runs on other ones do not compare."""
    state = hashlib.sha256()
    for path in [*sorted((HERE / "base").rglob("*.safetensors")), WARMUP]:
        state.update(hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()[:16]


# ---------------------------------------------------------------- scores of one run


def score_run(file: Path, lora: Path | None, queries: int, seed: int, device: str) -> None:
    """Write scores {method: {label: Score}}; without a LoRA those of all baselines."""
    editor, recolour = Editor(lora or WARMUP, device, seed), Recolour()
    methods = {TRAINED: editor.edit} if lora else baselines(editor, recolour)
    scores, _ = measure(methods, queries, recolour=recolour)
    result = {
        method: {label: asdict(rows[method]) for label, rows in scores.items()}
        for method in methods
    }
    with atomic(file) as temporary:
        told = {"queries": queries, "scores": result}
        temporary.write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")


def read_scores(file: Path, queries: int) -> dict | None:
    """What `score_run` wrote, if it was with as many queries."""
    if not file.exists():
        return None
    told = json.loads(file.read_text(encoding="utf-8"))
    return told["scores"] if told["queries"] == queries else None


# ---------------------------------------------------------------- over seeds


class Result(NamedTuple):
    """One row's measures over its seeds: means over edit types first, each type alike."""

    title: str
    about: str
    all: dict[str, Summary]
    kinds: dict[str, dict[str, Summary]]  # label -> measure -> over seeds


def result(row: Row, runs: Sequence[Mapping[str, Mapping[str, float]]]) -> Result:
    """From the scores {label: {measure: value}} of every seed."""
    labels = list(runs[0])
    overall = {
        name: summarise(sum(run[label][name] for label in labels) / len(labels) for run in runs)
        for name in MEASURES
    }
    kinds = {
        label: {name: summarise(run[label][name] for run in runs) for name in MEASURES}
        for label in labels
    }
    return Result(row.title, row.about, overall, kinds)


def markdown(results: Sequence[Result]) -> str:
    """Table 4's form, and the joint score by type of edit."""
    head = ["", "edit success", "source kept", "joint", "seeds"]
    rows = [
        [r.title, *(_cell(r.all[name]) for name in MEASURES), str(r.all["edit"].n)] for r in results
    ]
    labels = list(results[0].kinds)
    by_kind = [[r.title, *(_cell(r.kinds[label]["joint"]) for label in labels)] for r in results]
    about = "\n".join(f"- **{r.title}**: {r.about}" for r in results)
    joint = "Joint score by type of edit:"
    return f"{table(head, rows)}\n\n{joint}\n\n{table(['', *labels], by_kind)}\n\n{about}\n"


def _cell(summary: Summary) -> str:
    sem = f" ± {summary.sem:.3f}" if summary.n > 1 else ""
    return f"{summary.mean:.3f}{sem}"


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
