"""Gradient norms and clipping on the device; see `lstm_numba.clipping`.

The host does not learn the norm before the update: norm and factor are numbers of a small float64 array on
the device, `totals`, from which the update takes the factor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lstm_numba.gpu.driver import cuda
from lstm_numba.gpu.launch import launch, launch_over
from lstm_numba.gpu.memory import DeviceArray, flat
from lstm_numba.gpu.options import KERNEL
from lstm_numba.gpu.reductions import squares
from lstm_numba.sparse import SparseRows

Gradients = Mapping[str, Any]


def _values(gradient: Any) -> DeviceArray:
    return gradient.values if isinstance(gradient, SparseRows) else gradient


def global_norm(grads: Gradients, totals: DeviceArray, index: int) -> None:
    """Put the Euclidean norm of all gradients together to ``totals[index]``.

    Parameters
    ----------
    grads : dict of device arrays or SparseRows
    totals : device array (n,), float64
    index : int
    """
    squares([_values(g) for g in grads.values()], totals, index, root=True)


@cuda.jit(**KERNEL)
def factor_kernel(totals, norm_index, factor_index, loss_index, max_norm):
    """One thread: see `clip_factor`; an infinite `max_norm` never clips."""
    norm = totals[norm_index]
    factor = max_norm / norm if norm > max_norm else np.float64(1)
    if not (math.isfinite(norm) and math.isfinite(totals[loss_index])):
        factor = np.float64(np.nan)
    totals[factor_index] = factor


def clip_factor(
    totals: DeviceArray, norm_index: int, factor_index: int, max_norm: float | None, loss_index: int = 0
) -> None:
    """Put the factor that brings a norm down to `max_norm` to ``totals[factor_index]``.

    Parameters
    ----------
    totals : device array (n,), float64
    norm_index, factor_index, loss_index : int
        The factor is NaN, with which an update changes nothing, unless norm and loss are finite.
    max_norm : float or None
        Positive; None never clips.

    Raises
    ------
    ValueError
        `max_norm` is not positive.
    """
    if max_norm is not None and not max_norm > 0:
        raise ValueError(f"max_norm: expected a positive number, got {max_norm}")
    limit = np.float64(math.inf if max_norm is None else max_norm)
    launch(factor_kernel, 1, 1, totals, norm_index, factor_index, loss_index, limit)


@cuda.jit(**KERNEL)
def clip_kernel(values, limit):
    """Limit every number to [-limit, limit]; NaN is neither above nor below."""
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        value = values[i]
        if value > limit:
            values[i] = limit
        elif value < -limit:
            values[i] = -limit


def clip_by_value(grads: Gradients, limit: float) -> None:
    """Limit every number of the gradients to [-limit, limit], in place; NaN stays NaN.

    Parameters
    ----------
    grads : dict of device arrays or SparseRows
    limit : float
        Positive.
    """
    if not limit > 0:
        raise ValueError(f"limit: expected a positive number, got {limit}")
    for gradient in grads.values():
        values = flat(_values(gradient))
        launch_over(clip_kernel, values.size, values, values.dtype.type(limit))
