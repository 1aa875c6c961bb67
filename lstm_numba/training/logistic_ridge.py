"""Classify sequences by multinomial logistic regression, on all their numbers or on a summary.

With the standardised features x of a sequence, class c has the probability ``exp(z_c) / Σ_k exp(z_k)``, where
``z = x W + b``. W and b minimise the mean cross-entropy plus ``penalty / 2 * Σ W^2`` (the bias is not
penalised), by L-BFGS from zero (Bishop: Pattern Recognition and Machine Learning, 2006, section 4.3.4). The
minimum is the only one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from lstm_numba.arguments import integer, integers
from lstm_numba.training.ridge import descending, numbers

Array = npt.NDArray[np.float64]

#: Penalties that are tried where none is given.
PENALTIES = (1e-4, 1e-3, 1e-2, 0.1, 1.0)


def checked_lengths(steps: Array, lengths: Any) -> npt.NDArray[np.int64]:
    """Lengths of sequences (N, T, F), by default T.

    Raises
    ------
    ValueError, TypeError
        Another number of lengths, or one that is not from 1 to T.
    """
    count, longest = steps.shape[:2]
    if lengths is None:
        return np.full(count, longest, dtype=np.int64)
    checked = integers("lengths", lengths)
    if checked.shape != (count,):
        raise ValueError(f"lengths: expected shape ({count},), got {checked.shape}")
    if count and not (checked.min() >= 1 and checked.max() <= longest):
        raise ValueError(f"lengths: expected 1 to {longest}, got {checked.min()} to {checked.max()}")
    return checked.astype(np.int64)


def sequence_features(x: npt.ArrayLike, lengths: npt.ArrayLike | None = None) -> Array:
    """Say of sequences of any length the same few numbers.

    Parameters
    ----------
    x : array_like (N, T, F)
        What lies behind a sequence's length does not matter, but has to be finite.
    lengths : array_like of int (N,), optional
        From 1 to T, by default T.

    Returns
    -------
    ndarray (N, 6 F + 1), float64
        F means, standard deviations (of the sequence as it is, ``ddof`` 0), smallest, largest, first and last
        values; then the length.

    Raises
    ------
    ValueError, TypeError
        Arrays of another shape, lengths out of range, numbers that are not finite.
    """
    steps = numbers("x", x, (3,))
    count = checked_lengths(steps, lengths)
    used = (np.arange(steps.shape[1]) < count[:, None])[:, :, None]
    mean = np.sum(np.where(used, steps, 0.0), axis=1) / count[:, None]
    squares = np.sum(np.where(used, (steps - mean[:, None]) ** 2, 0.0), axis=1)
    parts = [
        mean,
        np.sqrt(squares / count[:, None]),
        np.min(np.where(used, steps, np.inf), axis=1),
        np.max(np.where(used, steps, -np.inf), axis=1),
        steps[:, 0],
        steps[np.arange(len(steps)), count - 1],
        count[:, None].astype(np.float64),
    ]
    return np.concatenate(parts, axis=1)


def log_softmax(z: Array) -> Array:
    """Logarithms of the probabilities of each row."""
    shifted = z - np.max(z, axis=1, keepdims=True)
    answer: Array = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    return answer


def logistic_loss(
    coefficients: Array, features: Array, labels: npt.NDArray[np.int64], weights: Array, penalty: float
) -> tuple[float, Array]:
    """Mean cross-entropy in nats with the penalty, and its gradient.

    Parameters
    ----------
    coefficients : ndarray ((P + 1) K,)
        Of the P features, then the bias, for the K classes each.
    features : ndarray (N, P)
    labels : ndarray (N,), int
    weights : ndarray (N,)
        Their sum is 1.
    penalty : float

    Returns
    -------
    loss : float
    gradient : ndarray ((P + 1) K,)
    """
    both = coefficients.reshape(features.shape[1] + 1, -1)
    factors = both[:-1]
    logs = log_softmax(features @ factors + both[-1])
    rows = np.arange(len(labels))
    loss = -np.sum(weights * logs[rows, labels]) + 0.5 * penalty * np.sum(factors**2)
    error = np.exp(logs)
    error[rows, labels] -= 1.0
    error *= weights[:, None]
    gradient = np.concatenate([features.T @ error + penalty * factors, np.sum(error, axis=0)[None]])
    return float(loss), gradient.ravel()


def checked_labels(labels: Any, classes: int, weights: Any) -> tuple[npt.NDArray[np.int64], Array]:
    """Labels (N,) from 0 and weights (N,), by default 1; the label is 0 where the weight is.

    Raises
    ------
    ValueError, TypeError
        Other shapes, labels that are no classes, negative weights, none above 0.
    """
    truth = integers("labels", labels).astype(np.int64)
    if truth.ndim != 1:
        raise ValueError(f"labels: expected shape (N,), got {truth.shape}")
    weight = np.ones(truth.shape) if weights is None else numbers("weights", weights, (1,))
    if weight.shape != truth.shape:
        raise ValueError(f"weights: expected shape {truth.shape}, got {weight.shape}")
    if (weight < 0).any() or not weight.any():
        raise ValueError("weights: expected none below 0 and one above, of at least one label")
    truth = np.where(weight > 0, truth, 0)
    if truth.min() < 0 or truth.max() >= classes:
        raise ValueError(f"labels: expected 0 to {classes - 1}, got {truth.min()} to {truth.max()}")
    return truth, weight


class LogisticRidge:
    """Classify sequences by a linear model.

    Where all sequences in training have one length, the features are all their numbers, else those of
    `sequence_features`. Each is standardised by its mean and spread in training.

    Parameters
    ----------
    classes : int
        How many, at least 2.
    penalty : float or sequence of float, optional
        One is used as it is; of several, by default `PENALTIES`, the one with the smallest cross-entropy on
        the validation sequences is chosen, the largest of equals.
    summary : bool, optional
        Whether to use `sequence_features`; by default only where lengths differ.

    Attributes
    ----------
    chosen : float
        The penalty, after `fit`.

    Raises
    ------
    ValueError, TypeError
        `classes` is no integer of at least 2; a penalty that is negative or not finite, or none.
    """

    def __init__(
        self, classes: int, penalty: float | Sequence[float] | None = None, summary: bool | None = None
    ) -> None:
        self.classes = integer("classes", classes, 2)
        self._penalties = descending(PENALTIES if penalty is None else penalty)
        self._summary = summary
        self._coefficients: Array | None = None

    def fit(
        self,
        x: npt.ArrayLike,
        labels: npt.ArrayLike,
        lengths: npt.ArrayLike | None = None,
        weights: npt.ArrayLike | None = None,
        validation: tuple[Any, ...] | None = None,
    ) -> LogisticRidge:
        """Learn the coefficients.

        Parameters
        ----------
        x : array_like (N, T, F)
            What lies behind a sequence's length does not matter, but has to be finite.
        labels : array_like of int (N,)
            From 0.
        lengths : array_like of int (N,), optional
            From 1 to T, by default T.
        weights : array_like (N,), optional
            Weights >= 0 of the sequences, by default 1; 0 leaves one out.
        validation : tuple, optional
            ``(x, labels)``, ``(x, labels, lengths)`` or ``(x, labels, lengths, weights)``, to choose the
            penalty.

        Returns
        -------
        LogisticRidge
            This object.

        Raises
        ------
        ValueError, TypeError
            Shapes that do not fit, labels that are no classes, numbers that are not finite, no data; several
            penalties without validation sequences.
        """
        if len(self._penalties) > 1 and validation is None:
            raise ValueError(
                f"validation: expected sequences to choose out of {len(self._penalties)} penalties"
            )
        steps = numbers("x", x, (3,))
        truth, weight = checked_labels(labels, self.classes, weights)
        if len(truth) != len(steps):
            raise ValueError(f"labels: expected those of {len(steps)} sequences, got {len(truth)}")
        counts = checked_lengths(steps, lengths)
        self._short = bool(np.ptp(counts) > 0) if self._summary is None else self._summary
        self._window = (int(counts[0]), steps.shape[2])
        raw = self._raw(steps, counts)
        share = weight / np.sum(weight)
        self._mean = share @ raw
        spread = np.sqrt(share @ (raw - self._mean) ** 2)
        constant = spread <= 1e-12 * np.maximum(1.0, np.abs(self._mean))
        self._scale = np.where(constant, np.inf, spread)
        features = (raw - self._mean) / self._scale
        self._choose(features, truth, share, validation)
        return self

    def _choose(
        self, features: Array, truth: npt.NDArray[np.int64], share: Array, validation: tuple[Any, ...] | None
    ) -> None:
        smallest = np.inf
        start = np.zeros((features.shape[1] + 1) * self.classes)
        for penalty in self._penalties:
            # A smaller penalty starts where the larger one ended.
            start = minimize(
                logistic_loss,
                start,
                args=(features, truth, share, penalty),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": 1000, "maxfun": 2000, "gtol": 1e-7, "ftol": 1e-12},
            ).x
            found = start.reshape(-1, self.classes)
            if len(self._penalties) == 1 or validation is None:
                loss = 0.0
            else:
                loss = self._cross_entropy(found, *validation)
            if loss < smallest:
                smallest, self.chosen, self._coefficients = loss, penalty, found

    def _cross_entropy(
        self, coefficients: Array, x: Any, labels: Any, lengths: Any = None, weights: Any = None
    ) -> float:
        truth, weight = checked_labels(labels, self.classes, weights)
        logs = self._logs(coefficients, x, lengths)
        if len(logs) != len(truth):
            raise ValueError(f"validation: expected labels of {len(logs)} sequences, got {len(truth)}")
        return float(-np.sum(weight * logs[np.arange(len(truth)), truth]) / np.sum(weight))

    def _raw(self, steps: Array, counts: npt.NDArray[np.int64]) -> Array:
        length, size = self._window
        if steps.shape[2] != size:
            raise ValueError(f"x: expected {size} features per step, got {steps.shape[2]}")
        if self._short:
            return sequence_features(steps, counts)
        if len(counts) and (counts != length).any():
            wrong = counts[counts != length][0]
            raise ValueError(
                f"lengths: expected sequences of {length} steps as in training, got one of {wrong}"
            )
        return steps[:, :length].reshape(len(steps), length * size)

    def _logs(self, coefficients: Array, x: Any, lengths: Any) -> Array:
        steps = numbers("x", x, (3,))
        features = (self._raw(steps, checked_lengths(steps, lengths)) - self._mean) / self._scale
        return log_softmax(features @ coefficients[:-1] + coefficients[-1])

    def probabilities(self, x: npt.ArrayLike, lengths: npt.ArrayLike | None = None) -> Array:
        """Probabilities of the classes.

        Parameters
        ----------
        x : array_like (N, T, F)
        lengths : array_like of int (N,), optional
            From 1 to T, by default T; all as in training where the features are all numbers.

        Returns
        -------
        ndarray (N, classes), float64

        Raises
        ------
        ValueError, TypeError
            Sequences or lengths of another shape, or `fit` was not called.
        """
        if self._coefficients is None:
            raise ValueError("predict: expected fit to be called first")
        return np.exp(self._logs(self._coefficients, x, lengths))

    def predict(self, x: npt.ArrayLike, lengths: npt.ArrayLike | None = None) -> npt.NDArray[np.int64]:
        """The most probable class of each sequence, (N,); all else as `probabilities`."""
        return np.argmax(self.probabilities(x, lengths), axis=1).astype(np.int64)
