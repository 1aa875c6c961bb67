"""scikit-learn's own checks of an estimator, every one, on estimators as a user makes them."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks

from lstm_numba.estimators import RNNClassifier, RNNForecaster, RNNRegressor


@parametrize_with_checks([RNNClassifier(), RNNRegressor(), RNNForecaster()])
def test_check(estimator: Any, check: Any) -> None:
    check(estimator)
