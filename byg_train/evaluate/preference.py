"""Statistics of a user study: win rates, tests, agreement (section 5.1.1, appendix E)."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest

from .summary import Summary, summarise

LEVEL = 0.95
DRAWS = 10_000


class Vote(NamedTuple):
    """One rater's choice between the two results for one item."""

    rater: str
    item: str
    won: bool  # method A was preferred


class Rate(NamedTuple):
    """`wins` of `n` votes, with its confidence interval."""

    wins: int
    n: int
    low: float  # Wilson's 95 % interval
    high: float

    @property
    def share(self) -> float:
        """The win rate in [0, 1]."""
        return self.wins / self.n


class Majority(NamedTuple):
    """Items counted by the preference of most of their raters."""

    wins: int
    losses: int
    ties: int

    @property
    def p(self) -> float:
        """The p-value of a two-sided sign test, which ignores ties."""
        return chance(self.wins, self.wins + self.losses)


def rate(wins: int, n: int) -> Rate:
    """A rate with Wilson's interval, which stays in [0, 1] and is valid for few votes."""
    interval = binomtest(wins, n).proportion_ci(LEVEL, method="wilson")
    return Rate(wins, n, float(interval.low), float(interval.high))


def win_rate(votes: Sequence[Vote]) -> Rate:
    """The win rate of method A over all votes, weighted equally."""
    return rate(sum(vote.won for vote in votes), len(votes))


def chance(wins: int, n: int, alternative: str = "two-sided") -> float:
    """The p-value of an exact binomial test of `wins` of `n` against 0.5.

    It assumes independent votes, but votes of one rater, or on one item, are dependent: see
    `cluster_interval`. The paper's p < 3e-15 is one-sided (`alternative="greater"`).
    """
    return float(binomtest(wins, n, 0.5, alternative).pvalue) if n else math.nan


def by_rater(votes: Iterable[Vote]) -> dict[str, Rate]:
    """The win rate of method A for each rater."""
    groups: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        groups[vote.rater].append(vote)
    return {rater: win_rate(groups[rater]) for rater in sorted(groups)}


def across_raters(votes: Iterable[Vote]) -> Summary:
    """Mean and standard error of the raters' rates: the paper's 75.3 % +- 2.2 % (SEM)."""
    return summarise(each.share for each in by_rater(votes).values())


def majority(votes: Iterable[Vote]) -> Majority:
    """Count items by the vote of their majority."""
    leads = [2 * wins - n for wins, n in _counts(votes).values()]
    return Majority(sum(x > 0 for x in leads), sum(x < 0 for x in leads), leads.count(0))


def fleiss_kappa(votes: Iterable[Vote]) -> float:
    """Fleiss' kappa: 1 if raters always agree, 0 if as by chance, negative if less often.

    (P - P_e) / (1 - P_e) with P the share of agreeing pairs of raters. NaN unless every item has
    the same number of raters, at least two, and the votes are not all equal.
    """
    from statsmodels.stats.inter_rater import fleiss_kappa as kappa

    table = np.array([(wins, n - wins) for wins, n in _counts(votes).values()])
    raters = set(table.sum(1).tolist()) if len(table) else set()
    if len(raters) != 1 or min(raters) < 2 or not table.sum(0).all():
        return math.nan
    return float(kappa(table, method="fleiss"))


def krippendorff_alpha(votes: Iterable[Vote]) -> float:
    """Krippendorff's alpha for two categories, on the scale of kappa, for any number of raters.

    1 - D_o / D_e: D_o the share of unequal pairs within items, each vote weighing alike, D_e that
    among all votes. Items with a single vote say nothing; NaN without a pair or if all are equal.
    """
    paired = [(wins, n) for wins, n in _counts(votes).values() if n > 1]
    total, wins = sum(n for _, n in paired), sum(w for w, _ in paired)
    if not 0 < wins < total:
        return math.nan
    observed = sum(2 * w * (n - w) / (n - 1) for w, n in paired) / total
    expected = 2 * wins * (total - wins) / (total * (total - 1))
    return 1 - observed / expected


def cluster_interval(votes: Sequence[Vote], seed: int = 0) -> tuple[float, float]:
    """A 95 % interval of the win rate that covers other raters and items like these.

    Bootstrap: raters and items are both drawn anew with replacement, so a single enthusiast or a
    single easy item cannot make the interval narrow (Owen 2007, the pigeonhole bootstrap).
    """
    raters, row = np.unique([vote.rater for vote in votes], return_inverse=True)
    items, column = np.unique([vote.item for vote in votes], return_inverse=True)
    rng = np.random.default_rng(seed)
    won = np.array([vote.won for vote in votes], np.float64)
    rates = []
    for _ in range(DRAWS):
        r = rng.multinomial(len(raters), np.full(len(raters), 1 / len(raters)))
        i = rng.multinomial(len(items), np.full(len(items), 1 / len(items)))
        weight = r[row] * i[column]
        if weight.any():
            rates.append(weight @ won / weight.sum())
    low, high = np.quantile(rates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _counts(votes: Iterable[Vote]) -> dict[str, tuple[int, int]]:
    """Item -> (votes for A, votes)."""
    wins, n = Counter(), Counter()
    for vote in votes:
        wins[vote.item] += vote.won
        n[vote.item] += 1
    return {item: (wins[item], n[item]) for item in n}
