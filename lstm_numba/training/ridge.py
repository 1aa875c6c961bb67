"""Linear forecasts by ridge regression, from batches of windows that need never be in memory together.

With the numbers of a window as the vector x, its mean m and its spread per number s, a target is predicted as
``b + Σ_j w_j (x_j - m_j) / s_j``. The weights minimise the mean squared error on the training windows, in
units of the target's variance, plus ``penalty * Σ_j w_j^2``; the bias is not penalised (Hoerl, Kennard:
Ridge regression. Technometrics 12, 1970). All that has to be known of the windows are the sums of x, of its
products and of those with the targets, which are added up batch by batch; the weights then follow from the
normal equations.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from lstm_numba.arguments import non_negative, real_numbers

Array = npt.NDArray[np.float64]
#: Windows and targets, with or without the targets' weights.
Batch = tuple[Any, ...]

#: Penalties that are tried where none is given.
PENALTIES = (1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0)

#: Memory in bytes for the products of windows whose targets are missing in part.
_OWN_PRODUCTS = 1 << 28
#: Most numbers of a window: their products take half a gigabyte.
_LONGEST = 8192
_CHUNK = 1024


def numbers(name: str, value: Any, axes: tuple[int, ...]) -> Array:
    """An array of finite real numbers with one of these numbers of axes, as float64.

    Raises
    ------
    ValueError, TypeError
        Anything else; the message gives the name.
    """
    array = real_numbers(name, value).astype(np.float64)
    if array.ndim not in axes:
        expected = " or ".join(str(count) for count in axes)
        raise ValueError(f"{name}: expected {expected} axes, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, got {array[~np.isfinite(array)][0]}")
    return array


def descending(penalty: float | Sequence[float]) -> list[float]:
    """One or several penalties, the largest first; a ValueError if one is negative or not finite, or none."""
    values = penalty if isinstance(penalty, Sequence) else (penalty,)
    if not values:
        raise ValueError("penalty: expected at least one number, got none")
    return sorted((non_negative("penalty", value) for value in values), reverse=True)


def targets_of(batch: Batch) -> tuple[Array, Array]:
    """Targets and weights of a batch, each (N, O); what is missing has the target and the weight 0.

    Raises
    ------
    ValueError, TypeError
        Weights that are negative or of another shape; targets that are not finite where their weight is
        above 0.
    """
    targets = real_numbers("y", batch[1]).astype(np.float64)
    if targets.ndim < 2:
        raise ValueError(f"y: expected shape (N, H, M) or (N, M), got {targets.shape}")
    if len(batch) < 3 or batch[2] is None:
        weights = np.ones(targets.shape)
    else:
        weights = numbers("weights", batch[2], tuple(range(1, targets.ndim + 1)))
        missing_axes = (1,) * (targets.ndim - weights.ndim)
        if weights.shape != targets.shape[: weights.ndim]:
            raise ValueError(f"weights: expected shape {targets.shape} or its beginning, got {weights.shape}")
        weights = np.broadcast_to(weights.reshape(weights.shape + missing_axes), targets.shape)
    if (weights < 0).any():
        raise ValueError(f"weights: expected none below 0, got {weights.min()}")
    targets = np.where(weights > 0, targets, 0.0)
    numbers("y", targets, (targets.ndim,))
    return targets.reshape(len(targets), -1), weights.reshape(len(targets), -1)


class _Products:
    """Weighted sums over windows: of 1, x, x x^T."""

    def __init__(self, inputs: int) -> None:
        self.weight = 0.0
        self.sum = np.zeros(inputs)
        self.products = np.zeros((inputs, inputs))

    def add(self, x: Array, weights: Array) -> None:
        weighted = x * weights[:, None]
        self.weight += float(np.sum(weights))
        self.sum += np.sum(weighted, axis=0)
        self.products += weighted.T @ x


class _Sums:
    """What the normal equations need of all training windows.

    Where a window's targets all have one weight, as they mostly do, its products serve all targets; where
    not, each target that is given has products of its own.
    """

    def __init__(self, x: Array, outputs: int) -> None:
        inputs = x.shape[1]
        if inputs > _LONGEST:
            raise ValueError(f"x: expected at most {_LONGEST} numbers a window, got {inputs}")
        # Numbers near zero keep their digits in sums of squares; the first batch tells what is near.
        self.origin = np.mean(x, axis=0)
        spread = np.std(x, axis=0)
        self.unit = np.where(spread > 0, spread, 1.0)
        self.common = _Products(inputs)
        self.own: dict[int, _Products] = {}
        self.room = outputs * inputs * inputs * 8 <= _OWN_PRODUCTS
        self.left_out = 0
        self.target_weight, self.target_sum = np.zeros(outputs), np.zeros(outputs)
        self.target_square, self.cross = np.zeros(outputs), np.zeros((inputs, outputs))
        self.target_origin: Array | None = None

    def add(self, x: Array, y: Array, weights: Array) -> None:
        if x.shape[1] != len(self.origin) or y.shape[1] != len(self.target_sum):
            raise ValueError(
                f"batches: expected {len(self.origin)} numbers a window and {len(self.target_sum)} targets "
                f"as in the first, got {x.shape[1]} and {y.shape[1]}"
            )
        x = (x - self.origin) / self.unit
        if self.target_origin is None:
            total = np.sum(weights, axis=0)
            self.target_origin = np.sum(weights * y, axis=0) / np.where(total > 0, total, 1.0)
        y = y - self.target_origin
        whole = np.all(weights == weights[:, :1], axis=1)
        if not self.room:
            self.left_out += int(np.sum(~whole))
            x, y, weights = x[whole], y[whole], weights[whole]
            whole = whole[whole]
        self.common.add(x[whole], weights[whole, 0])
        if not whole.all():
            for k in range(y.shape[1]):
                rows = np.flatnonzero(~whole & (weights[:, k] > 0))
                if len(rows):
                    self.own.setdefault(k, _Products(x.shape[1])).add(x[rows], weights[rows, k])
        weighted = weights * y
        self.target_weight += np.sum(weights, axis=0)
        self.target_sum += np.sum(weighted, axis=0)
        self.target_square += np.sum(weighted * y, axis=0)
        self.cross += x.T @ weighted

    def equations(self) -> list[tuple[npt.NDArray[np.intp], _Products]]:
        """Targets (indices) with the products that belong to them."""
        outputs = len(self.target_sum)
        shared = np.array([k for k in range(outputs) if k not in self.own], dtype=np.intp)
        found = [(shared, self.common)] if len(shared) else []
        for k, own in self.own.items():
            both = _Products(len(self.origin))
            both.weight = self.common.weight + own.weight
            both.sum = self.common.sum + own.sum
            both.products = self.common.products + own.products
            found.append((np.array([k], dtype=np.intp), both))
        return found


class RidgeForecast:
    """Predict numbers as linear functions of a standardised window.

    It serves forecasts, windows (N, T, F) to targets (N, H, M), as well as regressions from sequences of one
    length or from features (`lstm_numba.training.logistic_ridge.sequence_features`) to targets (N, M).

    Parameters
    ----------
    penalty : float or sequence of float, optional
        One is used as it is; of several, by default `PENALTIES`, the one with the smallest error on the
        validation windows is chosen, the largest of equals. They are relative to the mean of squares of a
        standardised number.

    Attributes
    ----------
    chosen : float
        The penalty, after `fit`.
    left_out : int
        Training windows that were left out, after `fit`; see Notes.

    Raises
    ------
    ValueError
        A penalty that is negative or not finite, or none.

    Notes
    -----
    Targets of the weight 0 are left out. Where only some of a window's targets are, this takes a matrix of
    products for each target; where these would take more than 256 MiB, such windows are left out whole.
    """

    def __init__(self, penalty: float | Sequence[float] | None = None) -> None:
        self._penalties = descending(PENALTIES if penalty is None else penalty)
        self._coefficients: Array | None = None
        self._window: tuple[int, ...] = ()
        self._targets: tuple[int, ...] = ()

    def fit(self, batches: Iterable[Batch], validation: Iterable[Batch] | None = None) -> RidgeForecast:
        """Learn the coefficients.

        Parameters
        ----------
        batches : iterable of tuple
            Each ``(x, y)`` or ``(x, y, weights)``: windows (N, T, F) or features (N, P), targets (N, H, M)
            or (N, M), and weights >= 0 of the targets' shape or its beginning. It is read once.
        validation : iterable of tuple, optional
            The same; read once, if there are several penalties.

        Returns
        -------
        RidgeForecast
            This object.

        Raises
        ------
        ValueError, TypeError
            No window or no target with a weight; shapes that do not fit; numbers that are not finite; several
            penalties without validation windows; a penalty of 0 where the windows do not determine the
            coefficients.
        """
        if len(self._penalties) > 1 and validation is None:
            raise ValueError(
                f"validation: expected windows to choose out of {len(self._penalties)} penalties"
            )
        sums = self._collect(batches)
        self.left_out = sums.left_out
        candidates, spreads = _solve(sums, self._penalties)
        if len(self._penalties) == 1 or validation is None:
            best = 0
        else:
            best = int(np.argmin(self._errors(candidates, spreads, validation)))
        self.chosen, self._coefficients = self._penalties[best], candidates[best]
        return self

    def _collect(self, batches: Iterable[Batch]) -> _Sums:
        sums = None
        for batch in batches:
            x = numbers("x", batch[0], (2, 3))
            y, weights = targets_of(batch)
            if len(x) != len(y):
                raise ValueError(f"y: expected targets of {len(x)} windows, got {len(y)}")
            if not len(x):
                continue
            if sums is None:
                self._window, self._targets = x.shape[1:], np.shape(batch[1])[1:]
                sums = _Sums(x.reshape(len(x), -1), y.shape[1])
            sums.add(self._flat(x), y, weights)
        if sums is None:
            raise ValueError("batches: expected at least one window, got none")
        empty = np.flatnonzero(sums.target_weight == 0)
        if len(empty):
            raise ValueError(f"weights: expected some above 0 for each target, target {empty[0]} has none")
        return sums

    def _flat(self, x: Array) -> Array:
        if x.shape[1:] != self._window:
            raise ValueError(f"x: expected windows of shape {self._window}, got {x.shape[1:]}")
        return x.reshape(len(x), -1)

    def _errors(self, candidates: Array, spreads: Array, validation: Iterable[Batch]) -> Array:
        """Squared error of each penalty, in units of each target's variance in training."""
        errors, seen = np.zeros(len(candidates)), 0.0
        for batch in validation:
            flat = self._flat(numbers("x", batch[0], (2, 3)))
            y, weights = targets_of(batch)
            if y.shape != (len(flat), candidates.shape[2]):
                raise ValueError(
                    f"validation: expected targets {(len(flat), candidates.shape[2])}, got {y.shape}"
                )
            seen += float(np.sum(weights))
            for k, coefficients in enumerate(candidates):
                errors[k] += np.sum(weights * ((_apply(coefficients, flat) - y) / spreads) ** 2)
        if not seen:
            raise ValueError("validation: expected at least one target with a weight above 0, got none")
        return errors

    def predict(self, x: npt.ArrayLike) -> Array:
        """Predict the targets of windows.

        Parameters
        ----------
        x : array_like (N, T, F) or (N, P)
            As in `fit`.

        Returns
        -------
        ndarray (N, H, M) or (N, M), float64

        Raises
        ------
        ValueError, TypeError
            Windows of another shape, or `fit` was not called.
        """
        if self._coefficients is None:
            raise ValueError("predict: expected fit to be called first")
        flat = self._flat(numbers("x", x, (2, 3)))
        answer = np.empty((len(flat), self._coefficients.shape[1]))
        for first in range(0, len(flat), _CHUNK):
            rows = slice(first, first + _CHUNK)
            answer[rows] = _apply(self._coefficients, flat[rows])
        return answer.reshape(len(flat), *self._targets)


