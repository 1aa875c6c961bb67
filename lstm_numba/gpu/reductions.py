"""Sums over many numbers: in float64, in an order that does not depend on timing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lstm_numba.gpu.driver import cuda
from lstm_numba.gpu.launch import launch, launch_over, limits
from lstm_numba.gpu.memory import DeviceArray, empty, flat, span
from lstm_numba.gpu.options import DEVICE, KERNEL

#: Rows that one thread adds up at least.
_ROWS = 32


@cuda.jit(**DEVICE)
def block_sum(shared, value):
    """Sum of a value over all threads of a block of one dimension, for each of them.

    Parameters
    ----------
    shared : float64 array in shared memory, a number a thread
    value : float64
    """
    thread = cuda.threadIdx.x
    shared[thread] = value
    cuda.syncthreads()
    half = cuda.blockDim.x // 2
    while half > 0:
        if thread < half:
            shared[thread] += shared[thread + half]
        cuda.syncthreads()
        half //= 2
    total = shared[0]
    cuda.syncthreads()  # the memory may be used again from here on
    return total


@cuda.jit(**KERNEL)
def column_parts(matrix, rows, columns, stride, height, parts):
    """Sums of each column over `height` rows at a time.

    Parameters
    ----------
    matrix : flat device array
    rows, columns, stride : int
        N, M, and the numbers from one row to the next.
    height : int
    parts : (P * M,), float64
    """
    for i in range(cuda.grid(1), parts.size, cuda.gridsize(1)):
        first = i // columns * height
        total = np.float64(0)
        for row in range(first, min(first + height, rows)):
            total += matrix[row * stride + i % columns]
        parts[i] = total


@cuda.jit(**KERNEL)
def add_column_parts(parts, out):
    """Add the parts of each column in their order; `parts` is (P * M,), `out` (M,)."""
    columns = out.size
    for i in range(cuda.grid(1), columns, cuda.gridsize(1)):
        total = np.float64(0)
        for at in range(i, parts.size, columns):
            total += parts[at]
        out[i] = total


def column_sums(matrix: DeviceArray, out: DeviceArray | None = None) -> DeviceArray:
    """Sum the rows of a matrix.

    Parameters
    ----------
    matrix : device array (N, M)
        Rows may lie apart, the numbers of a row are neighbours.
    out : device array (M,), optional

    Returns
    -------
    device array (M,), dtype of `matrix`
        Added up in float64.
    """
    rows, columns = matrix.shape
    if out is None:
        out = empty((columns,), matrix.dtype)
    # As many parts as each has rows: the second pass takes no longer than the first.
    height = max(_ROWS, math.isqrt(rows))
    count = max(1, -(-rows // height)) * columns
    parts = empty((count,), np.float64)
    stride = matrix.strides[0] // matrix.dtype.itemsize
    launch_over(column_parts, count, span(matrix), rows, columns, stride, height, parts)
    launch_over(add_column_parts, columns, parts, out)
    return out


@cuda.jit(**KERNEL)
def square_parts(array, parts, at):
    """Put each block's sum of squares to ``parts[at + block]``; the blocks go over the array together."""
    shared = cuda.shared.array(0, parts.dtype)
    total = np.float64(0)
    for i in range(cuda.grid(1), array.size, cuda.gridsize(1)):
        value = np.float64(array[i])
        total += value * value
    total = block_sum(shared, total)
    if cuda.threadIdx.x == 0:
        parts[at + cuda.blockIdx.x] = total


@cuda.jit(**KERNEL)
def add_square_parts(parts, count, totals, index, root):
    """Put the sum of `count` parts, or its root, to ``totals[index]``; one block."""
    shared = cuda.shared.array(0, parts.dtype)
    total = np.float64(0)
    for i in range(cuda.threadIdx.x, count, cuda.blockDim.x):
        total += parts[i]
    total = block_sum(shared, total)
    if cuda.threadIdx.x == 0:
        totals[index] = math.sqrt(total) if root else total


def squares(arrays: Sequence[DeviceArray], totals: DeviceArray, index: int, root: bool) -> None:
    """Put the sum of the squares of all numbers of C-contiguous arrays, or its root, to ``totals[index]``."""
    threads = limits().threads
    shared = threads * 8
    blocks = [min(limits().blocks, -(-array.size // threads)) for array in arrays]
    parts = empty((max(1, sum(blocks)),), np.float64)
    at = 0
    for array, count in zip(arrays, blocks, strict=True):
        if count:
            launch(square_parts, count, threads, flat(array), parts, at, shared=shared)
            at += count
    launch(add_square_parts, 1, threads, parts, at, totals, index, int(root), shared=shared)


def sum_of_squares(array: DeviceArray, totals: DeviceArray, index: int) -> None:
    """Put the sum of the squares of all numbers to ``totals[index]``, on the device.

    Parameters
    ----------
    array : device array, float32 or float64, C-contiguous
    totals : device array (n,), float64
        Gets NaN or inf if the array holds one.
    index : int
    """
    squares([array], totals, index, root=False)
