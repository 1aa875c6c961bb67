"""Checks of the targets and weights of softmax cross-entropy, the same for every engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import integers, real_numbers

Array = npt.NDArray[Any]


def check_targets(targets: Array, weights: Array | None, rows: int, classes: int) -> tuple[Array, Array]:
    """Targets as int64 and weights as float64 (ones by default); raises ValueError or TypeError."""
    targets = integers("targets", targets)
    if targets.shape != (rows,):
        raise ValueError(f"targets: expected shape ({rows},), got {targets.shape}")
    row_weights = _row_weights(weights, rows)
    counted = targets if weights is None else targets[row_weights > 0]
    if counted.size and not (counted.min() >= 0 and counted.max() < classes):
        wrong = counted[(counted < 0) | (counted >= classes)][0]
        raise ValueError(f"targets: expected values from 0 to {classes - 1}, got {wrong}")
    return targets.astype(np.int64), row_weights


def _row_weights(weights: Array | None, rows: int) -> Array:
    if weights is None:
        return np.ones(rows)
    result = real_numbers("weights", weights).astype(np.float64, copy=False)
    if result.shape != (rows,):
        raise ValueError(f"weights: expected shape ({rows},), got {result.shape}")
    if not np.all(result >= 0) or not np.all(np.isfinite(result)):
        raise ValueError("weights: expected finite numbers that are not negative")
    return result
