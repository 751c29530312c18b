"""What section 5.1.1 and appendix E of the paper report about a study: rates, tests, agreement."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

from ..evaluate import preference
from ..evaluate.preference import Rate, Vote
from ..evaluate.summary import Summary
from .votes import Cast


class RateOf(NamedTuple):
    """A's win rate over some of the votes."""

    label: str
    rate: Rate
    raters: Summary | None  # of their own rates; None where these are one rater's votes


def votes_of(cast: Sequence[Cast]) -> list[Vote]:
    """The votes as statistics take them."""
    return [Vote(each.rater, each.item, each.won == "a") for each in cast]


def rates(cast: Sequence[Cast]) -> list[list[RateOf]]:
    """A's win rate over all votes, by group and by rater."""
    groups: dict[str, list[Vote]] = defaultdict(list)
    raters: dict[str, list[Vote]] = defaultdict(list)
    votes = votes_of(cast)
    for each, vote in zip(cast, votes, strict=True):
        if each.group:
            groups[each.group].append(vote)
        raters[each.rater].append(vote)
    return [
        [
            RateOf(
                label,
                preference.win_rate(members),
                None if section is raters else preference.across_raters(members),
            )
            for label, members in sorted(section.items())
        ]
        for section in ({"all": votes}, groups, raters)
    ]


def percent(raters: Summary) -> str:
    """Format a mean of rates, with its standard error if there is one."""
    sem = "" if math.isnan(raters.sem) else f" ± {raters.sem:.1%}"
    return f"{raters.mean:.1%}{sem}"


def sentences(cast: Sequence[Cast], items: int) -> Iterator[str]:
    """Yield what the votes say, of a study of so many items."""
    votes = votes_of(cast)
    rate, across = preference.win_rate(votes), preference.across_raters(votes)
    yield (
        f"A wins {rate.wins} of {rate.n} votes, {rate.share:.1%}"
        + (f"; mean of {across.n} raters {percent(across)} (SEM)." if across.n > 1 else ".")
    )
    two, one = (preference.chance(rate.wins, rate.n, tail) for tail in ("two-sided", "greater"))
    yield f"Against chance: p = {two:.2g} (two-sided binomial), {one:.2g} (one-sided)."
    low, high = preference.cluster_interval(votes)
    yield (
        f"For other raters and items like these: {low:.1%} to {high:.1%} (95 %, bootstrap over "
        "raters and items; the table's intervals and the binomial test take votes as independent)."
    )
    most = preference.majority(votes)
    yield (
        f"By majority A wins {most.wins} of {most.wins + most.losses} items, {most.ties} tied"
        + ("." if math.isnan(most.p) else f"; sign test p = {most.p:.2g} (two-sided).")
    )
    kappa, alpha = preference.fleiss_kappa(votes), preference.krippendorff_alpha(votes)
    known = [("Fleiss' kappa", kappa), ("Krippendorff's alpha", alpha)]
    agreement = ", ".join(f"{name} {value:.2f}" for name, value in known if not math.isnan(value))
    yield (
        f"Agreement of raters: {agreement} (1 always, 0 as by chance)."
        if agreement
        else "Agreement of raters: not known (no item with two votes, or all are equal)."
    )
    left = sum(each.won == each.on_left for each in cast)
    yield (
        f"Asked: {len({each.item for each in cast})} of {items} items. The left side won "
        f"{left / rate.n:.1%} (p = {preference.chance(left, rate.n):.2g}); median "
        f"{median(each.seconds for each in cast):.1f} s per vote."
    )