def _apply(coefficients: Array, flat: Array) -> Array:
    """Coefficients are (P + 1, O): of the window's numbers, then the bias."""
    answer: Array = flat @ coefficients[:-1] + coefficients[-1]
    return answer


def _solve(sums: _Sums, penalties: Sequence[float]) -> tuple[Array, Array]:
    """Coefficients (K, P + 1, O) of each penalty, and the targets' spreads (O,)."""
    inputs, outputs = sums.cross.shape
    assert sums.target_origin is not None
    answer = np.empty((len(penalties), inputs + 1, outputs))
    target_mean = sums.target_sum / sums.target_weight
    variance = sums.target_square / sums.target_weight - target_mean**2
    spreads = np.where(variance > 0, np.sqrt(np.maximum(variance, 0.0)), 1.0)
    for which, part in sums.equations():
        mean = part.sum / part.weight
        covariance = part.products / part.weight - np.outer(mean, mean)
        size = np.diag(covariance)
        # What is constant but for rounding has no say. The numbers are in units of their first spread.
        varies = size > 1e-12 * np.maximum(1.0, mean**2)
        scale = np.where(varies, np.sqrt(np.maximum(size, 0.0)), np.inf)
        correlation = covariance / scale[:, None] / scale
        correlation[np.diag_indices(inputs)] = np.where(varies, 1.0, 0.0)
        cross = sums.cross[:, which] / part.weight - np.outer(mean, target_mean[which])
        for k, penalty in enumerate(penalties):
            system = correlation + np.diag(np.where(varies, penalty, 1.0))
            weights = _cholesky(system, cross / scale[:, None], penalty) / scale[:, None]
            answer[k, :-1, which] = (weights / sums.unit[:, None]).T
            bias = target_mean[which] - mean @ weights + sums.target_origin[which]
            answer[k, -1, which] = bias - (sums.origin / sums.unit) @ weights
    return answer, spreads


def _cholesky(system: Array, right: Array, penalty: float) -> Array:
    try:
        solution: Array = cho_solve(cho_factor(system, lower=True), right)
    except np.linalg.LinAlgError:
        raise ValueError(
            f"penalty: expected more than {penalty:g}, the windows do not determine the coefficients"
        ) from None
    return solution
