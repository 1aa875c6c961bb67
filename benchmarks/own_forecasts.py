"""`RNNForecaster` on a series, beside simple forecasts and a linear one; see `own_data`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.benchmarks.selection import Settings, choose, grid
from lstm_numba.metrics import mae, mase, rmse
from lstm_numba.training.baselines import LastValue, RidgeForecast, SeasonalNaive
from lstm_numba.training.ridge import PENALTIES

Array = npt.NDArray[np.float64]

#: Share of a series that is for testing, at its end, and of the rest that is for validation, at its end.
TEST_SHARE = VALIDATION_SHARE = 0.2
#: What every recurrent forecaster is given.
FIXED: Settings = {
    "hidden_size": 32, "learning_rate": 0.005, "max_epochs": 200, "n_iter_no_change": 20, "dtype": "float32",
}  # fmt: skip
#: Windows that are tried, in seasons.
_SEASONS = (1, 2, 3)


class Series(NamedTuple):
    """What is forecast.

    Attributes
    ----------
    name, unit, about : str
    values : ndarray (T,)
        Without gaps.
    season : int
        Steps; of the forecast "as a season ago", and of the scale of the MASE.
    horizon : int
        Steps that are forecast from each origin.
    """

    name: str
    unit: str
    about: str
    values: Array
    season: int
    horizon: int


class Method(NamedTuple):
    """A way to forecast.

    Attributes
    ----------
    forecast : callable
        ``forecast(past, contexts, horizon, settings, seed)``: learns from the steps `past`, and answers
        (N, horizon) after each of the N series `contexts`, which begin as `past` does.
    candidates : list of dict
        Settings to choose from.
    random : bool
        Whether a seed changes anything.
    """

    forecast: Callable[[Array, list[Array], int, Mapping[str, Any], int], Array]
    candidates: list[Settings]
    random: bool = False


def _tails(contexts: Sequence[Array], window: int) -> Array:
    """The last steps of series, (N, window, 1)."""
    return np.stack([context[-window:] for context in contexts])[:, :, None]


def _last_value(past: Array, contexts: list[Array], horizon: int, settings: Any, seed: int) -> Array:
    return LastValue([0]).predict(_tails(contexts, 1), horizon)[:, :, 0]


def _season_ago(
    past: Array, contexts: list[Array], horizon: int, settings: Mapping[str, Any], seed: int
) -> Array:
    season = settings["season"]
    return SeasonalNaive([0], season).predict(_tails(contexts, season), horizon)[:, :, 0]


def _linear(
    past: Array, contexts: list[Array], horizon: int, settings: Mapping[str, Any], seed: int
) -> Array:
    """Ridge regression on a window, of levels or of differences from the window's last step."""
    window, penalty = settings["window"], settings["penalty"]
    ends = range(window, len(past) - horizon + 1)
    x = _tails([past[:end] for end in ends], window)
    y = np.stack([past[end : end + horizon] for end in ends])[:, :, None]
    asked = _tails(contexts, window)
    before, now = (part[:, -1:] if settings["relative"] else 0.0 for part in (x, asked))
    model = RidgeForecast(penalty).fit([(x - before, y - before)])
    return (model.predict(asked - now) + now)[:, :, 0]


def _recurrent(cell: str, fixed: Mapping[str, Any]) -> Callable[..., Array]:
    def forecast(
        past: Array, contexts: list[Array], horizon: int, settings: Mapping[str, Any], seed: int
    ) -> Array:
        from lstm_numba.estimators import RNNForecaster

        model = RNNForecaster(cell, horizon=horizon, random_state=seed, **fixed, **settings)
        return np.asarray(model.fit(past).predict(y=contexts), np.float64)

    return forecast


def methods(season: int, fixed: Mapping[str, Any] = FIXED) -> dict[str, Method]:
    """The forecasts that are compared, of a series with such a season."""
    windows = [season * count for count in _SEASONS]
    read: dict[str, Sequence[Any]] = {"window": windows, "relative": [False, True]}
    recurrent = grid(**read, early_stopping=[True, False])
    return {
        **{cell: Method(_recurrent(cell, fixed), recurrent, random=True) for cell in ("gru", "lstm")},
        "last value": Method(_last_value, [{}]),
        "season ago": Method(_season_ago, [{"season": season}]),
        "linear": Method(_linear, grid(**read, penalty=PENALTIES)),
    }


def _rolling(values: Array, first: int, last: int, horizon: int) -> tuple[list[Array], Array]:
    """What is known at each origin, and the (N, horizon) steps after it, within `first` to `last`."""
    ends = range(first, last - horizon + 1)
    return [values[:end] for end in ends], np.stack([values[end : end + horizon] for end in ends])


def measure(series: Series, ways: Mapping[str, Method], seeds: Sequence[int]) -> dict[str, Any]:
    """Choose each method's settings on the validation part, learn all before the test part, test once.

    Settings have the lowest mean absolute error, in the mean over the seeds, of forecasts from every step of
    the validation part, learnt from what is before it. The test is the same one part later.

    Parameters
    ----------
    series : Series
    ways : dict of Method
    seeds : sequence of int

    Returns
    -------
    dict
        ``name``, ``unit``, ``about``, ``steps``, ``validation_from`` and ``test_from`` (steps), ``season``,
        ``horizon``, ``origins`` of the test, and ``methods``: for each ``settings``, ``tried`` (see
        `lstm_numba.benchmarks.selection.choose`) and ``runs``, one for each seed: ``mae``, ``rmse``,
        ``mase``, ``mae_by_step`` (horizon,) and ``seconds`` to learn and forecast.
    """
    values, horizon = series.values, series.horizon
    test = round((1 - TEST_SHARE) * len(values))
    validation = round((1 - VALIDATION_SHARE) * test)
    contexts, wanted = _rolling(values, validation, test, horizon)
    asked, true = _rolling(values, test, len(values), horizon)
    found: dict[str, Any] = {}
    for name, way in ways.items():
        used = seeds if way.random else seeds[:1]

        def error(
            settings: Mapping[str, Any], way: Method = way, used: Sequence[int] = used
        ) -> tuple[float, ...]:
            past = values[:validation]
            errors = [mae(wanted, way.forecast(past, contexts, horizon, settings, seed)) for seed in used]
            return (float(np.mean(errors)),)

        settings, tried = choose(way.candidates, error)
        runs = []
        for seed in used:
            began = time.perf_counter()
            answer = way.forecast(values[:test], asked, horizon, settings, seed)
            seconds = time.perf_counter() - began
            runs.append({"seed": seed, **_measures(series, values[:test], true, answer), "seconds": seconds})
        found[name] = {"settings": settings, "tried": tried, "runs": runs}
        print(f"{series.name}, {name}: MAE {[round(run['mae'], 3) for run in runs]}, {settings}", flush=True)
    return {
        **{field: getattr(series, field) for field in ("name", "unit", "about", "season", "horizon")},
        "steps": len(values),
        "validation_from": validation,
        "test_from": test,
        "origins": len(true),
        "methods": found,
    }


def _measures(series: Series, past: Array, true: Array, answer: Array) -> dict[str, Any]:
    return {
        "mae": mae(true, answer),
        "rmse": rmse(true, answer),
        "mase": mase(true, answer, [past], series.season),
        "mae_by_step": [mae(true[:, step], answer[:, step]) for step in range(series.horizon)],
    }
