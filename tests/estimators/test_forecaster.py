"""The forecaster: one series and many, features known in advance, drift, bands, refusals."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.model_selection import GridSearchCV

from lstm_numba.estimators import RNNForecaster

SMALL: dict[str, Any] = {"hidden_size": 12, "random_state": 0, "cell": "gru", "learning_rate": 0.02}


def season(steps: int = 240, seed: int = 0, noise: float = 0.05) -> Any:
    """A wave of twelve steps with noise."""
    return np.sin(2 * np.pi * np.arange(steps) / 12) + noise * np.random.default_rng(seed).standard_normal(
        steps
    )


def test_one_series_and_beyond_its_horizon() -> None:
    y = 50 + 10 * season()
    forecaster = RNNForecaster(horizon=6, window=18, **SMALL).fit(y[:216])
    found = forecaster.predict(24)  # from its own forecasts after 6 steps
    assert found.shape == (24,)
    assert np.abs(found - y[216:]).mean() < 2
    np.testing.assert_array_equal(forecaster.predict(6), found[:6])
    np.testing.assert_array_equal(forecaster.predict(3), found[:3])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(forecaster)).predict(24), found)
    later = forecaster.predict(6, y=y[:234])
    assert np.abs(later - y[234:]).mean() < 2
    assert not forecaster.relative_
    stream = forecaster.stream()
    for value in y[198:216]:
        found = stream.step([value])
    np.testing.assert_allclose(found, forecaster.predict(6), rtol=1e-10)
    assert forecaster.score(y) > 0.8


def test_many_series_of_any_form() -> None:
    many = np.stack([season(96, seed) * (1 + seed) for seed in range(3)])
    forecaster = RNNForecaster(horizon=4, window=12, **SMALL).fit(many)
    assert forecaster.predict().shape == (3, 4)
    np.testing.assert_allclose(forecaster.predict(many), forecaster.predict(), rtol=1e-12)
    ragged = [many[0], many[1][:80]]
    assert RNNForecaster(horizon=4, window=12, **SMALL, max_epochs=3).fit(ragged).predict(5).shape == (2, 5)
    deep = np.stack([many[:2], many[1:]], axis=-1)
    pair = RNNForecaster(horizon=4, window=12, **SMALL).fit(deep)
    assert pair.predict().shape == (2, 4, 2)
    assert pair.score(deep) > 0.8
    search = GridSearchCV(forecaster, {"window": [6, 12]}, cv=3)
    assert search.fit(many).best_params_["window"] in (6, 12)


def test_features_that_are_known_in_advance() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(300)
    y = np.concatenate([[0], 0.5 * x[:-1]]) + 2 * x  # only x tells what comes
    forecaster = RNNForecaster(horizon=2, window=4, **SMALL).fit(y[:280], X=x[:280])
    found = np.array([forecaster.predict(2, y=y[:t], X=x[: t + 2]) for t in range(280, 298, 2)]).reshape(-1)
    assert np.corrcoef(found, y[280:298])[0, 1] > 0.95
    assert np.abs(forecaster.predict(X=x[280:282]) - y[280:282]).max() < 1
    with pytest.raises(ValueError, match="known in advance"):
        forecaster.predict(2)
    with pytest.raises(ValueError, match="steps of 1 features"):
        forecaster.predict(2, X=x[:1])


def test_follows_a_drift_to_where_the_series_never_was() -> None:
    y = 0.3 * np.arange(240) + 3 * season()
    forecaster = RNNForecaster(horizon=6, window=18, **SMALL).fit(y[:200])
    assert forecaster.relative_
    with pytest.raises(ValueError, match="relative=False"):
        forecaster.stream()
    errors = [np.abs(forecaster.predict(6, y=y[:t]) - y[t : t + 6]).mean() for t in range(200, 234, 6)]
    levels = RNNForecaster(horizon=6, window=18, **SMALL, relative=False).fit(y[:200])
    worse = [np.abs(levels.predict(6, y=y[:t]) - y[t : t + 6]).mean() for t in range(200, 234, 6)]
    assert np.mean(errors) < 1.2
    assert np.mean(errors) < 0.7 * np.mean(worse)


def test_bands() -> None:
    y = season(600, noise=0.3)
    for loss in ("gaussian", "quantile"):
        forecaster = RNNForecaster(
            horizon=3, window=12, **SMALL, loss=loss, early_stopping=True, max_epochs=60
        )
        forecaster.fit(y[:450])
        inside = []
        for t in range(450, 597, 3):
            low, middle, high = forecaster.predict_quantiles(quantiles=(0.1, 0.5, 0.9), y=y[:t]).T
            assert np.all(low <= middle)
            assert np.all(middle <= high)
            inside += list((y[t : t + 3] >= low) & (y[t : t + 3] <= high))
        assert 0.68 < np.mean(inside) < 0.92, loss
        with pytest.raises(ValueError, match="at most 3"):
            forecaster.predict_quantiles(4)


def test_missing_steps_count_in_time_but_teach_nothing() -> None:
    y = season(noise=0.02)
    holes = y.copy()
    holes[np.random.default_rng(0).permutation(230)[:40]] = np.nan
    forecaster = RNNForecaster(horizon=3, window=18, **SMALL).fit(holes[:216])
    assert np.abs(forecaster.predict(3) - y[216:219]).max() < 0.4


def test_refusals() -> None:
    y = season(60)
    with pytest.raises(ValueError, match="by name"):
        RNNForecaster().fit(y, np.ones((60, 1)))
    with pytest.raises(ValueError, match="by name"):
        RNNForecaster().fit(np.stack([y, y]), np.ones((2, 60)))
    with pytest.raises(ValueError, match="at least 70 steps, 20 to read and 50"):
        RNNForecaster(horizon=50, window=20).fit(y)
    with pytest.raises(ValueError, match="horizon: expected a whole number"):
        RNNForecaster(horizon=0).fit(y)
    with pytest.raises(ValueError, match="held out"):
        RNNForecaster(horizon=21, window=20, early_stopping=True).fit(y)
    fitted = RNNForecaster(horizon=2, max_epochs=1, hidden_size=4).fit(y)
    with pytest.raises(ValueError, match="horizon: expected a whole number"):
        fitted.predict(-1)
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": y, "b": y}, index=pandas.date_range("2020-01-01", periods=60))
    with pytest.raises(ValueError, match="rows of this DataFrame are times"):
        RNNForecaster().fit(frame)
    assert RNNForecaster(max_epochs=1, hidden_size=4).fit(frame["a"]).predict().shape == (1,)
