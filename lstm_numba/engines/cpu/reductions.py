"""Sums of columns, with the same bits for any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from lstm_numba.engines.cpu.options import EXACT
from lstm_numba.engines.cpu.shared_loop import share, shared_loop

Array = npt.NDArray[Any]

#: Columns that one thread sums at a time: whole cache lines, few enough to keep the sums at hand.
_COLUMNS = 256


#: Up to so many numbers, waking other threads takes longer than the work.
_SERIAL = 1 << 14


@njit(**EXACT)
def _block_sums(matrix, out, first, last):
    # Slices of one row: only from 0 to an array's own length, and where numbers are known to be neighbours,
    # can LLVM vectorise.
    sums = np.zeros(last - first)
    for i in range(matrix.shape[0]):
        row = matrix[i, first:last]
        for j in range(row.shape[0]):
            sums[j] += row[j]
    part = out[first:last]
    for j in range(part.shape[0]):
        part[j] = sums[j]


@njit(**EXACT)
def _block(block, matrix, out):
    _block_sums(matrix, out, block * _COLUMNS, min((block + 1) * _COLUMNS, matrix.shape[1]))


@njit(**EXACT)
def _shared(where, threads, matrix, out):
    blocks = (matrix.shape[1] + _COLUMNS - 1) // _COLUMNS
    shared_loop(where, threads, _block, blocks, (matrix, out))


def column_sums(matrix: Array, out: Array | None = None) -> Array:
    """Sum the rows of a matrix, in float64, one thread a block of columns.

    Parameters
    ----------
    matrix : ndarray (N, M), C-contiguous
    out : ndarray (M,), optional

    Returns
    -------
    ndarray (M,), dtype of `matrix`
        The same bits for any number of threads.
    """
    if out is None:
        out = np.empty(matrix.shape[1], matrix.dtype)
    if matrix.size <= _SERIAL:
        _block_sums(matrix, out, 0, matrix.shape[1])
    else:
        share(_shared, matrix, out)
    return out
