"""Train the tiny world's critic: what it judges of a picture, and whether two show one subject.

python -m tools.world.train_critic [--steps 2500] [--output byg_train/critics/world.safetensors]

It sees drawings of scenes, worn as pictures of a model are, and mixtures of two of them, whose
words are told by share. No picture of a held-out name is ever drawn for it; on those it is measured
as it is asked: about results of edits that did what was wanted or did not, and that kept the rest
or did not.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from math import log
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits, one_hot, pad

from byg_train.core.critic import Ask
from byg_train.critics.questions import question_maker
from byg_train.critics.tiny import FILE, NAME, SIDE, TinyCritic
from byg_train.media.pixels import to_batch
from byg_train.world.alternatives import changed_otherwise, other_edits
from byg_train.world.judge import PICTURES
from byg_train.world.names import (
    COLOURS,
    CORNERS,
    EXTRAS,
    HELD_OUT,
    PATTERNS,
    STYLES,
    SUBJECTS,
    TINTS,
)
from byg_train.world.scenes import EDITED, Edit, Scene, draw, random_edit, random_scene

from .lots import CANVASES

TAUGHT = tuple(name for name in SUBJECTS if name not in HELD_OUT)
WORDS = {
    "style": list(STYLES),
    "tint": ["", *TINTS],
    "ground": list(COLOURS),
    "pattern": list(PATTERNS),
    "extra": ["", *EXTRAS],
    "corner": list(CORNERS),
}
PAIRS = 48  # of a step
# Edit type -> what its instruction tells of the result.
TOLD = {**{kind: {field} for kind, field in EDITED.items()}, "background": {"ground", "pattern"}}
TOLD["add"] = {"extra", "corner"}


def visible(scene: Scene) -> dict[str, str]:
    """The words of every judgement, "" for none; a corner without an object is not looked at."""
    tint = "" if scene.style == "ink" else scene.tint
    return {what: (tint if what == "tint" else getattr(scene, what)) or "" for what in WORDS}


# ---------------------------------------------------------------- training


def pictures(scenes: Sequence[Scene]) -> Tensor:
    """(B, 3, 1, SIDE, SIDE) in [-1, 1]; those of other canvases are squared."""
    drawn = [to_batch([draw(scene)[None]])[0] for scene in scenes]
    whole = [
        one if one.shape[-1] == one.shape[-2] else nn.functional.interpolate(
            one, (SIDE, SIDE), mode="bilinear", antialias=True
        )
        for one in (one.permute(1, 0, 2, 3) for one in drawn)
    ]  # fmt: skip
    return torch.cat(whole)[:, :, None]


def labels(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """One-hot words (B, words) by judgement, and of the subject as `name`."""
    told = [visible(scene) for scene in scenes]
    found = {
        what: one_hot(torch.tensor([words.index(own[what]) for own in told]), len(words)).float()
        for what, words in WORDS.items()
    }
    found["corner"] *= torch.tensor([[float(bool(scene.extra))] for scene in scenes])
    names = torch.tensor([TAUGHT.index(scene.subject) for scene in scenes])
    return {**found, "name": one_hot(names, len(TAUGHT)).float()}


def worn(x: Tensor, g: torch.Generator) -> Tensor:
    """Softer, noisier, a little off in colour: as what a model draws is."""

    def each(scale: float = 1.0) -> Tensor:
        return scale * torch.rand(len(x), 1, 1, 1, generator=g)

    frames = x[:, :, 0]
    soft = avg_pool2d(pad(frames, (1, 1, 1, 1), mode="replicate"), 3, 1)
    frames = frames + (each() > 0.5) * each() * (soft - frames)
    frames = frames + each(0.12) * torch.randn(frames.shape, generator=g)
    return (frames * (0.94 + each(0.12)) + each(0.1) - 0.05).clamp(-1, 1)[:, :, None]


def loss_of(critic: TinyCritic, names: nn.Linear, rng: random.Random, g: torch.Generator) -> Tensor:
    """Judgements of pairs that share their subject, a third of the pictures mixed with others."""
    subjects = [rng.choice(TAUGHT) for _ in range(PAIRS)]
    canvases = [rng.choice(CANVASES) if rng.random() < 0.25 else CANVASES[0] for _ in subjects]
    scenes = [
        random_scene(rng, (name,), canvas=canvas)
        for _ in range(2)
        for name, canvas in zip(subjects, canvases, strict=True)
    ]
    x, wanted = worn(pictures(scenes), g), labels(scenes)
    share = torch.rand(len(x), 1, generator=g) * (torch.rand(len(x), 1, generator=g) < 1 / 3) / 2
    other = torch.randperm(len(x), generator=g)
    x = x + share[..., None, None, None] * (x[other] - x)
    wanted = {what: y + share * (y[other] - y) for what, y in wanted.items()}
    seen = critic.judged(x)
    log_p = {**seen.log_p, "name": names(12 * seen.name).log_softmax(1)}
    losses = [
        -(wanted[what] * log_p[what]).sum(1).mean() / log(y.shape[1]) for what, y in log_p.items()
    ]
    whole = (share < 0.25)[:, 0]
    alike = critic.alike[0] * (seen.name @ seen.name.T - critic.alike[1])
    same = torch.tensor([[float(a.subject == b.subject) for b in scenes] for a in scenes])
    weigh = (whole[:, None] & whole).float() * (1 - torch.eye(len(x))) * (1 + PAIRS * same)
    pair = (
        binary_cross_entropy_with_logits(alike, same, weight=weigh, reduction="sum") / weigh.sum()
    )
    return sum(losses) + pair


def train(steps: int, seed: int, minutes: float) -> TinyCritic:
    torch.manual_seed(seed)
    critic, names = TinyCritic(WORDS), nn.Linear(NAME, len(TAUGHT))
    rng, g = random.Random(seed), torch.Generator().manual_seed(seed)
    weights = [*critic.parameters(), *names.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=3e-3, weight_decay=1e-3)
    began = time.process_time()
    for step in range(steps):
        # By the clock as well: the rate has fallen when the time is over.
        share = max(step / steps, (time.process_time() - began) / (60 * minutes))
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1, (step + 1) / 50) * (1 - share) + 1e-5
        optimizer.zero_grad()
        loss = loss_of(critic, names, rng, g)
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            spent = time.process_time() - began
            print(f"{step} {spent:.0f} s loss {loss.item():.3f}", flush=True)
    return critic


# ---------------------------------------------------------------- measuring


def result_of(rng: random.Random, edit: Edit) -> Scene:
    """What an edit led to: done or not, or done otherwise; the rest kept or not."""
    field, base = EDITED[edit.edit_type], edit.target if rng.random() < 0.6 else edit.source
    if rng.random() < 0.25:
        base = rng.choice(list(other_edits(edit.target, field, PICTURES.values)))
    if rng.random() < 0.25:
        return replace(base, subject=rng.choice([n for n in HELD_OUT if n != base.subject]))
    if rng.random() < 0.3:
        return rng.choice(sorted(changed_otherwise(base, field, PICTURES.values), key=repr))
    return base


def truth(edit: Edit, result: Scene) -> dict[str, bool]:
    """Whether it is done, and whether all else is as it was."""
    before, wanted, after = map(visible, (edit.source, edit.target, result))
    told = set(TOLD[edit.edit_type])
    if edit.edit_type == "style" and edit.source.style == "ink":
        told |= {"tint"}
    free = set(told)
    if edit.edit_type == "style" and "ink" in (edit.source.style, edit.target.style):
        free |= {"tint"}
    if edit.edit_type == "remove" or not (edit.source.extra and result.extra):
        free |= {"corner"}
    kept = result.subject == edit.source.subject and all(
        before[what] == after[what] for what in WORDS if what not in free
    )
    return {"edit": all(wanted[what] == after[what] for what in told), "identity": kept}


@torch.no_grad()
def accuracy(critic: TinyCritic, number: int = 200, seed: int = 1) -> dict[str, float]:
    """The share of right answers about held-out names, by edit type and kind of question."""
    ask, rng, right = question_maker("world"), random.Random(seed), defaultdict(list)
    for kind in EDITED:
        edits = [random_edit(rng, kind, HELD_OUT) for _ in range(number)]
        results = [result_of(rng, edit) for edit in edits]
        questions = ask([Ask(edit.instruction, kind) for edit in edits])
        logits = critic(pictures([edit.source for edit in edits]), pictures(results), questions)
        for question, said in zip(questions, (logits[:, 1] > logits[:, 0]).tolist(), strict=True):
            true = truth(edits[question.row], results[question.row])[question.kind]
            if question.kind == "edit" and kind == "remove":  # asked: is it still there
                true = results[question.row].extra != edits[question.row].source.extra
            for name in ("all", question.kind, f"{kind}, {question.kind}"):
                right[name].append((said == question.answer) == true)
    return {name: sum(ok) / len(ok) for name, ok in sorted(right.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--minutes", type=float, default=20, help="at most, of one core")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=FILE)
    parser.add_argument("--measure", action="store_true", help="only measure the one that ships")
    args = parser.parse_args()
    if not args.measure:
        train(args.steps, args.seed, args.minutes).save(args.output)
    print(json.dumps(accuracy(TinyCritic.load(args.output)), indent=1))


if __name__ == "__main__":
    main()
