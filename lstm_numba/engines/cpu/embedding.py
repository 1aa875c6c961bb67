"""The gradient of a table of which rows were taken: only those rows, each once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from lstm_numba.engines.cpu.options import EXACT, EXACT_PARALLEL
from lstm_numba.engines.cpu.threads import threaded
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


@threaded(**EXACT_PARALLEL)
def _add_rows_parallel(rows, slots, out):
    columns = rows.shape[1]
    for block in prange((columns + _COLUMNS - 1) // _COLUMNS):
        _add_rows(rows, slots, out, block * _COLUMNS, min((block + 1) * _COLUMNS, columns))


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
        _add_rows_parallel(rows, slots, values)
    return SparseRows(indices.astype(np.int64), values, shape)
