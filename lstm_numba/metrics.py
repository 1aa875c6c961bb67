"""Measures of how good predictions are: of numbers, of quantiles and intervals, of classes.

NaN in the true numbers means that a value is missing: it is left out. A prediction that is no finite number,
where there is a true one, is an error, as are true numbers that are infinite. Where nothing is left to
measure, a ValueError says so; none of the functions returns NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import integer, integers, real_numbers, refuse_mask

Array = npt.NDArray[np.float64]


def _numbers(name: str, value: Any) -> Array:
    return real_numbers(name, value).astype(np.float64)


def _same_shape(name: str, array: npt.NDArray[Any], expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        raise ValueError(f"{name}: expected shape {expected} as of the true values, got {array.shape}")


def _given(truth: Array) -> npt.NDArray[np.bool_]:
    """Where a true value is given."""
    given = ~np.isnan(truth)
    if not given.any():
        raise ValueError(f"true: expected at least one value, got {truth.size}, all missing")
    if np.isinf(truth).any():
        raise ValueError("true: expected finite numbers or NaN, got an infinite one")
    return given


def _finite(name: str, array: Array) -> Array:
    if not np.isfinite(array).all():
        bad = array[~np.isfinite(array)][0]
        raise ValueError(f"{name}: expected finite numbers, got {bad}")
    return array


def _pairs(true: Any, predicted: Any) -> tuple[Array, Array]:
    """True and predicted numbers without the missing, each of shape (n,), n > 0."""
    truth, guess = _numbers("true", true), _numbers("predicted", predicted)
    _same_shape("predicted", guess, truth.shape)
    given = _given(truth)
    return truth[given], _finite("predicted", guess[given])


def mae(true: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Mean absolute error, in the unit of the numbers.

    Parameters
    ----------
    true, predicted : array_like
        Of one shape; NaN in `true` is left out.

    Raises
    ------
    ValueError, TypeError
        See `lstm_numba.metrics`.
    """
    truth, guess = _pairs(true, predicted)
    return float(np.mean(np.abs(guess - truth)))


