"""Matrix products: a tiled kernel of our own, or NVIDIA's cuBLAS where CuPy is installed.

In the kernel a block of threads multiplies a strip of rows with a strip of columns, a chunk of the depth at a
time in shared memory; each thread holds a register tile of the result. While a chunk is multiplied, the next
one is loaded. V. Volkov, J. Demmel, "Benchmarking GPUs to tune dense linear algebra", SC 2008.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.engines.cuda import cublas
from lstm_numba.engines.cuda.device_array import span
from lstm_numba.engines.cuda.driver import SHARED_ALIGNMENT, cuda
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.last_block import last_of
from lstm_numba.engines.cuda.launch import MAX_GRID_Z, launch, limits
from lstm_numba.engines.cuda.memory import DeviceArray, counters, empty
from lstm_numba.engines.cuda.microkernel import (
    LargeTile,
    SmallTile,
    add_outer_product,
    clamped_offsets,
    gather_side,
    load_tile,
    load_vectors,
    masked_offsets,
    side_zeros,
    store_tile,
    tile_side,
    tile_zeros,
)
from lstm_numba.engines.cuda.model_arrays import of_model
from lstm_numba.engines.cuda.options import DEVICE, KERNEL
from lstm_numba.engines.cuda.scalar import add_tuples, store_scalars

#: With fewer blocks than this a device has idle multiprocessors, and the depth is split among more blocks.
_BLOCKS = 256
#: Chunks of the depth that a block gets at least, and blocks among which a depth is split at most.
_CHUNKS = 8
_SPLITS = 64
#: Padding of rows in shared memory against bank conflicts; a multiple of four keeps vectors aligned.
_PAD = 4


class Extents(NamedTuple):
    """Sizes and strides of a product; strides count elements.

    Attributes
    ----------
    rows, columns, depth : int
    share : int
        Depth of one block's part.
    a_row, a_column, b_row, b_column, c_row : int
        Strides.
    accumulate : int
        1 to add to the result.
    """

    rows: Any
    columns: Any
    depth: Any
    share: Any
    a_row: Any
    a_column: Any
    b_row: Any
    b_column: Any
    c_row: Any
    accumulate: Any


@cuda.jit(**DEVICE)
def _load_side(tile, array, offsets, stride, k, last, zeros):
    """This thread's elements of a chunk; zeros past the block's part of the depth."""
    return gather_side(tile, array, offsets, k * stride) if k < last else zeros


@cuda.jit(**DEVICE)
def _multiply_part(tile, a, b, c, size, parts, counters, part, count, square):
    """One of `count` parts of the depth for one square of the result."""
    side, x, y = cuda.blockDim.x, cuda.threadIdx.x, cuda.threadIdx.y
    height = tile_side(tile) * side
    width = height + _PAD
    shared = cuda.shared.array(0, c.dtype, SHARED_ALIGNMENT)
    b_offset = side * width
    top, left = cuda.blockIdx.x * height, cuda.blockIdx.y * height
    first = part * size.share
    last = min(first + size.share, size.depth)
    # Neighbouring threads load neighbouring elements, along the depth or across.
    a_k, a_index = (x, y) if size.a_column == 1 else (y, x)
    b_k, b_index = (y, x) if size.b_column == 1 else (x, y)
    a_offsets = clamped_offsets(tile, top + a_index, side, size.rows, size.a_row)
    b_offsets = clamped_offsets(tile, left + b_index, side, size.columns, size.b_column)
    zeros, sums = side_zeros(tile, c), tile_zeros(tile, c)
    a_next = _load_side(tile, a, a_offsets, size.a_column, first + a_k, last, zeros)
    b_next = _load_side(tile, b, b_offsets, size.b_row, first + b_k, last, zeros)
    for start in stride_range(first, last, side):
        store_scalars(shared, a_k * width + a_index, side, a_next)
        store_scalars(shared, b_offset + b_k * width + b_index, side, b_next)
        cuda.syncthreads()
        a_next = _load_side(tile, a, a_offsets, size.a_column, start + side + a_k, last, zeros)
        b_next = _load_side(tile, b, b_offsets, size.b_row, start + side + b_k, last, zeros)
        for k in range(side):
            column = load_vectors(tile, shared, k * width + 4 * y, 4 * side)
            row = load_vectors(tile, shared, b_offset + k * width + 4 * x, 4 * side)
            sums = add_outer_product(sums, column, row)
        cuda.syncthreads()
    if count > 1:
        area, threads = height * height, side * side
        offset = square * count * area + y * side + x
        store_scalars(parts, offset + part * area, threads, sums)
        if not last_of(counters, square, count):
            return
        sums = load_tile(tile, parts, offset, threads)
        for n in range(1, count):
            sums = add_tuples(sums, load_tile(tile, parts, offset + n * area, threads))
    rows = masked_offsets(tile, top + 4 * y, 4 * side, size.rows, size.c_row)
    columns = masked_offsets(tile, left + 4 * x, 4 * side, size.columns, 1)
    store_tile(c, 0, rows, columns, sums, size.accumulate)


@cuda.jit(**KERNEL)
def product_kernel(tile, a, b, c, size, parts, counters):
    """Multiply matrices; see `matmul`. The blocks are laid out as (rows, columns, parts of the depth).

    Where the depth is split, blocks store their parts, and the last block of a tile adds them in order.

    Parameters
    ----------
    tile : SmallTile or LargeTile
    a, b, c : flat device arrays
    size : Extents
    parts : flat device array
        A square of the result for each block, laid out so that neighbouring threads store neighbouring
        elements.
    counters : int32 device array
        One for each square of the result.
    """
    square = cuda.blockIdx.x * cuda.gridDim.y + cuda.blockIdx.y
    _multiply_part(tile, a, b, c, size, parts, counters, cuda.blockIdx.z, cuda.gridDim.z, square)


class OfModels(NamedTuple):
    """The products of many models.

    Attributes
    ----------
    strides : tuple of int
        Of a, b and c, from one model to the next.
    parts, bits : int
        Parts of the depth; along z of the grid are 2 to the power `bits` blocks for them for each model.
    """

    strides: Any
    parts: Any
    bits: Any


@cuda.jit(**KERNEL)
def products_kernel(tile, a, b, c, size, parts, counters, models):
    """As `product_kernel`, for each of many models; `models` is an `OfModels`."""
    model, part = cuda.blockIdx.z >> models.bits, cuda.blockIdx.z & ((1 << models.bits) - 1)
    if part < models.parts:
        square = (model * cuda.gridDim.x + cuda.blockIdx.x) * cuda.gridDim.y + cuda.blockIdx.y
        a, b, c = of_model((a, b, c), models.strides, model)
        _multiply_part(tile, a, b, c, size, parts, counters, part, models.parts, square)


def _ceil_div(count: int, size: int) -> int:
    return -(-count // size)


def _plan(rows: int, columns: int, depth: int, models: int = 1) -> tuple[Any, tuple[int, int], int]:
    """Register tile, blocks over the result, and parts of the depth."""
    side = limits().tile
    for tile in (LargeTile(), SmallTile()):
        height = tile.side * side
        grid = (_ceil_div(rows, height), _ceil_div(columns, height))
        if models * grid[0] * grid[1] >= _BLOCKS // 2:
            break
    wanted = _ceil_div(_BLOCKS, models * grid[0] * grid[1])
    parts = max(1, min(wanted, depth // (_CHUNKS * side), _SPLITS)) if wanted > 1 else 1
    return tile, grid, parts


def _multiply(a: DeviceArray, b: DeviceArray, out: DeviceArray, accumulate: bool) -> None:
    (rows, depth), (_, columns), side = a.shape[-2:], b.shape[-2:], limits().tile
    models = out.shape[0] if out.ndim > 2 else 1
    tile, grid, parts = _plan(rows, columns, depth, models)
    share = depth if parts == 1 else _ceil_div(_ceil_div(depth, parts), side) * side
    parts = max(1, _ceil_div(depth, share)) if share else 1
    bits, height = (parts - 1).bit_length(), tile.side * side
    most = MAX_GRID_Z >> bits
    if models > most:
        for part in (slice(0, most), slice(most, models)):
            _multiply(_of_models(a, part), _of_models(b, part), out[part], accumulate)
        return
    size = Extents(
        rows, columns, depth, share, *element_strides(a), *element_strides(b), element_strides(out)[0],
        int(accumulate),
    )  # fmt: skip
    many = (OfModels(tuple(map(model_stride, (a, b, out))), parts, bits),) if out.ndim > 2 else ()
    tiles = models * grid[0] * grid[1]
    results = empty((tiles * parts * height**2 if parts > 1 else 0,), a.dtype)
    launch(
        products_kernel if many else product_kernel, (*grid, models << bits if many else parts), (side, side),
        tile, span(a), span(b), span(out), size, results, counters(tiles if parts > 1 else 0), *many,
        shared=2 * side * (height + _PAD) * a.dtype.itemsize,
    )  # fmt: skip


def _of_models(matrix: DeviceArray, part: slice) -> DeviceArray:
    """Some models' matrices; a matrix of all models as it is."""
    return matrix[part] if matrix.ndim > 2 else matrix


