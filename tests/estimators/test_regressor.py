"""The regressor: targets of every form, losses that give bands, missing numbers."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from lstm_numba.estimators import RNNRegressor

SMALL: dict[str, Any] = {"hidden_size": 8, "random_state": 0, "cell": "gru", "learning_rate": 0.02}


def sums(count: int = 120, steps: int = 10, seed: int = 0) -> tuple[Any, Any]:
    """Sequences (N, T, 2) and running sums of each feature (N, T, 2)."""
    X = np.random.default_rng(seed).standard_normal((count, steps, 2))
    return X, 100 + 10 * np.cumsum(X, axis=1) / np.sqrt(steps)


def test_targets_of_every_form() -> None:
    X, y = sums()
    for target, options in (
        (y[:, -1, 0], {}),
        (y[:, -1], {}),
        (y[..., 0], {"per_step": True}),
        (y, {"per_step": True}),
    ):
        regressor = RNNRegressor(**SMALL, **options).fit(X, target)
        found = regressor.predict(X)
        assert found.shape == target.shape
        assert found.dtype == np.float64
        assert regressor.score(X, target) > 0.9, target.shape
        assert abs(found.mean() - target.mean()) < 1  # in the units of the data
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(regressor)).predict(X), found)


def test_every_step_of_sequences_of_different_lengths() -> None:
    X, y = sums()
    lengths = np.random.default_rng(2).integers(4, 11, size=len(X))
    xs = [x[:t] for x, t in zip(X, lengths, strict=True)]
    ys = [v[:t, 0].copy() for v, t in zip(y, lengths, strict=True)]
    ys[0][1] = np.nan
    regressor = RNNRegressor(**SMALL, per_step=True).fit(xs, ys)
    found = regressor.predict(xs)
    assert [len(part) for part in found] == list(lengths)
    assert regressor.score(xs, ys) > 0.9
    padded = np.full((len(X), 10, 2), np.nan)
    for n, x in enumerate(xs):
        padded[n, : len(x)] = x
    again = regressor.predict(padded)
    for n, part in enumerate(found):
        np.testing.assert_allclose(again[n, : len(part)], part, rtol=1e-12)
        assert np.isnan(again[n, len(part) :]).all()
    stream = regressor.stream()
    np.testing.assert_allclose([stream.step(x)[0] for x in xs[5]], found[5], rtol=1e-12)


def test_weights_of_steps_are_as_so_many_sequences() -> None:
    X, y = sums(12)
    weights = np.array([0, 1, 2] * 4)
    options = {**SMALL, "per_step": True, "max_epochs": 3}
    weighted = RNNRegressor(**options).fit(X, y, sample_weight=weights)
    repeated = RNNRegressor(**options).fit(np.repeat(X, weights, axis=0), np.repeat(y, weights, axis=0))
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-9)


def test_bands_hold_what_they_promise() -> None:
    """Noise whose size depends on the input: nine tenths of new targets lie within the bands."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1200, 4, 1))
    size = 1 + 2 * (X[:, 0, 0] > 0)
    y = 5 * X[:, -1, 0] + size * rng.standard_normal(len(X))
    for loss in ("gaussian", "quantile"):
        regressor = RNNRegressor(
            **SMALL, loss=loss, quantiles=(0.05, 0.5, 0.95), early_stopping=True, n_iter_no_change=30
        )
        regressor.fit(X[:800], y[:800])
        bands = regressor.predict_quantiles(X[800:], (0.05, 0.5, 0.95))
        assert bands.shape == (400, 3)
        assert np.all(np.diff(bands, axis=1) >= 0)
        inside = (y[800:] >= bands[:, 0]) & (y[800:] <= bands[:, 2])
        assert 0.83 < inside.mean() < 0.96, loss
        width = bands[:, 2] - bands[:, 0]
        wide, narrow = width[X[800:, 0, 0] > 0.5].mean(), width[X[800:, 0, 0] < -0.5].mean()
        assert 1.8 < wide / narrow < 4.5, loss
    mean, deviation = (
        RNNRegressor(**SMALL, loss="gaussian", max_epochs=60).fit(X, y).predict(X, return_std=True)
    )
    assert 0.7 < np.mean(((y - mean) / deviation) ** 2) < 1.3


def test_robust_losses_ignore_outliers() -> None:
    X, y = sums()
    target = y[:, -1, 0].copy()
    target[::12] += 400
    errors = {
        loss: np.median(
            np.abs(RNNRegressor(**SMALL, loss=loss, max_epochs=60).fit(X, target).predict(X) - y[:, -1, 0])
        )
        for loss in ("mse", "mae", "huber")
    }
    assert errors["mae"] < 0.5 * errors["mse"]
    assert errors["huber"] < 0.9 * errors["mse"]


def test_refuses_what_does_not_fit() -> None:
    X, y = sums()
    with pytest.raises(ValueError, match="without per_step"):
        RNNRegressor(**SMALL).fit(X, y)
    with pytest.raises(ValueError, match="for each step"):
        RNNRegressor(**SMALL, per_step=True).fit(X, y[:, :-1])
    with pytest.raises(ValueError, match="loss: expected one of"):
        RNNRegressor(**SMALL, loss="l2").fit(X, y[:, -1])
    with pytest.raises(ValueError, match="quantiles: expected ascending"):
        RNNRegressor(**SMALL, loss="quantile", quantiles=(0.9, 0.1)).fit(X, y[:, -1])
    fitted = RNNRegressor(**SMALL, max_epochs=2).fit(X, y[:, -1])
    with pytest.raises(ValueError, match="learns none"):
        fitted.predict_quantiles(X)
    with pytest.raises(ValueError, match="standard deviation"):
        fitted.predict(X, return_std=True)
    both = RNNRegressor(**SMALL, bidirectional=True, max_epochs=2).fit(X, y[:, -1])
    with pytest.raises(ValueError, match="direction"):
        both.stream()
