"""What the frozen base can teach of each edit: how true the direction is in which captions pull it.

python -m tools.world.teacher [--count 48]

From a noised source x_t the base goes v_src by the caption of the source and v_tgt by that of the
target. What the edit asks for is the way from x to its true counterpart y. The cosine between
v_tgt - v_src and x - y (a velocity points away from the picture) says how far the prior of section
4.2, and FlowEdit, which follows the same difference, point at the truth.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from byg_train.core import flow
from byg_train.evaluate.summary import table
from byg_train.models.backbone import Text
from byg_train.world.ablation import WARMUP
from byg_train.world.judge import PICTURE_LABELS, PICTURES, between_styles
from byg_train.world.report import Methods
from byg_train.world.scenes import Edit, caption, training_edit

from .lots import CANVASES

TIMES = (0.95, 0.8, 0.6, 0.4)


def edits(label: str, count: int, *, held_out: bool) -> list[Edit]:
    """Random edits of one of `PICTURE_LABELS`: of held-out names, or such as are trained on."""
    rng, (kind, before, after) = random.Random(label), PICTURE_LABELS[label]
    found: list[Edit] = []
    while len(found) < count:
        lot = (
            PICTURES.query(rng, label)
            if held_out
            else between_styles(lambda: training_edit(rng, kind), before, after)
        )
        if lot.source.canvas == CANVASES[0]:  # one batch
            found.append(lot)
    return found


@torch.no_grad()
def truth_of_direction(methods: Methods, some: list[Edit], times: Sequence[float]) -> list[float]:
    """cos(v_tgt - v_src, x - y) at each time: the mean over the edits, in [-1, 1]."""
    x, y = methods.latents([e.source for e in some]), methods.latents([e.target for e in some])
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    editor = methods.editor
    captions = [[caption(e.source) for e in some], [caption(e.target) for e in some]]
    editor.learn(text for texts in captions for text in texts)
    src, tgt = (editor.embedded(texts, x) for texts in captions)

    def cosine(t: Tensor) -> float:
        x_t = flow.noised(x, eps, t)

        def towards(text: Text) -> Tensor:
            return editor.backbone.velocity(x_t, t, text, guidance=1.0).float()

        pull, wanted = towards(tgt) - towards(src), (x - y).float()
        return float(F.cosine_similarity(pull.flatten(1), wanted.flatten(1)).mean())

    with editor.using("base"):
        return [cosine(torch.full((len(some),), t, device=x.device)) for t in times]


def direction_table(methods: Methods, count: int, *, held_out: bool) -> str:
    """A table of `truth_of_direction`: types of edit by times."""
    rows = []
    for label in PICTURE_LABELS:
        cosines = truth_of_direction(methods, edits(label, count, held_out=held_out), TIMES)
        rows.append([label, *(f"{cosine:.2f}" for cosine in cosines)])
    names = "held-out names" if held_out else "trained on"
    return table([names, *(f"t = {t:g}" for t in TIMES)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=48, help="edits of each type")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    methods = Methods(WARMUP, device=args.device)
    for held_out in (False, True):
        print(direction_table(methods, args.count, held_out=held_out), end="\n\n")


if __name__ == "__main__":
    main()
