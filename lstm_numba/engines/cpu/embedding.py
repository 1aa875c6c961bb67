"""The gradient of a table of which rows were taken: only those rows, each once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from lstm_numba.engines.cpu.options import EXACT
from lstm_numba.engines.cpu.shared_loop import share, shared_loop
from lstm_numba.engines.sparse import SparseRows

Array = npt.NDArray[Any]

#: Columns that one thread adds up; threads share no number, so the order of additions is fixed.
_COLUMNS = 128


#: Up to so many numbers, waking other threads takes longer than the work.
_SERIAL = 1 << 14


@njit(**EXACT)
def _add_rows(rows, slots, out, first, last):
    """``out[slots[k], first:last] += rows[k, first:last]``, in the order of k."""
    for k in range(rows.shape[0]):
        source, target = rows[k, first:last], out[slots[k], first:last]
        for j in range(target.shape[0]):
            target[j] += source[j]


@njit(**EXACT)
def _block(block, rows, slots, out):
    _add_rows(rows, slots, out, block * _COLUMNS, min((block + 1) * _COLUMNS, rows.shape[1]))


@njit(**EXACT)
def _shared(where, threads, rows, slots, out):
    blocks = (rows.shape[1] + _COLUMNS - 1) // _COLUMNS
    shared_loop(where, threads, _block, blocks, (rows, slots, out))


def row_gradient(tokens: Array, dy: Array, shape: tuple[int, int]) -> SparseRows:
    """Gradient of a table from those of rows that were taken from it.

    Parameters
    ----------
    tokens : ndarray of int
        Which rows were taken.
    dy : ndarray (*tokens.shape, E)
        Gradients of the rows.
    shape : tuple of int
        Shape of the table.

    Returns
    -------
    SparseRows
        A row that was taken more than once is there once: the sum in the order of its occurrence.
    """
    indices, slots = np.unique(tokens.reshape(-1), return_inverse=True)
    values = np.zeros((len(indices), shape[1]), dy.dtype)
    rows = np.ascontiguousarray(dy.reshape(-1, shape[1]))
    slots = slots.reshape(-1).astype(np.int64)
    if rows.size <= _SERIAL:
        _add_rows(rows, slots, values, 0, rows.shape[1])
    else:
        share(_shared, rows, slots, values)
    return SparseRows(indices.astype(np.int64), values, shape)
