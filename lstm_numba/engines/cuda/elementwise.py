"""Elementwise kernels and copies: products, a row added to all rows, blocks of matrices, and transposes."""

from __future__ import annotations

import math

from lstm_numba.engines.cuda.device_array import flat
from lstm_numba.engines.cuda.driver import cuda
from lstm_numba.engines.cuda.grid_stride import models_and_depth, stride_range
from lstm_numba.engines.cuda.launch import (
    MAX_GRID_Y,
    MAX_GRID_Z,
    launch,
    launch_over,
    launch_over_box,
    launch_over_models,
    limits,
)
from lstm_numba.engines.cuda.memory import DeviceArray, empty
from lstm_numba.engines.cuda.options import KERNEL


@cuda.jit(**KERNEL)
def multiply_kernel(a, b, out):
    """``out = a * b``"""
    for i in stride_range(cuda.grid(1), out.size, cuda.gridsize(1)):
        out[i] = a[i] * b[i]


@cuda.jit(**KERNEL)
def add_row_kernel(matrix, rows, row):
    """Add a row to all rows of a matrix."""
    (x, y), (x_step, y_step) = cuda.grid(2), cuda.gridsize(2)
    for n in stride_range(y, rows, y_step):
        for k in stride_range(x, row.size, x_step):
            matrix[n * row.size + k] += row[k]


@cuda.jit(**KERNEL)
def transpose_kernel(matrices, models, rows, columns, out):
    """Transpose matrices in squares through shared memory: global reads and writes are both coalesced."""
    shared = cuda.shared.array(0, out.dtype)
    side, x, y = cuda.blockDim.x, cuda.threadIdx.x, cuda.threadIdx.y
    width = side + 1  # avoids bank conflicts within a column
    left = cuda.blockIdx.x * side
    for model in stride_range(cuda.blockIdx.z, models, cuda.gridDim.z):
        first = model * rows * columns
        for top in stride_range(cuda.blockIdx.y * side, rows, cuda.gridDim.y * side):
            if top + y < rows and left + x < columns:
                shared[y * width + x] = matrices[first + (top + y) * columns + left + x]
            cuda.syncthreads()
            if left + y < columns and top + x < rows:
                out[first + (left + y) * rows + top + x] = shared[x * width + y]
            cuda.syncthreads()


@cuda.jit(**KERNEL)
def transpose_first_kernel(x, a, b, c, out):
    """Exchange the first two dimensions of (a, b, c)."""
    (x0, y0, z0), (x_step, y_step, z_step) = cuda.grid(3), cuda.gridsize(3)
    for i in stride_range(z0, a, z_step):
        for j in stride_range(y0, b, y_step):
            for k in stride_range(x0, c, x_step):
                out[(j * a + i) * c + k] = x[(i * b + j) * c + k]


@cuda.jit(**KERNEL)
def zero_padding_kernel(x, models, steps, batch, width, lengths, model_lengths, bits):
    """Zero the steps after each sequence's end in (N, T, B, width), of `model_lengths` a model."""
    (x0, y0), (x_step, y_step) = cuda.grid(2), cuda.gridsize(2)
    model, model_step, z0, z_step = models_and_depth(bits)
    for n in stride_range(model, models, model_step):
        for b in stride_range(y0, batch, y_step):
            for t in stride_range(lengths[n * model_lengths + b] + z0, steps, z_step):
                for k in stride_range(x0, width, x_step):
                    x[((n * steps + t) * batch + b) * width + k] = 0


@cuda.jit(**KERNEL)
def copy_block_kernel(source, source_offset, source_row, target, target_offset, target_row, rows, columns):
    """Copy a block of a matrix into another, both flat."""
    (x, y), (x_step, y_step) = cuda.grid(2), cuda.gridsize(2)
    for n in stride_range(y, rows, y_step):
        for k in stride_range(x, columns, x_step):
            target[target_offset + n * target_row + k] = source[source_offset + n * source_row + k]


def copy_block(
    source: DeviceArray, source_block: tuple[int, int], target: DeviceArray, target_block: tuple[int, int],
    shape: tuple[int, int],
) -> None:  # fmt: skip
    """Copy a block of a matrix into another.

    Parameters
    ----------
    source, target : device arrays of one dtype, C-contiguous
    source_block, target_block : tuple of int
        Offset of the block's first element, and the stride of its rows.
    shape : tuple of int
        Rows and columns of the block.
    """
    launch_over_box(
        copy_block_kernel, shape, flat(source), *source_block, flat(target), *target_block, *shape
    )


def multiply(a: DeviceArray, b: DeviceArray, out: DeviceArray) -> DeviceArray:
    """``out = a * b``; all of one size and dtype, C-contiguous; `out` may be one of the others."""
    launch_over(multiply_kernel, out.size, flat(a), flat(b), flat(out))
    return out


def add_row(matrix: DeviceArray, row: DeviceArray) -> DeviceArray:
    """Add `row` (M,) to every row of `matrix` (N, M), C-contiguous, in place."""
    launch_over_box(add_row_kernel, matrix.shape, flat(matrix), matrix.shape[0], row)
    return matrix


def zero_padding(x: DeviceArray, lengths: DeviceArray) -> None:
    """Zero the steps of `x` (T, B, I), or (N, T, B, I), after each sequence's end.

    Both are C-contiguous, and `lengths` are (B,), or (N, B).
    """
    shape = (1,) * (4 - x.ndim) + x.shape
    own = shape[2] if lengths.ndim > 1 else 0
    launch_over_models(zero_padding_kernel, shape, flat(x), *shape, flat(lengths), own)


def transpose(matrix: DeviceArray, out: DeviceArray | None = None) -> DeviceArray:
    """Copy of a C-contiguous matrix (M, N), or of those of many models, as (N, M), C-contiguous."""
    *lead, rows, columns = matrix.shape
    out = empty((*lead, columns, rows), matrix.dtype) if out is None else out
    if out.size:
        side, models = limits().tile, math.prod(lead)
        grid = (-(-columns // side), min(-(-rows // side), MAX_GRID_Y), min(models, MAX_GRID_Z))
        shared = side * (side + 1) * matrix.dtype.itemsize
        launch(
            transpose_kernel, grid, (side, side), flat(matrix), models, rows, columns, flat(out),
            shared=shared,
        )  # fmt: skip
    return out


def transpose_first(x: DeviceArray, out: DeviceArray | None = None) -> DeviceArray:
    """Copy of a C-contiguous array (A, B, C) as (B, A, C), C-contiguous."""
    a, b, c = x.shape
    out = empty((b, a, c), x.dtype) if out is None else out
    launch_over_box(transpose_first_kernel, x.shape, flat(x), a, b, c, flat(out))
    return out
