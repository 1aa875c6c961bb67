"""Small passes over arrays: products number by number, a row added to all rows, blocks, and transposes."""

from __future__ import annotations

from lstm_numba.engines.cuda.driver import cuda
from lstm_numba.engines.cuda.grid_stride import strides
from lstm_numba.engines.cuda.launch import launch, launch_over, launch_over_box, limits
from lstm_numba.engines.cuda.memory import DeviceArray, empty, flat
from lstm_numba.engines.cuda.options import KERNEL

#: Blocks along the second dimension of a grid, at most.
_GRID = 65535


@cuda.jit(**KERNEL)
def multiply_kernel(a, b, out):
    """``out = a * b``"""
    for i in strides(cuda.grid(1), out.size, cuda.gridsize(1)):
        out[i] = a[i] * b[i]


@cuda.jit(**KERNEL)
def add_row_kernel(matrix, rows, row):
    """Add a row to all rows of a matrix."""
    (x, y), (across, down) = cuda.grid(2), cuda.gridsize(2)
    for n in strides(y, rows, down):
        for k in strides(x, row.size, across):
            matrix[n * row.size + k] += row[k]


@cuda.jit(**KERNEL)
def transpose_kernel(matrix, rows, columns, out):
    """Transpose a matrix, square by square: read along its rows, written along its columns."""
    shared = cuda.shared.array(0, out.dtype)
    side, x, y = cuda.blockDim.x, cuda.threadIdx.x, cuda.threadIdx.y
    width = side + 1  # or a column of the square would lie in a single bank
    left = cuda.blockIdx.x * side
    for top in strides(cuda.blockIdx.y * side, rows, cuda.gridDim.y * side):
        if top + y < rows and left + x < columns:
            shared[y * width + x] = matrix[(top + y) * columns + left + x]
        cuda.syncthreads()
        if left + y < columns and top + x < rows:
            out[(left + y) * rows + top + x] = shared[x * width + y]
        cuda.syncthreads()


@cuda.jit(**KERNEL)
def transpose_first_kernel(x, a, b, c, out):
    """Exchange the first two dimensions of (a, b, c)."""
    (first, second, third), (across, down, deep) = cuda.grid(3), cuda.gridsize(3)
    for i in strides(third, a, deep):
        for j in strides(second, b, down):
            for k in strides(first, c, across):
                out[(j * a + i) * c + k] = x[(i * b + j) * c + k]


@cuda.jit(**KERNEL)
def clear_beyond_kernel(x, steps, lengths, width):
    """Zero what lies past a sequence's end in (T, B, width)."""
    (first, second, third), (across, down, deep) = cuda.grid(3), cuda.gridsize(3)
    for b in strides(second, lengths.size, down):
        for t in strides(lengths[b] + third, steps, deep):
            for k in strides(first, width, across):
                x[(t * lengths.size + b) * width + k] = 0


@cuda.jit(**KERNEL)
def copy_block_kernel(source, source_at, source_row, target, target_at, target_row, rows, columns):
    """Copy a block of a matrix to a place in another, both flat."""
    (x, y), (across, down) = cuda.grid(2), cuda.gridsize(2)
    for n in strides(y, rows, down):
        for k in strides(x, columns, across):
            target[target_at + n * target_row + k] = source[source_at + n * source_row + k]


def copy_block(
    source: DeviceArray, source_at: tuple[int, int], target: DeviceArray, target_at: tuple[int, int],
    shape: tuple[int, int],
) -> None:  # fmt: skip
    """Copy a block of a matrix to a place in another.

    Parameters
    ----------
    source, target : device arrays of one dtype, C-contiguous
    source_at, target_at : tuple of int
        Place of the block's first number, and numbers from one of its rows to the next.
    shape : tuple of int
        Rows and columns of the block.
    """
    launch_over_box(copy_block_kernel, shape, flat(source), *source_at, flat(target), *target_at, *shape)


def multiply(a: DeviceArray, b: DeviceArray, out: DeviceArray) -> DeviceArray:
    """Put ``a * b`` to `out`; all of one size and dtype, C-contiguous, `out` possibly one of the others."""
    launch_over(multiply_kernel, out.size, flat(a), flat(b), flat(out))
    return out


def add_row(matrix: DeviceArray, row: DeviceArray) -> DeviceArray:
    """Add `row` (M,) to every row of `matrix` (N, M), C-contiguous, in place."""
    launch_over_box(add_row_kernel, matrix.shape, flat(matrix), matrix.shape[0], row)
    return matrix


def clear_beyond(x: DeviceArray, lengths: DeviceArray) -> None:
    """Zero the steps of `x` (T, B, I), C-contiguous, that lie past a sequence's end; `lengths` are (B,)."""
    launch_over_box(clear_beyond_kernel, x.shape, flat(x), x.shape[0], lengths, x.shape[2])


def transpose(matrix: DeviceArray, out: DeviceArray | None = None) -> DeviceArray:
    """Copy of a C-contiguous matrix (M, N) as (N, M), C-contiguous."""
    rows, columns = matrix.shape
    out = empty((columns, rows), matrix.dtype) if out is None else out
    if out.size:
        side = limits().tile
        grid = (-(-columns // side), min(-(-rows // side), _GRID))
        shared = side * (side + 1) * matrix.dtype.itemsize
        launch(transpose_kernel, grid, (side, side), flat(matrix), rows, columns, flat(out), shared=shared)
    return out


def transpose_first(x: DeviceArray, out: DeviceArray | None = None) -> DeviceArray:
    """Copy of a C-contiguous array (A, B, C) as (B, A, C), C-contiguous."""
    a, b, c = x.shape
    out = empty((b, a, c), x.dtype) if out is None else out
    launch_over_box(transpose_first_kernel, x.shape, flat(x), a, b, c, flat(out))
    return out
