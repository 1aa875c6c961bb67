"""Losses for a training loop of one's own: each gives the loss and its gradient.

The models' losses are part of the engines (`lstm_numba.engines.cpu.losses` and `number_losses`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import float_array, real_numbers
from lstm_numba.engines.cpu.losses import softmax_cross_entropy
from lstm_numba.engines.cpu.number_losses import number_loss as engine_loss
from lstm_numba.engines.number_losses import DEFAULT_QUANTILES, check_number_targets
from lstm_numba.engines.number_losses import number_loss as loss_by_name

Array = npt.NDArray[Any]


def softmax(logits: Array) -> Array:
    """Softmax over the last axis, in float64; not used in training.

    Parameters
    ----------
    logits : ndarray (..., V)

    Returns
    -------
    ndarray (..., V), float64

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_numba as ln
    >>> ln.softmax(np.log([[1.0, 3.0]])).round(6).tolist()
    [[0.25, 0.75]]
    """
    shifted = real_numbers("logits", logits).astype(np.float64, copy=False)
    shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    result: Array = shifted / shifted.sum(axis=-1, keepdims=True)
    return result


def mean_squared_error(prediction: Array, target: Array, *, scale: float = 1.0) -> tuple[float, Array]:
    """Mean of the squared differences over all elements, with its gradient.

    Parameters
    ----------
    prediction, target : ndarray, same shape
        `prediction` float32 or float64.
    scale : float
        Factor of the gradient alone.

    Returns
    -------
    loss : float
        ``mean((prediction - target)**2)``, summed in float64.
    dprediction : ndarray
        ``scale * 2 * (prediction - target) / size`` in the dtype of `prediction`.
    """
    prediction = float_array("prediction", real_numbers("prediction", prediction))
    target = real_numbers("target", target)
    if prediction.shape != target.shape:
        raise ValueError(f"target: expected shape {prediction.shape}, got {target.shape}")
    if prediction.size == 0:
        raise ValueError("prediction: expected at least one element, got none")
    difference = prediction.astype(np.float64) - target
    loss = float(np.mean(difference * difference))
    difference *= 2.0 * scale / difference.size
    return loss, difference.astype(prediction.dtype)


def cross_entropy(logits: Array, labels: Array, *, weights: Array | None = None) -> tuple[float, Array]:
    """Softmax cross-entropy, averaged over the rows.

    Parameters
    ----------
    logits : ndarray (N, C) or (T, B, C), float32 or float64
    labels : ndarray (N,) or (T, B), int
        0 to C - 1.
    weights : ndarray, shape of `labels`, optional
        Not negative; a row of weight zero, such as padding, counts nowhere.

    Returns
    -------
    loss : float
        In nats.
    dlogits : ndarray
        Its gradient.
    """
    logits = float_array("logits", real_numbers("logits", logits))
    rows = np.ascontiguousarray(logits).reshape(-1, logits.shape[-1])
    flat = None if weights is None else np.asarray(weights, np.float64).reshape(-1)
    total = len(rows) if flat is None else float(flat.sum())
    if not total > 0:
        raise ValueError("weights: expected at least one row of positive weight")
    loss, gradient, _ = softmax_cross_entropy(
        rows, np.asarray(labels).reshape(-1), scale=1.0 / total, weights=flat
    )
    assert gradient is not None
    return loss / total, gradient.reshape(logits.shape)


def regression_loss(
    prediction: Array,
    target: Array,
    loss: str = "mse",
    *,
    quantiles: tuple[float, ...] = DEFAULT_QUANTILES,
    weights: Array | None = None,
) -> tuple[float, Array]:
    """A loss of predicted numbers, averaged over the targets.

    Parameters
    ----------
    prediction : ndarray, float32 or float64
        Of the shape of `target`; of "quantile" with one more dimension, of the levels, and of "gaussian" of
        two numbers, mean and log-variance, at the end.
    target : ndarray
    loss : {"mse", "mae", "huber", "quantile", "gaussian"}
        See `lstm_numba.engines.number_losses.number_loss`.
    quantiles : tuple of float
        Levels of "quantile".
    weights : ndarray, shape of `target`, optional
        Not negative; a target of weight zero is missing.

    Returns
    -------
    loss : float
    dprediction : ndarray
        Its gradient.
    """
    kind = loss_by_name(loss, quantiles)
    prediction = float_array("prediction", real_numbers("prediction", prediction))
    target = real_numbers("target", target)
    more = () if kind.width == 1 and prediction.ndim == target.ndim else (kind.width,)
    if prediction.shape != (*target.shape, *more) or target.size == 0:
        raise ValueError(f"prediction: expected shape {(*target.shape, *more)}, got {prediction.shape}")
    column = None if weights is None else np.asarray(weights).reshape(-1, 1)
    numbers, counted = check_number_targets(target.reshape(-1, 1), column)
    total = float(counted.sum())
    if not total > 0:
        raise ValueError("weights: expected at least one target of positive weight")
    gradient = np.array(prediction, order="C").reshape(-1, kind.width)
    bias = np.zeros(kind.width, gradient.dtype)
    given = numbers, counted, np.array(kind.levels)
    found = engine_loss(gradient, bias, given, kind.kind, scale=1.0 / total)
    return found / total, gradient.reshape(prediction.shape)
