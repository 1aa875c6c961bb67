"""Simple predictions that a network has to beat: none of them needs more than seconds.

==================  ========================================================================
`LastValue`         a forecast: all goes on as it is
`SeasonalNaive`     a forecast: all is as it was a season ago; `guess_season` finds the season
`RidgeForecast`     linear, of numbers: see `lstm_numba.training.ridge`
`MeanValue`         of numbers: the mean in training
`Majority`          of classes: the most frequent one in training
`LogisticRidge`     linear, of classes: see `lstm_numba.training.logistic_ridge`
==================  ========================================================================

Windows are arrays x (N, T, F), of N samples, T steps and F columns, without missing values; targets are y
(N, H, M), H steps ahead, or (N, M). A missing target has the weight 0. All
results are the same in every run on a machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import integer, real_numbers
from lstm_numba.training.logistic_ridge import LogisticRidge, checked_labels, sequence_features
from lstm_numba.training.ridge import Batch, RidgeForecast, numbers, targets_of

__all__ = [
    "LastValue",
    "LogisticRidge",
    "Majority",
    "MeanValue",
    "RidgeForecast",
    "SeasonalNaive",
    "guess_season",
    "sequence_features",
]

Array = npt.NDArray[np.float64]

# A season is believed where the series is at least so much like itself a season ago ...
_LIKENESS = 0.5
# ... at least so many standard errors of numbers that are not alike ...
_ERRORS = 3.0
# ... as alike two seasons ago, but for this share ...
_LASTING = 0.8
# ... and so much less alike in between.
_DIP = 0.2
# Of likenesses that are equal but for this share, the shortest season is the season.
_AS_GOOD = 0.9
#: Seasons that a series must at least have.
_SEASONS = 3


def _columns(columns: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.array([integer("target_columns", column, 0) for column in columns], dtype=np.int64)


def _target_steps(x: npt.ArrayLike, columns: npt.NDArray[np.int64], horizon: int) -> tuple[Array, int]:
    """The target columns of windows (N, T, M), and the checked horizon."""
    window = numbers("x", x, (3,))
    if not window.shape[1]:
        raise ValueError("x: expected windows of at least one step, got none")
    if not len(columns) or columns.max() >= window.shape[2]:
        raise ValueError(
            f"target_columns: expected some of 0 to {window.shape[2] - 1}, got {columns.tolist()}"
        )
    return window[:, :, columns], integer("horizon", horizon)


class LastValue:
    """Forecast that the targets stay as they are at the end of the window; there is nothing to fit.

    Parameters
    ----------
    target_columns : sequence of int
        Where the M targets are among the F columns of a window.

    Raises
    ------
    ValueError, TypeError
        A column that is no integer >= 0.
    """

    def __init__(self, target_columns: Sequence[int]) -> None:
        self._columns = _columns(target_columns)

    def predict(self, x: npt.ArrayLike, horizon: int) -> Array:
        """Forecast.

        Parameters
        ----------
        x : array_like (N, T, F)
        horizon : int
            H, how many steps ahead.

        Returns
        -------
        ndarray (N, H, M), float64

        Raises
        ------
        ValueError, TypeError
            Windows of another shape or without the columns, numbers that are not finite, a horizon below 1.
        """
        steps, horizon = _target_steps(x, self._columns, horizon)
        return np.repeat(steps[:, -1:], horizon, axis=1)


class SeasonalNaive:
    """Forecast that the targets are as they were a season ago; there is nothing to fit.

    Parameters
    ----------
    target_columns : sequence of int
        Where the M targets are among the F columns of a window.
    season : int
        Steps, no more than a window has.

    Raises
    ------
    ValueError, TypeError
        A column that is no integer >= 0, a season that is none >= 1.
    """

    def __init__(self, target_columns: Sequence[int], season: int) -> None:
        self._columns = _columns(target_columns)
        self._season = integer("season", season)

    def predict(self, x: npt.ArrayLike, horizon: int) -> Array:
        """Forecast; beyond a season the same one again.

        Parameters, result and errors are those of `LastValue.predict`; windows must be as long as a season.
        """
        steps, horizon = _target_steps(x, self._columns, horizon)
        if self._season > steps.shape[1]:
            raise ValueError(
                f"x: expected windows of at least a season, {self._season} steps, got {steps.shape[1]}"
            )
        first = steps.shape[1] - self._season
        return steps[:, first + np.arange(horizon) % self._season]


class MeanValue:
    """Predict the mean of each target in training."""

    def __init__(self) -> None:
        self._mean: Array | None = None

    def fit(self, batches: Iterable[Batch]) -> MeanValue:
        """Learn the means.

        Parameters
        ----------
        batches : iterable of tuple
            As in `RidgeForecast.fit`.

        Returns
        -------
        MeanValue
            This object.

        Raises
        ------
        ValueError, TypeError
            No target with a weight above 0, shapes that differ, numbers that are not finite.
        """
        total: Array | None = None
        weight, shape = np.zeros(0), ()
        for batch in batches:
            y, weights = targets_of(batch)
            if total is None:
                shape = np.shape(batch[1])[1:]
                total, weight = np.zeros(y.shape[1]), np.zeros(y.shape[1])
            if np.shape(batch[1])[1:] != shape:
                raise ValueError(f"y: expected targets of shape {shape}, got {np.shape(batch[1])[1:]}")
            total += np.sum(weights * y, axis=0)
            weight += np.sum(weights, axis=0)
        if total is None or not (weight > 0).all():
            raise ValueError("batches: expected at least one target of each kind, got none")
        self._mean = (total / weight).reshape(shape)
        return self

    def predict(self, x: npt.ArrayLike) -> Array:
        """Means for N windows or sequences: (N, H, M) or (N, M); a ValueError if `fit` was not called."""
        if self._mean is None:
            raise ValueError("predict: expected fit to be called first")
        return np.broadcast_to(self._mean, (len(np.asarray(x)), *self._mean.shape)).copy()


class Majority:
    """Predict the most frequent class in training, the first of equals.

    Parameters
    ----------
    classes : int
        How many.

    Raises
    ------
    ValueError, TypeError
        No integer of at least 1.
    """

    def __init__(self, classes: int) -> None:
        self.classes = integer("classes", classes)
        self._shares: Array | None = None

    def fit(self, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Majority:
        """Learn the shares of the classes.

        Parameters
        ----------
        labels : array_like of int (N,)
            From 0.
        weights : array_like (N,), optional
            Weights >= 0, by default 1.

        Returns
        -------
        Majority
            This object.

        Raises
        ------
        ValueError, TypeError
            Other shapes, labels that are no classes, no label with a weight above 0.
        """
        truth, weight = checked_labels(labels, self.classes, weights)
        self._shares = np.bincount(truth, weight, self.classes) / np.sum(weight)
        return self

    def probabilities(self, x: npt.ArrayLike) -> Array:
        """The classes' shares in training, for each of N sequences: (N, classes)."""
        if self._shares is None:
            raise ValueError("predict: expected fit to be called first")
        return np.tile(self._shares, (len(np.asarray(x)), 1))

    def predict(self, x: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The most frequent class, for each of N sequences: (N,)."""
        return np.argmax(self.probabilities(x), axis=1).astype(np.int64)


def guess_season(series: Sequence[npt.ArrayLike]) -> int | None:
    """Guess the season of series, or none where nothing is convincing.

    A straight line is taken out of each column of each series. Then the correlation of a step with that k
    steps before is taken, the mean over all columns, weighted by the number of pairs. A season is a k >= 2
    where this

    * is a local maximum, at least 0.5, and at least 3 / √pairs, three standard errors of unlike numbers,
    * is at least 0.2 above its lowest value before,
    * is at 2 k still 0.8 of that (a tenth of k away at most), which a passing oscillation is not,
    * and series have at least 3 k steps.

    Of those that are at least 0.9 of the highest one, the shortest is taken, as multiples of a season are
    alike.

    Parameters
    ----------
    series : sequence of array_like, each (T,) or (T, M)
        For training, time first; NaN is left out.

    Returns
    -------
    int or None
        Steps.

    Raises
    ------
    ValueError, TypeError
        Series of another shape.
    """
    likeness, pairs = _autocorrelation(series)
    steps = np.arange(2, (len(likeness) - 1) // _SEASONS + 1)
    here, before = likeness[steps], np.minimum.accumulate(likeness)[steps - 1]
    peak = (likeness[steps - 1] < here) & (here >= likeness[steps + 1])
    sure = here >= np.maximum(_LIKENESS, _ERRORS / np.sqrt(np.maximum(pairs[steps], 1.0)))
    found = {}
    for k in steps[peak & sure & (before <= here - _DIP)].tolist():
        if np.max(likeness[2 * k - k // 10 : 2 * k + k // 10 + 1]) >= _LASTING * likeness[k]:
            found[k] = likeness[k]
    good = [k for k, value in found.items() if value >= _AS_GOOD * max(found.values())]
    return min(good, default=None)


def _autocorrelation(series: Sequence[npt.ArrayLike]) -> tuple[Array, Array]:
    """Correlation of steps by their distance, up to the longest series' length, and the number of pairs."""
    several = [real_numbers(f"series[{k}]", values).astype(np.float64) for k, values in enumerate(series)]
    for number, values in enumerate(several):
        if values.ndim not in (1, 2):
            raise ValueError(f"series[{number}]: expected shape (T,) or (T, M), got {values.shape}")
    longest = max((len(values) for values in several), default=0)
    products, pairs = np.zeros(longest + 1), np.zeros(longest + 1)
    for values in several:
        for column in np.atleast_2d(values.T):
            rest, given = _without_line(column)
            if rest.any():
                unit = np.sqrt(np.sum(rest**2) / np.sum(given))
                products[: len(rest) + 1] += _lagged(rest / unit)
                pairs[: len(rest) + 1] += np.rint(_lagged(given.astype(np.float64)))
    return products / np.maximum(pairs, 1.0), pairs


def _without_line(column: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """What differs from the straight line of least squares, 0 where nothing is given, and where it is."""
    given = np.isfinite(column)
    rest = np.zeros(len(column))
    if np.sum(given) > 2:
        line = np.stack([np.ones(len(column)), np.linspace(-1.0, 1.0, len(column))], axis=1)
        centred = column[given] - np.mean(column[given])
        best = np.linalg.lstsq(line[given], centred, rcond=None)[0]
        rest[given] = centred - line[given] @ best
        # What rounding leaves of a straight line is nothing.
        if np.max(np.abs(rest)) <= 1e-10 * np.max(np.abs(column[given])):
            rest[:] = 0.0
    return rest, given


def _lagged(values: Array) -> Array:
    """Sums of products of values k steps apart, for k from 0 to their number."""
    size = 1 << (2 * len(values)).bit_length()
    spectrum = np.fft.rfft(values, size)
    answer: Array = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, size)[: len(values) + 1]
    return answer
