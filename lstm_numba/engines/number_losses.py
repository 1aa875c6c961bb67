"""Losses of predicted numbers: value and derivatives for one prediction.

Undecorated scalar functions, which each engine compiles into its loop, in float64. A loss has one or more
numbers for each target: a quantile loss one a level, a Gaussian one the mean and the logarithm of the
variance.

Sources: P. J. Huber, "Robust estimation of a location parameter" (1964); R. Koenker, G. Bassett, "Regression
quantiles" (1978); D. A. Nix, A. S. Weigend, "Estimating the mean and variance of the target probability
distribution" (1994).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import real_numbers

Array = npt.NDArray[Any]

SQUARED, ABSOLUTE, HUBER, QUANTILE, GAUSSIAN = range(5)
_KINDS = {"mse": SQUARED, "mae": ABSOLUTE, "huber": HUBER, "quantile": QUANTILE, "gaussian": GAUSSIAN}
#: The names by which users choose a loss.
NUMBER_LOSSES = tuple(_KINDS)
#: Levels of a quantile loss where none are given: an 80 % band around the median.
DEFAULT_QUANTILES = (0.1, 0.5, 0.9)
#: Smallest variance of a Gaussian, of targets of variance about one: with none its loss has no lower bound.
_SMALLEST_VARIANCE = 1e-6
_LOG_2_PI = math.log(2 * math.pi)


class NumberLoss(NamedTuple):
    """A loss of predicted numbers, for the engines.

    Attributes
    ----------
    kind : int
        `SQUARED` and so on.
    levels : tuple of float
        One for each number that predicts a target: the levels of quantiles; Huber's threshold; else anything.
    """

    kind: int
    levels: tuple[float, ...]

    @property
    def width(self) -> int:
        """Numbers that predict one target, P."""
        return len(self.levels)


def number_loss(name: str, quantiles: Sequence[float] = DEFAULT_QUANTILES, delta: float = 1.0) -> NumberLoss:
    """A loss by its name.

    Parameters
    ----------
    name : {"mse", "mae", "huber", "quantile", "gaussian"}
        Squared error; absolute error; Huber's, quadratic up to `delta`; the pinball loss, averaged over
        `quantiles`; negative log-likelihood under a Gaussian whose mean and log-variance are predicted.
    quantiles : sequence of float
        Ascending, between 0 and 1.
    delta : float

    Raises
    ------
    ValueError
        There is no such loss, or a level is out of range.
    """
    if name not in _KINDS:
        raise ValueError(f"loss: expected one of {', '.join(_KINDS)}, got {name!r}")
    kind = _KINDS[name]
    if kind == QUANTILE:
        levels = tuple(float(level) for level in quantiles)
        ascending = all(a < b for a, b in itertools.pairwise(levels))
        if not levels or not ascending or not all(0 < level < 1 for level in levels):
            raise ValueError(f"quantiles: expected ascending numbers between 0 and 1, got {quantiles}")
        return NumberLoss(kind, levels)
    if not 0 < delta < math.inf:
        raise ValueError(f"delta: expected a positive number, got {delta}")
    return NumberLoss(kind, (float(delta),) * (2 if kind == GAUSSIAN else 1))


def single(kind: Any, difference: Any, level: Any) -> Any:
    """Loss and derivative of one number, of its difference from the target; not of a Gaussian."""
    if kind == SQUARED or difference != difference:  # NaN must stay visible
        return difference * difference, 2.0 * difference
    if kind == QUANTILE:
        slope = 1.0 - level if difference > 0.0 else -level
        return slope * difference, slope
    sign = 1.0 if difference > 0.0 else (-1.0 if difference < 0.0 else 0.0)
    size = sign * difference
    if kind == HUBER:
        if size <= level:
            return 0.5 * difference * difference, difference
        return level * (size - 0.5 * level), level * sign
    return size, sign


def gaussian(difference: Any, log_variance: Any) -> Any:
    """Loss and derivatives for the mean, of its difference from the target, and for the log-variance."""
    moving = math.exp(log_variance)
    variance = moving + _SMALLEST_VARIANCE
    scaled = difference / variance
    loss = 0.5 * (_LOG_2_PI + math.log(variance) + difference * scaled)
    return loss, scaled, 0.5 * moving * (1.0 - difference * scaled) / variance


def variance(log_variance: Array) -> Array:
    """The variance that `gaussian` takes."""
    return np.exp(log_variance) + _SMALLEST_VARIANCE


def check_number_targets(targets: Any, weights: Any) -> tuple[Array, Array]:
    """Targets (N, M) and their weights (N, M) as float64, ones by default.

    Raises
    ------
    ValueError, TypeError
        A shape does not fit, a weight is negative, or a target of positive weight is not finite.
    """
    numbers = real_numbers("targets", targets).astype(np.float64, copy=False)
    if numbers.ndim != 2:
        raise ValueError(f"targets: expected shape (N, M), got {numbers.shape}")
    if weights is None:
        found = np.ones(numbers.shape)
    else:
        found = real_numbers("weights", weights).astype(np.float64, copy=False)
        if found.shape not in (numbers.shape, (len(numbers),)):
            raise ValueError(f"weights: expected shape (N,) or {numbers.shape}, got {found.shape}")
        found = np.ascontiguousarray(np.broadcast_to(found.reshape(len(numbers), -1), numbers.shape))
        if not np.all(found >= 0) or not np.all(np.isfinite(found)):
            raise ValueError("weights: expected finite numbers that are not negative")
    if not np.all(np.isfinite(numbers) | (found == 0)):
        raise ValueError("targets: expected finite numbers where the weight is positive")
    return np.ascontiguousarray(numbers), found