def model_stride(matrix: DeviceArray) -> int:
    """Stride in elements from one model's matrix to the next one's; 0 for a matrix of all models."""
    return matrix.strides[0] // matrix.dtype.itemsize if matrix.ndim > 2 else 0


def element_strides(matrix: DeviceArray) -> tuple[int, int]:
    """Strides of a matrix in elements; that of a single row or column is meaningless, and made to fit."""
    row, column = (stride // matrix.dtype.itemsize for stride in matrix.strides[-2:])
    rows, columns = matrix.shape[-2:]
    if columns == 1:
        column = 1
    if rows == 1:
        row = columns if column == 1 else 1
    return row, column


@functools.lru_cache(maxsize=1)
def _default() -> str:
    return "cublas" if cublas.available() else "numba"


_chosen: str | None = None


def backend() -> str:
    """What computes products: "cublas", or "numba" for our own kernel."""
    return _default() if _chosen is None else _chosen


def use(name: str | None) -> None:
    """Compute products with "cublas" or "numba"; None for cuBLAS where it is installed.

    Raises
    ------
    ValueError
        There is no such backend here.
    """
    global _chosen
    if name not in (None, "cublas", "numba") or (name == "cublas" and not cublas.available()):
        raise ValueError(f"backend: expected numba, or cublas with CuPy installed, got {name!r}")
    _chosen = name


def allow_tf32(on: bool) -> None:
    """Let cuBLAS round float32 operands to TF32's ten bits, which is faster; off by default."""
    cublas.allow_tf32(on)


def matmul(
    a: DeviceArray, b: DeviceArray, out: DeviceArray | None = None, accumulate: bool = False
) -> DeviceArray:
    """Matrix product.

    Parameters
    ----------
    a, b : device arrays, shapes (M, K) and (K, N)
        float32 or float64, both the same. Rows or columns are contiguous:
        `lstm_numba.engines.cuda.device_array.transposed` and `columns` cost no copy. For many models either
        or both have an axis of them before; what has none is multiplied with each.
    out : device array (M, N), optional
        Gets the product; its rows are contiguous, and may be part of a wider matrix.
    accumulate : bool
        Add to `out` instead of overwriting it.

    Returns
    -------
    device array (M, N)

    Raises
    ------
    TypeError
        The dtypes differ or are not float32 or float64.
    ValueError
        The shapes or strides do not fit.
    """
    if a.dtype != b.dtype or a.dtype not in (np.float32, np.float64):
        raise TypeError(f"a, b: expected float32 or float64, both the same, got {a.dtype} and {b.dtype}")
    leads, depth = {matrix.shape[:-2] for matrix in (a, b) if matrix.ndim > 2}, a.shape[-1:]
    if not {a.ndim, b.ndim} <= {2, 3} or depth != b.shape[-2:-1] or len(leads) > 1:
        raise ValueError(f"a, b: expected shapes (M, K) and (K, N), got {a.shape} and {b.shape}")
    shape = (*(leads.pop() if leads else ()), *a.shape[-2:-1], *b.shape[-1:])
    if out is None:
        if accumulate:
            raise ValueError("accumulate: expected an out to add to")
        out = empty(shape, a.dtype)
    elif out.shape != shape or out.dtype != a.dtype:
        raise ValueError(f"out: expected {a.dtype} {shape}, got {out.dtype} {out.shape}")
    if out.size == 0 or (depth == (0,) and accumulate):
        return out
    if element_strides(out)[1] != 1:
        raise ValueError("out: expected an array whose rows are contiguous")
    if a.size and (1 not in element_strides(a) or 1 not in element_strides(b)):
        raise ValueError("a, b: expected matrices whose rows or columns are contiguous")
    if a.size and backend() == "cublas":
        cublas.multiply(a, b, out, accumulate, element_strides, model_stride)
    else:
        _multiply(a, b, out, accumulate)
    return out
