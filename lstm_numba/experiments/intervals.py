"""Intervals of confidence for a few repetitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """An estimate, and the ends of its interval of 95 %."""

    estimate: float
    low: float
    high: float


def proportion(successes: int, trials: int) -> Interval:
    """Share of successes, with Wilson's score interval (Wilson 1927, JASA 22, p. 209)."""
    found = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    return Interval(successes / trials, float(found.low), float(found.high))


def mean(values: Sequence[float]) -> Interval:
    """Mean of normally distributed values, with Student's interval; of one value it is infinitely wide."""
    data = np.asarray(values, np.float64)
    if len(data) < 2:
        return Interval(float(data.mean()), -np.inf, np.inf)
    half = float(stats.t.ppf(0.975, len(data) - 1) * data.std(ddof=1) / np.sqrt(len(data)))
    centre = float(data.mean())
    return Interval(centre, centre - half, centre + half)


def difference(values: Sequence[float], others: Sequence[float]) -> Interval:
    """Mean of normally distributed values less that of others, with Welch's interval.

    The two may vary differently (Welch 1947, Biometrika 34, p. 28). If one of them is a single value the
    interval is infinitely wide; if neither varies it has no width.
    """
    both = [np.asarray(data, np.float64) for data in (values, others)]
    centre = float(both[0].mean() - both[1].mean())
    if min(map(len, both)) < 2:
        return Interval(centre, -np.inf, np.inf)
    parts = np.array([data.var(ddof=1) / len(data) for data in both])
    if not parts.any():
        return Interval(centre, centre, centre)
    freedom = parts.sum() ** 2 / sum(
        part**2 / (len(data) - 1) for part, data in zip(parts, both, strict=True)
    )
    half = float(stats.t.ppf(0.975, freedom) * np.sqrt(parts.sum()))
    return Interval(centre, centre - half, centre + half)
