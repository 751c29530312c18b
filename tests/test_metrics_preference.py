"""The statistics of a user study against the paper's published ones, and in closed form."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy.stats import binom

from byg_train.evaluate.preference import (
    Vote,
    across_raters,
    by_rater,
    chance,
    cluster_interval,
    fleiss_kappa,
    krippendorff_alpha,
    majority,
    rate,
    win_rate,
)


def study(*counts: tuple[int, int, int]) -> list[Vote]:
    """Votes from (items, wins, losses); raters take turns."""
    votes = []
    for items, wins, losses in counts:
        for _ in range(items):
            first, name = len(votes), f"item {len(votes)}"
            choices = [True] * wins + [False] * losses
            votes += [Vote(f"r{(first + i) % 8}", name, won) for i, won in enumerate(choices)]
    return votes


# 119 items by two raters each: the one table that all published statistics fit.
PAPER = study((77, 2, 0), (25, 1, 1), (17, 0, 2))


def test_the_papers_win_rate() -> None:
    found = win_rate(PAPER)
    assert (found.wins, found.n) == (179, 238)
    assert f"{found.share:.1%}" == "75.2%"
    assert found.low < 0.752 < found.high


def test_the_papers_majority_and_sign_test() -> None:
    found = majority(PAPER)
    assert (found.wins, found.losses, found.ties) == (77, 17, 25)
    assert found.p == pytest.approx(2.70e-10, rel=2e-3)
    assert found.p < 3e-10


def test_the_papers_binomial_test_is_one_sided() -> None:
    assert chance(179, 238, "greater") == pytest.approx(1.54e-15, rel=3e-3)
    assert chance(179, 238) == pytest.approx(3.07e-15, rel=3e-3)
    assert chance(179, 238, "greater") < 3e-15 < chance(179, 238)


def test_the_papers_kappa() -> None:
    assert fleiss_kappa(PAPER) == pytest.approx(0.4366, abs=5e-5)


def test_alpha_is_kappa_with_the_small_sample_in_mind() -> None:
    """For equal raters: alpha = 1 - (1 - kappa) (1 - 1 / n) with n votes (Krippendorff 2011)."""
    for votes in (PAPER, study((5, 3, 0), (4, 2, 1), (2, 1, 2), (3, 0, 3))):
        wanted = 1 - (1 - fleiss_kappa(votes)) * (1 - 1 / len(votes))
        assert krippendorff_alpha(votes) == pytest.approx(wanted)


def test_alpha_of_unequal_raters_by_hand() -> None:
    votes = study((1, 2, 1), (1, 0, 2), (2, 1, 0))  # the single votes say nothing
    # Of 5 votes 2 for A: D_o = 2 * 2 * 1 / 2 / 5, D_e = 2 * 2 * 3 / (5 * 4)
    assert krippendorff_alpha(votes) == pytest.approx(1 - (2 / 5) / (12 / 20))
    assert math.isnan(fleiss_kappa(votes))


def test_agreement_at_its_ends() -> None:
    always = study((6, 2, 0), (6, 0, 2))
    assert fleiss_kappa(always) == pytest.approx(1)
    assert krippendorff_alpha(always) == pytest.approx(1)
    never = study((10, 1, 1))
    assert fleiss_kappa(never) == pytest.approx(-1)
    for said in (study((6, 2, 0)), study((3, 1, 0), (3, 0, 1)), []):
        assert math.isnan(fleiss_kappa(said))
        assert math.isnan(krippendorff_alpha(said))


def test_votes_by_chance_agree_by_chance() -> None:
    draw = random.Random(0)
    votes = [Vote(f"r{r}", f"i{i}", draw.random() < 0.7) for r in range(4) for i in range(3000)]
    assert fleiss_kappa(votes) == pytest.approx(0, abs=0.03)
    assert krippendorff_alpha(votes) == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize(("wins", "n"), [(0, 5), (5, 5), (3, 10), (179, 238)])
def test_wilsons_interval_solves_its_equation(wins: int, n: int) -> None:
    """Its ends are the shares from which the observed one is 1.96 standard errors away."""
    found, z = rate(wins, n), 1.959963984540054
    for end in (found.low, found.high):
        assert 0 <= end <= 1
        # To the power of two, for the ends 0 and 1 where both sides vanish.
        assert (found.share - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / n, abs=1e-12)
    assert found.low <= found.share <= found.high


def test_the_binomial_test_counts_what_is_as_rare() -> None:
    k = np.arange(21)
    p = binom.pmf(k, 20, 0.5)
    assert chance(15, 20) == pytest.approx(p[(k <= 5) | (k >= 15)].sum())
    assert chance(15, 20, "greater") == pytest.approx(p[k >= 15].sum())
    assert chance(10, 20) == pytest.approx(1)
    assert math.isnan(chance(0, 0))


def test_raters_weigh_alike_in_their_mean() -> None:
    votes = [Vote("a", f"{i}", True) for i in range(9)] + [Vote("b", "x", False)]
    votes += [Vote("c", f"{i}", i < 2) for i in range(4)]
    assert {name: r.share for name, r in by_rater(votes).items()} == {"a": 1, "b": 0, "c": 0.5}
    found = across_raters(votes)
    assert (found.mean, found.n) == (0.5, 3)
    assert found.sem == pytest.approx(0.5 / math.sqrt(3))


@pytest.mark.slow
def test_the_bootstrap_is_wider_where_votes_hang_together() -> None:
    """One item decides everything, or nothing hangs together: the same win rate."""
    raters, items = range(8), range(12)
    by_item = [Vote(f"r{r}", f"i{i}", i < 8) for r in raters for i in items]
    loose = [Vote(f"r{r}", f"i{i}", (r * 5 + i * 7) % 12 < 8) for r in raters for i in items]
    assert win_rate(by_item).share == pytest.approx(win_rate(loose).share, abs=0.02)
    (low, high), (loose_low, loose_high) = cluster_interval(by_item), cluster_interval(loose)
    assert high - low > 1.5 * (loose_high - loose_low)
    assert low < 8 / 12 < high
    assert cluster_interval(by_item) == (low, high)  # the same every time
    # With a single rater, items alone are drawn: the standard error of 12 items.
    alone = [vote for vote in by_item if vote.rater == "r0"]
    low, high = cluster_interval(alone)
    assert (high - low) / (2 * 1.96) == pytest.approx(math.sqrt(2 / 9 / 12), rel=0.15)
