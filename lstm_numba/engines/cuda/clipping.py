"""Gradient norms and clipping on the device; see `lstm_numba.engines.cpu.clipping`.

The host does not wait for the norm before the update: norm and factor are elements of a small float64 array
on the device, `totals`, from which the update reads the factor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.engines.cuda.device_array import flat
from lstm_numba.engines.cuda.driver import cuda
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.last_block import last_of
from lstm_numba.engines.cuda.launch import launch, launch_over, limits
from lstm_numba.engines.cuda.memory import DeviceArray, counters, empty
from lstm_numba.engines.cuda.multi_tensor import array_of, no_table, tables
from lstm_numba.engines.cuda.options import DEVICE, KERNEL
from lstm_numba.engines.cuda.reductions import block_sum
from lstm_numba.engines.sparse import SparseRows

Gradients = Mapping[str, Any]


class TotalsIndices(NamedTuple):
    """Indices into the array of totals.

    Attributes
    ----------
    norm, factor, loss : int
    """

    norm: Any
    factor: Any
    loss: Any


@cuda.jit(**DEVICE)
def _square(values, i):
    """The square of element i, or zero past the end."""
    value = np.float64(values[i]) if i < values.size else np.float64(0)
    return value * value


@cuda.jit(**DEVICE)
def _add_squares(total, values):
    """Add the squares of this thread's elements, with four loads in flight at a time."""
    step = cuda.gridsize(1)
    for i in stride_range(cuda.grid(1), values.size, 4 * step):
        total += _square(values, i)
        total += _square(values, i + step)
        total += _square(values, i + 2 * step)
        total += _square(values, i + 3 * step)
    return total


@cuda.jit(**KERNEL)
def norm_kernel(singles, doubles, rows, parts, counters, totals, indices, max_norm):
    """Norm and factor of all gradients; see `clip_by_norm`.

    Parameters
    ----------
    singles, doubles : Table
        Gradients of float32, and of float64.
    rows : flat device array
        One more gradient.
    parts : (number of blocks,), float64
    counters : int32 device array
    totals : (n,), float64
    indices : TotalsIndices
    max_norm : float64
        Infinite where nothing is clipped.
    """
    shared = cuda.shared.array(0, parts.dtype)
    total = _add_squares(np.float64(0), rows)
    for n in range(singles.count):
        total = _add_squares(total, array_of(singles, 0, n))
    for n in range(doubles.count):
        total = _add_squares(total, array_of(doubles, 0, n))
    total = block_sum(shared, total)
    if cuda.threadIdx.x == 0:
        parts[cuda.blockIdx.x] = total
    if last_of(counters, 0, cuda.gridDim.x):
        total = np.float64(0)
        for i in stride_range(cuda.threadIdx.x, parts.size, cuda.blockDim.x):
            total += parts[i]
        norm = math.sqrt(block_sum(shared, total))
        factor = max_norm / norm if norm > max_norm else np.float64(1)
        if not (math.isfinite(norm) and math.isfinite(totals[indices.loss])):
            factor = np.float64(np.nan)
        if cuda.threadIdx.x == 0:
            totals[indices.norm] = norm
            totals[indices.factor] = factor


def _values(grads: Gradients) -> list[DeviceArray]:
    return [g.values if isinstance(g, SparseRows) else g for g in grads.values()]


def clip_by_norm(
    grads: Gradients, totals: DeviceArray, norm_index: int, factor_index: int, max_norm: float | None,
    loss_index: int = 0,
) -> None:  # fmt: skip
    """Find the Euclidean norm of all gradients together, and the factor that brings it down to `max_norm`.

    Parameters
    ----------
    grads : dict of device arrays or SparseRows
    totals : device array (n,), float64
        ``totals[norm_index]`` gets the norm, ``totals[factor_index]`` the factor.
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
    values = _values(grads)
    # A sparse gradient has another size at each step; in the table it would change the table each time.
    sparse = [n for n, gradient in enumerate(grads.values()) if isinstance(gradient, SparseRows)]
    rows = flat(values.pop(sparse[0])) if sparse else empty((0,), np.float32)
    found = {table.like.dtype: (table, size) for table, size in tables(values)}
    (singles, n), (doubles, m) = (found.get(np.dtype(d)) or no_table(d) for d in (np.float32, np.float64))
    threads = limits().threads
    blocks = max(1, min(limits().blocks, -(-max(n, m, rows.size) // threads)))
    parts, indices = empty((blocks,), np.float64), TotalsIndices(norm_index, factor_index, loss_index)
    launch(
        norm_kernel, blocks, threads, singles, doubles, rows, parts, counters(1), totals, indices, limit,
        shared=threads * 8,
    )  # fmt: skip


@cuda.jit(**KERNEL)
def clip_kernel(table, limit):
    """Limit every element to [-limit, limit]; NaN stays NaN."""
    for n in range(table.count):
        values = array_of(table, 0, n)
        for i in stride_range(cuda.grid(1), values.size, cuda.gridsize(1)):
            value = values[i]
            if value > limit:
                values[i] = limit
            elif value < -limit:
                values[i] = -limit


def clip_by_value(grads: Gradients, limit: float) -> None:
    """Limit every element of the gradients to [-limit, limit], in place; NaN stays NaN.

    Parameters
    ----------
    grads : dict of device arrays or SparseRows
    limit : float
        Positive.
    """
    if not limit > 0:
        raise ValueError(f"limit: expected a positive number, got {limit}")
    for table, size in tables(_values(grads)):
        launch_over(clip_kernel, size, table, table.like.dtype.type(limit))
