"""Sums of many numbers: in float64, in an order that does not depend on timing."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.engines.cuda.device_array import flat, span
from lstm_numba.engines.cuda.driver import cuda
from lstm_numba.engines.cuda.last_block import last_of
from lstm_numba.engines.cuda.launch import MAX_GRID_Y, launch, limits
from lstm_numba.engines.cuda.memory import DeviceArray, counters, empty
from lstm_numba.engines.cuda.options import DEVICE, KERNEL

#: Rows that one thread adds, at least.
_ROWS = 32
#: Threads of a block, at most: few, so that there are blocks for all multiprocessors.
_THREADS = 64


@cuda.jit(**DEVICE)
def block_sum(shared, value):
    """Sum of a value over all threads of a block of one dimension, for each of them.

    Parameters
    ----------
    shared : float64 array in shared memory, one element for each thread
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
    cuda.syncthreads()  # the shared memory may be used again
    return total


class Columns(NamedTuple):
    """Sizes of a matrix whose columns are summed.

    Attributes
    ----------
    rows, width : int
        Rows, and the columns of one slot.
    stride : int
        Stride from one row to the next.
    height : int
        Rows that a block adds.
    parts, bits : int
        Blocks that share the rows; along y of the grid are 2 to the power `bits` of them for each model.
    model : int
        Stride from one model's matrix to the next one's.
    sums : tuple of int
        Strides from one model's sums to the next one's, of each array of sums.
    """

    rows: Any
    width: Any
    stride: Any
    height: Any
    parts: Any
    bits: Any
    model: Any
    sums: Any


@cuda.jit(**DEVICE)
def _add_column(matrix, size, parts, counters):
    """Sum a column; returns its index in its slot and its sum to the thread that has it, -1 to the others.

    The blocks are laid out as (columns of a slot, models and parts of the rows, slots).

    Parameters
    ----------
    matrix : flat device array
    size : Columns
    parts : (N * P * M,), float64
        Gets the partial sums of all columns.
    counters : int32 device array
    """
    column, slot = cuda.grid(1), cuda.blockIdx.z
    model, part = _model_and_part(size)
    columns, matrix_column = cuda.gridDim.z * size.width, slot * size.width + column
    place, start = model * size.parts * columns + matrix_column, model * size.model + matrix_column
    total = np.float64(0)
    if part >= size.parts:
        return -1, total
    if column < size.width:
        first = part * size.height
        for row in range(first, min(first + size.height, size.rows)):
            total += matrix[start + row * size.stride]
        parts[place + part * columns] = total
    square = (model * cuda.gridDim.z + slot) * cuda.gridDim.x + cuda.blockIdx.x
    last = last_of(counters, square, size.parts)
    total = np.float64(0)
    if not last or column >= size.width:
        return -1, total
    for n in range(size.parts):
        total += parts[place + n * columns]
    return column, total


@cuda.jit(**DEVICE)
def _model_and_part(size):
    return cuda.blockIdx.y >> size.bits, cuda.blockIdx.y & ((1 << size.bits) - 1)


@cuda.jit(**KERNEL)
def column_sums_kernel(matrix, size, parts, counters, out):
    """Store the sum of each column in `out`."""
    column, total = _add_column(matrix, size, parts, counters)
    if column >= 0:
        out[_model_and_part(size)[0] * size.sums[0] + column] = total


@cuda.jit(**KERNEL)
def bias_gradients_kernel(
    slots, size, parts, counters, input_gates, recurrent_gates, bias_ih, bias_hh
):  # fmt: skip
    """Store the sum of each slot's columns in its gates' biases; see `bias_gradients`."""
    column, total = _add_column(slots, size, parts, counters)
    if column >= 0:
        model, _ = _model_and_part(size)
        gate = input_gates[cuda.blockIdx.z]
        if gate >= 0:
            bias_ih[model * size.sums[0] + gate * size.width + column] = total
        gate = recurrent_gates[cuda.blockIdx.z]
        if gate >= 0:
            bias_hh[model * size.sums[1] + gate * size.width + column] = total


def _launch(kernel: Any, matrix: DeviceArray, slots: int, tables: tuple[Any, ...], *out: Any) -> None:
    """Sum a matrix, or that of each of many models: `out` are arrays of sums, (M,) or (N, M)."""
    *lead, rows, columns = matrix.shape
    if columns == 0:
        return
    # As many parts as each part has rows: adding the parts takes no longer than adding the rows.
    height = max(_ROWS, math.isqrt(rows))
    parts = max(1, -(-rows // height))
    bits = (parts - 1).bit_length()
    most = MAX_GRID_Y >> bits
    if lead and lead[0] > most:
        _launch(kernel, matrix[:most], slots, tables, *(sums[:most] for sums in out))
        _launch(kernel, matrix[most:], slots, tables, *(sums[most:] for sums in out))
        return
    model, stride = (step // matrix.dtype.itemsize for step in (0, *matrix.strides)[-3:-1])
    models = math.prod(lead)
    sums = tuple(array.size // models for array in out)
    size = Columns(rows, columns // slots, stride, height, parts, bits, model, sums)
    threads = min(limits().threads, _THREADS)
    grid = (-(-size.width // threads), models << bits, slots)
    results = empty((models * parts * columns,), np.float64)
    counted = counters(models * grid[0] * slots)
    launch(kernel, grid, threads, span(matrix), size, results, counted, *tables, *map(flat, out))


def column_sums(matrix: DeviceArray, out: DeviceArray | None = None) -> DeviceArray:
    """Sum the rows of a matrix.

    Parameters
    ----------
    matrix : device array (N, M), or one for each of many models
        Its rows are contiguous, and may be part of a wider matrix.
    out : device array (M,), or one for each, optional

    Returns
    -------
    device array (M,), dtype of `matrix`
        Summed in float64.
    """
    if out is None:
        out = empty((*matrix.shape[:-2], *matrix.shape[-1:]), matrix.dtype)
    _launch(column_sums_kernel, matrix, 1, (), out)
    return out


def bias_gradients(
    slots: DeviceArray,
    input_gates: tuple[int, ...],
    recurrent_gates: tuple[int, ...],
    bias_ih: DeviceArray,
    bias_hh: DeviceArray,
) -> None:
    """Sum the gradients of a cell's slots over all steps and sequences: those of its biases.

    Parameters
    ----------
    slots : device array (N, S * H), C-contiguous, or one for each of many models
        H columns for each slot.
    input_gates, recurrent_gates : tuple of S ints
        For each slot the gate whose bias gets its sums, -1 for none.
    bias_ih, bias_hh : device arrays (G * H,), or one for each model
        Get the sums, computed in float64.
    """
    tables = input_gates, recurrent_gates
    _launch(bias_gradients_kernel, slots, len(input_gates), tables, bias_ih, bias_hh)
