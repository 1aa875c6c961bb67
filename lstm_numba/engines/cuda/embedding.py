"""Rows of a table for tokens, and the sparse gradient of those rows."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.engines.cuda.device_array import flat
from lstm_numba.engines.cuda.driver import cuda
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.launch import launch_over_box
from lstm_numba.engines.cuda.memory import DeviceArray, empty, upload
from lstm_numba.engines.cuda.options import KERNEL
from lstm_numba.engines.sparse import SparseRows

# All arrays are flat, with rows of `width` elements. Threads along x have neighbouring elements of a row.
# Rows with index -1 are padding, where the number of rows is fixed.


@cuda.jit(**KERNEL)
def gather_kernel(weight, ids, width, out):
    """``out[n] = weight[ids[n]]``"""
    (x, y), (x_step, y_step) = cuda.grid(2), cuda.gridsize(2)
    for n in stride_range(y, ids.size, y_step):
        for k in stride_range(x, width, x_step):
            out[n * width + k] = weight[ids[n] * width + k]


@cuda.jit(**KERNEL)
def add_rows_kernel(dense, indices, values, width):
    """``dense[indices[n]] += values[n]``"""
    (x, y), (x_step, y_step) = cuda.grid(2), cuda.gridsize(2)
    for n in stride_range(y, indices.size, y_step):
        if indices[n] >= 0:
            for k in stride_range(x, width, x_step):
                dense[indices[n] * width + k] += values[n * width + k]


@cuda.jit(**KERNEL)
def set_rows_kernel(dense, indices, values, width):
    """``dense[indices[n]] = values[n]``"""
    (x, y), (x_step, y_step) = cuda.grid(2), cuda.gridsize(2)
    for n in stride_range(y, indices.size, y_step):
        if indices[n] >= 0:
            for k in stride_range(x, width, x_step):
                dense[indices[n] * width + k] = values[n * width + k]


@cuda.jit(**KERNEL)
def clear_rows_kernel(dense, indices, width):
    """``dense[indices[n]] = 0``"""
    (x, y), (x_step, y_step) = cuda.grid(2), cuda.gridsize(2)
    for n in stride_range(y, indices.size, y_step):
        if indices[n] >= 0:
            for k in stride_range(x, width, x_step):
                dense[indices[n] * width + k] = 0


@cuda.jit(**KERNEL)
def add_occurrences_kernel(dy, width, packed, count, values):
    """Sum the rows of each token, in the order of its occurrences.

    Parameters
    ----------
    dy : (n * E,)
    width : int
        E.
    packed : (m + m + 1 + n,), int64
        The tokens; the start of each token's occurrences, and the end of the last one's; the occurrences.
    count : int
        m.
    values : (m * E,)
    """
    (x, y), (x_step, y_step) = cuda.grid(2), cuda.gridsize(2)
    occurrences = 2 * count + 1
    for n in stride_range(y, count, y_step):
        first, end = occurrences + packed[count + n], occurrences + packed[count + n + 1]
        for k in stride_range(x, width, x_step):
            total = dy.dtype.type(0)
            for i in range(first, end):
                total += dy[packed[i] * width + k]
            values[n * width + k] = total


def add_rows(rows: SparseRows, out: DeviceArray) -> None:
    """Add sparse rows to a whole matrix, C-contiguous."""
    launch_over_box(add_rows_kernel, rows.values.shape, *_operands(rows, out))


def set_rows(rows: SparseRows, out: DeviceArray) -> None:
    """Store sparse rows in a whole matrix, C-contiguous."""
    launch_over_box(set_rows_kernel, rows.values.shape, *_operands(rows, out))


def _operands(rows: SparseRows, dense: DeviceArray) -> tuple[Any, ...]:
    return flat(dense), rows.indices, flat(rows.values), rows.shape[1]


def clear_rows(rows: SparseRows, out: DeviceArray) -> None:
    """Zero the rows of a whole matrix, C-contiguous, that are in the sparse rows."""
    launch_over_box(clear_rows_kernel, rows.values.shape, flat(out), rows.indices, rows.shape[1])


class Tokens(NamedTuple):
    """Tokens on the device, and the occurrences of each, which the host has sorted.

    Attributes
    ----------
    shape : tuple of int
    packed : device array of int64
        The n tokens; the m different ones, padded with -1; the start of each one's occurrences, and the end
        of the last one's; the occurrences.
    rows : int
        m; n where the number of rows is fixed; or 0 where no gradient is wanted, and only the tokens are
        stored.
    """

    shape: tuple[int, ...]
    packed: DeviceArray
    rows: int


def upload_tokens(
    ids: npt.NDArray[np.integer], gradient: bool = True, fixed: bool = False, out: Tokens | None = None
) -> Tokens:
    """Copy tokens to the device, in one copy.

    Parameters
    ----------
    ids : ndarray of int
    gradient : bool
        Whether the table's gradient is wanted, for which they are sorted.
    fixed : bool
        Have as many rows as tokens, even if some tokens are the same.
    out : Tokens, optional
        Fixed ones of the same shape, which are overwritten.
    """
    tokens = np.asarray(ids).reshape(-1).astype(np.int64)
    if not gradient:
        return Tokens(ids.shape, upload(tokens), 0)
    size, order = len(tokens), np.argsort(tokens, kind="stable")
    indices, first = np.unique(tokens[order], return_index=True)
    spare = size - len(indices) if fixed or out is not None else 0
    rest = (np.full(spare, -1), first, np.full(spare, size), [size], order)
    packed = np.concatenate([tokens, indices, *rest]).astype(np.int64)
    return Tokens(ids.shape, upload(packed, None if out is None else out.packed), len(indices) + spare)


def row_gradient(tokens: Tokens, dy: DeviceArray, shape: tuple[int, int]) -> SparseRows:
    """Gradient of a table.

    Parameters
    ----------
    tokens : Tokens
        The tokens that were looked up.
    dy : device array (*tokens.shape, E), C-contiguous
        Gradient of their rows.
    shape : tuple of int
        (V, E).

    Returns
    -------
    SparseRows
        A token that occurs more than once has one row: the sum in the order of its occurrences.
    """
    packed, count, width = tokens.packed[math.prod(tokens.shape) :], tokens.rows, shape[1]
    values = empty((count, width), dy.dtype)
    launch_over_box(add_occurrences_kernel, values.shape, flat(dy), width, packed, count, flat(values))
    return SparseRows(packed[:count], values, (shape[0], width))


def gather(table: DeviceArray, tokens: Tokens, out: DeviceArray | None = None) -> DeviceArray:
    """Rows of a table.

    Parameters
    ----------
    table : device array (V, E), C-contiguous
    tokens : Tokens
        0 to V - 1; the device does not check it.
    out : device array (*tokens.shape, E), C-contiguous, optional

    Returns
    -------
    device array (*tokens.shape, E)
    """
    size, width = math.prod(tokens.shape), table.shape[1]
    if out is None:
        out = empty((*tokens.shape, width), table.dtype)
    ids = tokens.packed[:size]
    launch_over_box(gather_kernel, (size, width), flat(table), ids, width, flat(out))
    return out
