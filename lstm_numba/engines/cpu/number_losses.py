"""Losses of predicted numbers with their gradient, in place; see `lstm_numba.engines.number_losses`.

A batch has a few thousand predictions, so that one thread computes them in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from lstm_numba.engines import number_losses
from lstm_numba.engines.cpu.options import EXACT, EXACT_INLINE

Array = npt.NDArray[Any]

_single = njit(**EXACT_INLINE)(number_losses.single)
_gaussian = njit(**EXACT_INLINE)(number_losses.gaussian)


@njit(**EXACT)
def _losses(predictions, bias, targets, weights, levels, kind, scale, gradient):
    """Sum of the weighted losses; `predictions` (N, M * P) become gradients."""
    total, width = 0.0, levels.size
    for n in range(targets.shape[0]):
        for m in range(targets.shape[1]):
            weight, target, first = weights[n, m], targets[n, m], m * width
            factor = scale * weight
            if weight > 0.0 and kind == number_losses.GAUSSIAN:
                difference = np.float64(predictions[n, first] + bias[first]) - target
                log_variance = np.float64(predictions[n, first + 1] + bias[first + 1])
                loss, of_mean, of_variance = _gaussian(difference, log_variance)
                total += weight * loss
                if gradient:
                    predictions[n, first] = factor * of_mean
                    predictions[n, first + 1] = factor * of_variance
            elif weight > 0.0:
                for k in range(width):
                    difference = np.float64(predictions[n, first + k] + bias[first + k]) - target
                    loss, slope = _single(kind, difference, levels[k])
                    total += weight * loss / width
                    if gradient:
                        predictions[n, first + k] = factor * slope / width
            elif gradient:  # nothing is known of it; whatever was predicted, even NaN, does not count
                for k in range(width):
                    predictions[n, first + k] = 0.0
    return total


def number_loss(
    predictions: Array,
    bias: Array,
    targets: tuple[Array, Array, Array],
    kind: int,
    *,
    scale: float = 1.0,
    gradient: bool = True,
) -> float:
    """Loss of predicted numbers; its gradient overwrites them.

    Parameters
    ----------
    predictions : ndarray (N, M * P), float32 or float64, C-contiguous
        Without the bias; P numbers for each of M targets.
    bias : ndarray (M * P,)
    targets : tuple of ndarray
        Targets (N, M), weights (N, M) and levels (P,), all float64; a target of weight zero is missing.
    kind : int
        See `lstm_numba.engines.number_losses.NumberLoss`.
    scale : float
        Factor of the gradient alone.
    gradient : bool
        False leaves `predictions` as they are.

    Returns
    -------
    float
        Sum over the targets of weight times loss, that of quantiles averaged over the levels.
    """
    return float(_losses(predictions, bias, *targets, kind, float(scale), bool(gradient)))
