"""The tiny world's own critic: a small network that judges style, colours and objects of pictures.

It looks at about 48 x 48 pixels, and `tools/world/train_critic.py` trains it. A question of
`world.toml` is put together from its judgements: "is it done" from what the instruction tells, "is
all else the same" from all that it does not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    interpolate,
    log_softmax,
    logsigmoid,
    normalize,
    silu,
)

from ..core.critic import Question
from ..files import atomic

FILE = Path(__file__).with_name("world.safetensors")
SIDE, WIDTHS, NAME = 48, (24, 48, 64, 64), 48
# What questions tell, in the words of `world/scenes.py`: each group is a judgement.
TOLD = tuple(
    re.compile(words)
    for words in (
        r"background to an? (?P<ground>\w+)(?: (?P<pattern>striped|dotted|checkered))? ground",
        r"into an? (?P<style>3d|flat|ink) \w+(?: with an? (?P<tint>\w+) subject)?",
        r"paint the .+ (?P<tint>\w+)",
        r"add a small (?P<extra>\w+) at the (?P<corner>\w+ \w+)",
        r"with a small (?P<extra>\w+)",
        r"there \? (?:small )?(?P<extra>\w+)",
        r"remove the small \w+ at the (?P<corner>\w+ \w+)",
        r"do (?P<nothing>nothing)",
    )
)
# A ground of which no pattern is told.
PLAIN = "plain"


class Judged(NamedTuple):
    """What is seen in pictures: log-probabilities (B, words) by judgement, and whose picture."""

    log_p: dict[str, Tensor]
    name: Tensor  # (B, NAME), of length 1; alike for one subject in all styles


class TinyCritic(nn.Module):
    """A `Critic` of pictures of the tiny world."""

    def __init__(self, words: dict[str, list[str]]) -> None:
        """`words` of style, tint, ground, pattern, extra (the first: there is none), corner."""
        super().__init__()
        self.words = words
        channels = (3, *WIDTHS)
        self.see = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride, 1)
            for a, b, stride in zip(channels[:-1], WIDTHS, (2, 2, 1, 2), strict=True)
        )
        self.norm = nn.ModuleList(nn.GroupNorm(8, width) for width in WIDTHS)
        self.heads = nn.Linear(8 * WIDTHS[-1], sum(map(len, words.values())) + NAME)
        self.alike = nn.Parameter(torch.tensor([8.0, 0.5]))  # how steeply, from which cosine on

    @classmethod
    def load(cls, file: Path = FILE) -> TinyCritic:
        """Read a critic, frozen."""
        with safe_open(file, "pt") as stored:
            critic = cls(json.loads(stored.metadata()["words"]))
            critic.load_state_dict({n: stored.get_tensor(n).float() for n in stored.keys()})  # noqa: SIM118
        return critic.eval().requires_grad_(False)

    def save(self, file: Path) -> None:
        """Write it in float16."""
        tensors = {name: tensor.half().contiguous() for name, tensor in self.state_dict().items()}
        with atomic(file) as temporary:
            temporary.write_bytes(save(tensors, {"words": json.dumps(self.words)}))

    def __call__(self, source: Tensor, edited: Tensor, questions: Sequence[Question]) -> Tensor:
        """Logits (Q, 2) of no and yes: log-probabilities."""
        return super().__call__(source, edited, questions)

    def forward(self, source: Tensor, edited: Tensor, questions: Sequence[Question]) -> Tensor:
        with torch.no_grad():
            before = self.judged(source)
        after = self.judged(edited)
        yes = torch.stack([self._yes(question, before, after) for question in questions])
        yes = yes.clamp(max=-1e-5)
        return torch.stack([torch.log(-torch.expm1(yes)), yes], 1)

    def judged(self, pixels: Tensor) -> Judged:
        """Judge the middle frame of pixels (B, 3, F, H, W)."""
        x = _seen(pixels)
        for conv, norm in zip(self.see, self.norm, strict=True):
            x = silu(norm(conv(x)))
        pooled = [pool(x, 2).flatten(1) for pool in (adaptive_avg_pool2d, adaptive_max_pool2d)]
        sizes = [len(words) for words in self.words.values()]
        *found, name = self.heads(torch.cat(pooled, 1)).split([*sizes, NAME], 1)
        log_p = {what: log_softmax(a, 1) for what, a in zip(self.words, found, strict=True)}
        return Judged(log_p, normalize(name, dim=1))

    def _yes(self, question: Question, before: Judged, after: Judged) -> Tensor:
        """Log p(yes), ()."""
        told = self.told(question.text)
        if question.kind == "edit":
            return sum(
                after.log_p[what][question.row, self.words[what].index(word)]
                for what, word in told.items()
            )
        return self._same(question, before, after, set(told))

    def told(self, text: str) -> dict[str, str]:
        """What an instruction asks for; ValueError for words that this critic does not know."""
        found = next(filter(None, (words.search(text) for words in TOLD)), None)
        told = {what: word for what, word in found.groupdict().items() if word} if found else {}
        if told == {"nothing": "nothing"}:
            return {}
        if not told or any(word not in self.words[what] for what, word in told.items()):
            raise ValueError(f"the tiny world's critic cannot answer {text!r}")
        return {"pattern": PLAIN, **told} if "ground" in told else told

    def _same(self, question: Question, before: Judged, after: Judged, told: set[str]) -> Tensor:
        """Log p that all is the same but for what is told."""
        row = question.row
        cosine = (before.name[row] * after.name[row]).sum()
        same = logsigmoid(self.alike[0] * (cosine - self.alike[1]))
        both = {what: (before.log_p[what][row] + p[row]) / 2 for what, p in after.log_p.items()}
        none, *objects = both.pop("extra")
        overlap = {what: torch.logsumexp(alike, 0) for what, alike in both.items()}
        # Where there is no second object it stands in no corner.
        corner = overlap.pop("corner")
        if not told & {"extra", "corner"}:
            there = torch.logsumexp(torch.stack(objects), 0) + corner
            same = same + torch.logaddexp(none, there)
        elif told == {"extra"}:
            same = same + corner
        # An ink drawing shows no tint.
        untold = overlap.keys() - told - ({"tint"} if "ink" in question.text else set())
        return same + sum(overlap[what] for what in sorted(untold))


def _seen(pixels: Tensor) -> Tensor:
    """Pixels (B, 3, F, H, W), of which the middle frame is looked at -> (B, 3, SIDE, SIDE)."""
    frame = pixels[:, :, pixels.shape[2] // 2].float().clamp(-1, 1)
    if frame.shape[-2:] == (SIDE, SIDE):
        return frame
    return interpolate(frame, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
