"""Welch's interval of a difference, against SciPy's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lstm_numba.experiments.intervals import difference


def test_difference_is_welchs() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(3.0, 1.0, 4), rng.normal(1.0, 5.0, 7)
    expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    found = difference(list(a), list(b))
    assert found.estimate == pytest.approx(a.mean() - b.mean(), rel=1e-12)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_difference_of_few_values() -> None:
    assert difference([5.0, 5.0], [2.0, 2.0, 2.0]) == (3.0, 3.0, 3.0)
    found = difference([5.0], [2.0, 3.0])
    assert found.estimate == 2.5
    assert (found.low, found.high) == (-math.inf, math.inf)
