"""Gradient norms and clipping; reproducible to the bit for any number of threads.

R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from lstm_numba.engines.cpu.options import EXACT
from lstm_numba.engines.cpu.shared_loop import share, shared_loop
from lstm_numba.engines.sparse import SparseRows

Array = npt.NDArray[Any]
Gradients = Mapping[str, "Array | SparseRows"]

#: Numbers that become one partial sum. The grouping depends on nothing else, so neither does the result.
_CHUNK = 1 << 16
#: Sums side by side, which LLVM turns into vectors without being allowed to reorder anything.
_LANES = 128


@njit(**EXACT)
def _chunk_squares(flat):
    lanes = np.zeros(_LANES)
    size = flat.shape[0]
    whole = size - size % _LANES
    for start in range(0, whole, _LANES):
        part = flat[start : start + _LANES]
        for k in range(_LANES):
            value = np.float64(part[k])
            lanes[k] += value * value
    for i in range(whole, size):
        value = np.float64(flat[i])
        lanes[i - whole] += value * value
    total = 0.0
    for k in range(_LANES):
        total += lanes[k]
    return total


@njit(**EXACT)
def _chunk(chunk, flat, parts):
    parts[chunk] = _chunk_squares(flat[chunk * _CHUNK : (chunk + 1) * _CHUNK])


@njit(**EXACT)
def _shared(where, threads, flat, parts):
    shared_loop(where, threads, _chunk, parts.shape[0], (flat, parts))


def sum_of_squares(array: Array) -> float:
    """Sum of the squares of all numbers, in float64, in a fixed order.

    Parameters
    ----------
    array : ndarray, float32 or float64

    Returns
    -------
    float
        NaN or inf if the array holds one.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.size <= _CHUNK:
        return float(_chunk_squares(flat))
    parts = np.empty(-(-flat.size // _CHUNK))
    share(_shared, flat, parts)
    return float(parts.sum())


def _values(gradient: Array | SparseRows) -> Array:
    return gradient.values if isinstance(gradient, SparseRows) else gradient


def global_norm(grads: Gradients) -> float:
    """Euclidean norm of all gradients together.

    Parameters
    ----------
    grads : dict of ndarray or SparseRows
        A `SparseRows` holds each row once, so it counts as its dense matrix would.
    """
    return math.sqrt(sum(sum_of_squares(_values(g)) for g in grads.values()))


def clip_factor(norm: float, max_norm: float | None) -> float:
    """Factor that brings a norm down to `max_norm`, 1 if it is below; `None` never clips."""
    if max_norm is None:
        return 1.0
    if not max_norm > 0:
        raise ValueError(f"max_norm: expected a positive number, got {max_norm}")
    return max_norm / norm if norm > max_norm else 1.0


def clip_by_global_norm(grads: Gradients, max_norm: float) -> float:
    """Scale all gradients, in place, so that their common norm is at most `max_norm`.

    The optimizers' ``step(grads, scale=clip_factor(norm, max_norm))`` does the same in one pass less.

    Parameters
    ----------
    grads : dict of ndarray or SparseRows
    max_norm : float
        Positive.

    Returns
    -------
    float
        The norm before clipping; with a norm of NaN or inf the gradients stay as they are.
    """
    norm = global_norm(grads)
    factor = clip_factor(norm, max_norm)
    if factor != 1.0 and math.isfinite(norm):
        for gradient in grads.values():
            values = _values(gradient)
            values *= values.dtype.type(factor)
    return norm


def clip_by_value(grads: Gradients, limit: float) -> None:
    """Limit every number of the gradients to [-limit, limit], in place; NaN stays NaN.

    Parameters
    ----------
    grads : dict of ndarray or SparseRows
    limit : float
        Positive.
    """
    if not limit > 0:
        raise ValueError(f"limit: expected a positive number, got {limit}")
    for gradient in grads.values():
        values = _values(gradient)
        np.clip(values, -limit, limit, out=values)
