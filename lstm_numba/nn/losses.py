"""Softmax and mean squared error for use from Python.

The models' softmax cross-entropy is part of the engines (`lstm_numba.engines.cpu.losses`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import float_array, real_numbers

Array = npt.NDArray[Any]


def softmax(logits: Array) -> Array:
    """Softmax over the last axis, in float64; not used in training.

    Parameters
    ----------
    logits : ndarray (..., V)

    Returns
    -------
    ndarray (..., V), float64
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