def rmse(true: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Root mean square error, in the unit of the numbers.

    Parameters and errors are those of `mae`.
    """
    truth, guess = _pairs(true, predicted)
    return float(np.sqrt(np.mean((guess - truth) ** 2)))


def mase(
    true: npt.ArrayLike, predicted: npt.ArrayLike, training: Sequence[npt.ArrayLike], season: int = 1
) -> float:
    """Mean absolute scaled error: below 1 is better than the naive forecast was on the training series.

    The mean absolute error over that of the forecast "as a season ago" within the training series, of all of
    them together.

    Parameters
    ----------
    true, predicted : array_like
        Of one shape; NaN in `true` is left out.
    training : sequence of array_like, each (T,) or (T, M)
        The series that the model learned from, time first. Pairs a season apart of which one is NaN are left
        out.
    season : int
        Steps; 1 is the forecast "as the last value".

    Raises
    ------
    ValueError, TypeError
        See `lstm_numba.metrics`; no training series is longer than a season; they repeat exactly, so that the
        scale is 0.

    References
    ----------
    Hyndman, Koehler: Another look at measures of forecast accuracy. International Journal of Forecasting 22
    (2006).
    """
    season = integer("season", season)
    total, count = 0.0, 0
    for number, series in enumerate(training):
        values = _numbers(f"training[{number}]", series)
        if values.ndim not in (1, 2):
            raise ValueError(f"training[{number}]: expected shape (T,) or (T, M), got {values.shape}")
        steps = np.abs(values[season:] - values[:-season])
        steps = _finite(f"training[{number}]", steps[~np.isnan(steps)])
        total += float(np.sum(steps))
        count += steps.size
    if not count:
        raise ValueError(f"training: expected values that are {season} steps apart, got none")
    if not total:
        raise ValueError(f"training: repeats exactly after {season} steps, so that there is no scale")
    return mae(true, predicted) / (total / count)


def nse(true: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Nash-Sutcliffe efficiency, for streamflow: 1 is perfect, 0 as good as the mean of the true values.

    One minus the sum of squared errors over the sum of squared deviations from the mean of `true`. The mean
    is that of all values: call it once for each gauge.

    Parameters and errors are those of `mae`; `true` must not be constant.

    References
    ----------
    Nash, Sutcliffe: River flow forecasting through conceptual models, part I. Journal of Hydrology 10 (1970).
    """
    truth, guess = _pairs(true, predicted)
    if np.ptp(truth) == 0:
        raise ValueError(f"true: expected values that vary, got {truth[0]:g} only")
    return float(1.0 - np.sum((guess - truth) ** 2) / np.sum((truth - np.mean(truth)) ** 2))


def pinball(true: npt.ArrayLike, quantile_predictions: npt.ArrayLike, quantiles: Sequence[float]) -> float:
    """Mean pinball loss of predicted quantiles, in the unit of the numbers; half the `mae` for a median.

    For the quantile q and the error e = true - predicted it is q e where e >= 0, and (q - 1) e elsewhere.

    Parameters
    ----------
    true : array_like
        NaN is left out.
    quantile_predictions : array_like, shape of `true` and (Q,)
    quantiles : sequence of float (Q,)
        Each above 0 and below 1.

    Raises
    ------
    ValueError, TypeError
        See `lstm_numba.metrics`; `quantiles` are no such numbers.

    References
    ----------
    Koenker, Bassett: Regression quantiles. Econometrica 46 (1978).
    """
    truth = _numbers("true", true)
    guess, levels = _numbers("quantile_predictions", quantile_predictions), _numbers("quantiles", quantiles)
    if levels.ndim != 1 or not levels.size or not np.all((levels > 0) & (levels < 1)):
        raise ValueError(f"quantiles: expected numbers above 0 and below 1, got {quantiles!r}")
    _same_shape_and_more(guess, truth.shape, levels.size)
    given = _given(truth)
    error = truth[given][:, None] - _finite("quantile_predictions", guess[given])
    return float(np.mean(np.maximum(levels * error, (levels - 1.0) * error)))


def _same_shape_and_more(guess: Array, shape: tuple[int, ...], count: int) -> None:
    if guess.shape != (*shape, count):
        raise ValueError(
            f"quantile_predictions: expected shape {(*shape, count)}, that of the true values and the "
            f"{count} quantiles, got {guess.shape}"
        )


def coverage(true: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike) -> float:
    """Share of true values within their intervals, ends included.

    Parameters
    ----------
    true, low, high : array_like
        Of one shape; NaN in `true` is left out. An interval whose `low` is above its `high` holds nothing.

    Raises
    ------
    ValueError, TypeError
        See `lstm_numba.metrics`.
    """
    truth = _numbers("true", true)
    bounds = {"low": _numbers("low", low), "high": _numbers("high", high)}
    for name, bound in bounds.items():
        _same_shape(name, bound, truth.shape)
    given = _given(truth)
    lowest, highest = (_finite(name, bound[given]) for name, bound in bounds.items())
    return float(np.mean((lowest <= truth[given]) & (truth[given] <= highest)))


def accuracy(true: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Share of labels that are predicted.

    Parameters
    ----------
    true, predicted : array_like of int or str
        Of one shape.

    Raises
    ------
    ValueError, TypeError
        Other shapes, no labels, or labels that are neither integers nor text.
    """
    truth, guess = _labels(true, predicted)
    return float(np.mean(truth == guess))


def _labels(true: Any, predicted: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    for name, value in (("true", true), ("predicted", predicted)):
        refuse_mask(name, value)
        if np.asarray(value).size and np.asarray(value).dtype.kind not in "iubU":
            raise TypeError(f"{name}: expected integers or text, got {np.asarray(value).dtype}")
    truth, guess = np.asarray(true), np.asarray(predicted)
    _same_shape("predicted", guess, truth.shape)
    if not truth.size:
        raise ValueError("true: expected at least one label, got none")
    if (truth.dtype.kind == "U") != (guess.dtype.kind == "U"):
        raise TypeError(f"predicted: expected labels as the true ones, {truth.dtype}, got {guess.dtype}")
    return truth.ravel(), guess.ravel()


def macro_f1(true: npt.ArrayLike, predicted: npt.ArrayLike, classes: int | Sequence[Any]) -> float:
    """Mean of the classes' F1, the harmonic mean of precision and recall.

    F1 of a class is ``2 hits / (true ones + predicted ones)``. A class that is neither among the true nor
    among the predicted labels does not count; one that is among one of them only counts with F1 = 0.

    Parameters
    ----------
    true, predicted : array_like of int or str
        Of one shape.
    classes : int or sequence
        Number of classes, whose labels are 0, 1, ...; or their labels.

    Raises
    ------
    ValueError, TypeError
        As `accuracy`; a label that is not one of `classes`.
    """
    truth, guess = _labels(true, predicted)
    known: Sequence[Any] = classes if isinstance(classes, Sequence) else range(integer("classes", classes))
    for name, labels in (("true", truth), ("predicted", guess)):
        foreign = labels[~np.isin(labels, np.asarray(known))]
        if foreign.size:
            raise ValueError(f"{name}: expected labels out of {known}, got {foreign[0]!r}")
    scores = []
    for label in known:
        members = int(np.sum(truth == label) + np.sum(guess == label))
        if members:
            scores.append(2.0 * np.sum((truth == label) & (guess == label)) / members)
    return float(np.mean(scores))


def roc_auc(true: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Area under the receiver operating characteristic; 0.5 is chance.

    It is the probability that a random member of a class is given a higher probability of it than a random
    other one, ties counted as a half. Of two classes it is that of class 1. Of several it is the mean over
    the classes, each against all others; classes without members do not count.

    Parameters
    ----------
    true : array_like (N,), int
        Labels from 0.
    probabilities : array_like (N,) or (N, K)
        Of class 1, or of each of the K classes; K = 2 is read as the column of class 1. Any scores that order
        the samples will do.

    Raises
    ------
    ValueError, TypeError
        Other shapes, labels that are no classes, or all of one class; scores that are not finite.

    References
    ----------
    Hanley, McNeil: The meaning and use of the area under a receiver operating characteristic (ROC) curve.
    Radiology 143 (1982).
    """
    truth, scores = integers("true", true), _finite("probabilities", _numbers("probabilities", probabilities))
    if truth.ndim != 1 or scores.ndim not in (1, 2) or len(scores) != len(truth):
        raise ValueError(
            "true, probabilities: expected shapes (N,) and (N,) or (N, K), "
            f"got {truth.shape} and {scores.shape}"
        )
    count = 2 if scores.ndim == 1 else scores.shape[1]
    if count < 2:
        raise ValueError("probabilities: expected two or more classes, got 1 column")
    if truth.size and not (truth.min() >= 0 and truth.max() < count):
        raise ValueError(f"true: expected labels 0 to {count - 1}, got {truth.min()} to {truth.max()}")
    occurring = np.unique(truth)
    if len(occurring) < 2:
        raise ValueError(f"true: expected labels of two or more classes, got {len(occurring)}")
    if count == 2:
        return _area(truth == 1, scores if scores.ndim == 1 else scores[:, 1])
    return float(np.mean([_area(truth == label, scores[:, label]) for label in occurring]))


def _area(member: npt.NDArray[np.bool_], scores: Array) -> float:
    """Mann-Whitney's U over its largest value."""
    _, which, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # Equal scores share the mean of their ranks, which are counted from 1.
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[which.ravel()]
    inside = int(np.sum(member))
    u = np.sum(ranks[member]) - inside * (inside + 1) / 2.0
    return float(u / (inside * (len(member) - inside)))
