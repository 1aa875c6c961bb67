"""Rows of a table for tokens, and the gradient of the rows that were touched."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lstm_numba.gpu.driver import cuda
from lstm_numba.gpu.launch import launch_over
from lstm_numba.gpu.memory import DeviceArray, empty, flat, upload
from lstm_numba.gpu.options import KERNEL
from lstm_numba.sparse import SparseRows


@cuda.jit(**KERNEL)
def gather_kernel(weight, ids, width, out):
    """``out[n] = weight[ids[n]]``, all flat, rows of `width` numbers."""
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        out[i] = weight[ids[i // width] * width + i % width]


@cuda.jit(**KERNEL)
def add_rows_kernel(dense, indices, values, width):
    """``dense[indices[n]] += values[n]``, all flat, rows of `width` numbers."""
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        dense[indices[i // width] * width + i % width] += values[i]


@cuda.jit(**KERNEL)
def add_occurrences_kernel(dy, width, offsets, order, values):
    """Add up the rows of each token, in the order of its occurrence.

    Parameters
    ----------
    dy : (n * E,)
    width : int
        E.
    offsets : (m + 1,), int64
        Where each token's occurrences begin in `order`.
    order : (n,), int64
    values : (m * E,)
    """
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        token, column = i // width, i % width
        first = offsets[token]
        total = dy[order[first] * width + column]
        for k in range(first + 1, offsets[token + 1]):
            total += dy[order[k] * width + column]
        values[i] = total


@cuda.jit(**KERNEL)
def set_rows_kernel(dense, indices, values, width):
    """``dense[indices[n]] = values[n]``, all flat, rows of `width` numbers."""
    for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
        dense[indices[i // width] * width + i % width] = values[i]


@cuda.jit(**KERNEL)
def clear_rows_kernel(dense, indices, width, zero):
    """``dense[indices[n]] = 0``, flat, rows of `width` numbers."""
    for i in range(cuda.grid(1), indices.size * width, cuda.gridsize(1)):
        dense[indices[i // width] * width + i % width] = zero


def add_rows(rows: SparseRows, dense: DeviceArray) -> None:
    """Add sparse rows to a whole matrix, C-contiguous."""
    values = flat(rows.values)
    launch_over(add_rows_kernel, values.size, flat(dense), rows.indices, values, rows.shape[1])


def set_rows(rows: SparseRows, dense: DeviceArray) -> None:
    """Put sparse rows into a whole matrix, C-contiguous."""
    values = flat(rows.values)
    launch_over(set_rows_kernel, values.size, flat(dense), rows.indices, values, rows.shape[1])


def clear_rows(rows: SparseRows, dense: DeviceArray) -> None:
    """Zero the rows of a whole matrix, C-contiguous, that sparse rows have."""
    width = rows.shape[1]
    size = rows.indices.size * width
    launch_over(clear_rows_kernel, size, flat(dense), rows.indices, width, dense.dtype.type(0))


def gather(weight: DeviceArray, ids: DeviceArray, out: DeviceArray | None = None) -> DeviceArray:
    """Rows of a table.

    Parameters
    ----------
    weight : device array (V, E), C-contiguous
    ids : device array of int64, C-contiguous
        0 to V - 1; the device does not check it.
    out : device array (*ids.shape, E), C-contiguous, optional

    Returns
    -------
    device array (*ids.shape, E)
    """
    if out is None:
        out = empty((*ids.shape, weight.shape[1]), weight.dtype)
    launch_over(gather_kernel, out.size, flat(weight), flat(ids), weight.shape[1], flat(out))
    return out


def row_gradient(ids: npt.NDArray[np.integer], dy: DeviceArray, shape: tuple[int, int]) -> SparseRows:
    """Gradient of a table.

    Parameters
    ----------
    ids : ndarray of int
        The tokens that were looked up. The host has them and sorts them.
    dy : device array (*ids.shape, E), C-contiguous
        Gradient of their rows.
    shape : tuple of int
        (V, E).

    Returns
    -------
    SparseRows
        A token that occurs more than once has one row: the sum in the order of its occurrence.
    """
    tokens = np.asarray(ids).reshape(-1).astype(np.int64)
    order = np.argsort(tokens, kind="stable")
    indices, first = np.unique(tokens[order], return_index=True)
    count = len(indices)
    # One copy to the device instead of three.
    numbers = upload(np.concatenate([indices, first, [len(tokens)], order]).astype(np.int64))
    values = empty((count, shape[1]), dy.dtype)
    offsets, places = numbers[count : 2 * count + 1], numbers[2 * count + 1 :]
    launch_over(add_occurrences_kernel, values.size, flat(dy), shape[1], offsets, places, flat(values))
    return SparseRows(numbers[:count], values, (shape[0], shape[1]))
