"""Matrix products of any size: blocks packed for the cache around the register tile of `tile.py`.

The blocking is Goto & van de Geijn's ("Anatomy of high-performance matrix multiplication", ACM TOMS 34,
2008). Each thread computes its own part of C, whole inner dimension included: a result does not depend
on the number of threads, and no second library's threads compete with Numba's for the cores.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import njit, prange

from lstm_numba.cpu.arrays import aligned_start, flatten
from lstm_numba.cpu.options import PARALLEL, SERIAL
from lstm_numba.cpu.target import lanes, tile_rows
from lstm_numba.cpu.tile import tile_product
from lstm_numba.cpu.transpose import run_copier, transpose_square

#: Width of a register tile in vectors. Two by twelve rows and four by six need the same registers;
#: two vectors waste less on narrow matrices.
VECTORS = 2
ROWS = tile_rows(VECTORS)
LANES = {"float32": lanes(np.float32), "float64": lanes(np.float64)}
#: Blocks of the inner dimension, of rows of A (level-2 cache) and of columns of B (shared cache).
DEPTH = 256
HEIGHT = 8 * ROWS
WIDTH = 1024

#: Products smaller than this many multiplications stay on the calling thread.
_SERIAL_LIMIT = 1 << 16

_copy_strip_row = run_copier(lambda dtype: ROWS)
_copy_panel_row = run_copier(lambda dtype: VECTORS * lanes(dtype.name))


@njit(**SERIAL)
def _pack_rows(a, offset, row, column, height, depth, packed, start):
    """Pack A (height, depth) into strips of ROWS rows, number (m, k) of a strip at ``k * ROWS + m``."""
    whole = height // ROWS * ROWS if row == 1 else 0
    for k in range(depth):
        for strip in range(0, whole, ROWS):
            _copy_strip_row(a, offset + k * column + strip, packed, start + strip * depth + k * ROWS)
    for strip in range(whole, height, ROWS):
        for m in range(strip, min(strip + ROWS, height)):
            for k in range(depth):
                packed[start + strip * depth + k * ROWS + m - strip] = a[offset + m * row + k * column]


@njit(**SERIAL)
def _pack_columns(b, offset, row, column, depth, width, panel, packed, start):
    """Pack B (depth, width) into panels of `panel` columns, each row of a panel contiguous; zero beyond."""
    for first in range(0, width, panel):
        columns = min(panel, width - first)
        base = start + first * depth
        source = offset + first * column
        if column == 1 and columns == panel:
            for k in range(depth):
                _copy_panel_row(b, source + k * row, packed, base + k * panel)
        elif column == 1:
            for k in range(depth):
                for n in range(columns):
                    packed[base + k * panel + n] = b[source + k * row + n]
        else:
            lane = panel // VECTORS
            whole_n = columns // lane * lane if row == 1 else 0
            whole_k = depth // lane * lane
            for n in range(0, whole_n, lane):
                for k in range(0, whole_k, lane):
                    transpose_square(b, source + k + n * column, column, packed, base + k * panel + n, panel)
                for k in range(whole_k, depth):
                    for m in range(n, n + lane):
                        packed[base + k * panel + m] = b[source + k * row + m * column]
            for n in range(whole_n, columns):
                for k in range(depth):
                    packed[base + k * panel + n] = b[source + k * row + n * column]
        if columns < panel:
            for k in range(depth):
                for n in range(columns, panel):
                    packed[base + k * panel + n] = 0


@njit(**SERIAL)
def _block(
    a,
    a_start,
    a_row,
    a_column,
    strip_depth,
    b,
    b_start,
    height,
    depth,
    width,
    panel,
    edge,
    c,
    c_at,
    c_row,
    add,
):
    """C (+)= A B on packed B and either packed A (``strip_depth > 0``) or rows of A as they lie."""
    lane = panel // VECTORS
    for first in range(0, width, panel):
        columns = min(panel, width - first)
        for strip in range(0, height, ROWS):
            rows = min(ROWS, height - strip)
            source = a_start + strip * (strip_depth if strip_depth > 0 else a_row)
            target = c_at + strip * c_row + first
            panel_start = b_start + first * depth
            if columns == panel:
                tile_product(
                    VECTORS,
                    rows,
                    a,
                    source,
                    a_row,
                    a_column,
                    b,
                    panel_start,
                    depth,
                    c,
                    target,
                    c_row,
                    lane,
                    add,
                )
            else:
                tile_product(
                    VECTORS,
                    rows,
                    a,
                    source,
                    a_row,
                    a_column,
                    b,
                    panel_start,
                    depth,
                    edge,
                    0,
                    panel,
                    lane,
                    False,
                )
                for m in range(rows):
                    for n in range(columns):
                        value = edge[m * panel + n]
                        c[target + m * c_row + n] = c[target + m * c_row + n] + value if add else value


@njit(**SERIAL)
def _part(
    a, a_at, a_row, a_column, b, b_at, b_row, b_column, c, c_at, c_row, height, width, inner, panel, add
):
    """One thread's share: all blocks of C (height, width)."""
    depth = min(DEPTH, inner)
    block_width = min(WIDTH, -(-width // panel) * panel)
    pack_a = a_column != 1
    b_packed = np.empty(depth * block_width + 64, c.dtype)
    b_start = aligned_start(b_packed)
    a_packed = np.empty(depth * HEIGHT + 64 if pack_a else 1, c.dtype)
    a_start = aligned_start(a_packed) if pack_a else 0
    edge = np.empty(ROWS * panel, c.dtype)
    for k in range(0, inner, depth):
        d = min(depth, inner - k)
        for n in range(0, width, block_width):
            w = min(block_width, width - n)
            _pack_columns(b, b_at + k * b_row + n * b_column, b_row, b_column, d, w, panel, b_packed, b_start)
            for m in range(0, height, HEIGHT):
                h = min(HEIGHT, height - m)
                corner = a_at + m * a_row + k * a_column
                target = c_at + m * c_row + n
                more = add or k > 0
                if pack_a:
                    _pack_rows(a, corner, a_row, a_column, h, d, a_packed, a_start)
                    _block(
                        a_packed,
                        a_start,
                        1,
                        ROWS,
                        d,
                        b_packed,
                        b_start,
                        h,
                        d,
                        w,
                        panel,
                        edge,
                        c,
                        target,
                        c_row,
                        more,
                    )
                else:
                    _block(
                        a,
                        corner,
                        a_row,
                        1,
                        0,
                        b_packed,
                        b_start,
                        h,
                        d,
                        w,
                        panel,
                        edge,
                        c,
                        target,
                        c_row,
                        more,
                    )


@njit(**PARALLEL)
def _product(a, a_row, a_column, b, b_row, b_column, c, c_row, height, width, inner, panel, add, parts):
    """Split C among `parts` threads along its longer side."""
    strips = -(-height // ROWS)
    panels = -(-width // panel)
    by_rows = height >= width
    pieces = strips if by_rows else panels
    for part in prange(parts):
        first = part * pieces // parts
        last = (part + 1) * pieces // parts
        if first < last:
            if by_rows:
                top = first * ROWS
                h = min(height, last * ROWS) - top
                _part(
                    a, top * a_row, a_row, a_column, b, 0, b_row, b_column, c, top * c_row, c_row,
                    h, width, inner, panel, add,
                )  # fmt: skip
            else:
                left = first * panel
                w = min(width, last * panel) - left
                _part(
                    a, 0, a_row, a_column, b, left * b_column, b_row, b_column, c, left, c_row,
                    height, w, inner, panel, add,
                )  # fmt: skip


def matmul(a: Any, b: Any, out: Any = None, accumulate: bool = False) -> Any:
    """Matrix product on Numba's threads.

    Parameters
    ----------
    a, b : ndarray, shapes (M, K) and (K, N)
        float32 or float64, both the same; any strides (``a.T`` costs no copy).
    out : ndarray, shape (M, N), optional
        Where the product goes; rows may lie apart, the numbers of a row must be neighbours.
    accumulate : bool
        Add to `out` instead of overwriting it.

    Returns
    -------
    ndarray, shape (M, N)

    Raises
    ------
    TypeError
        The dtypes differ or are not float32 or float64.
    ValueError
        The shapes do not fit, or `out` cannot be written row by row.
    """
    if a.dtype != b.dtype or a.dtype.name not in LANES:
        raise TypeError(f"a, b: expected float32 or float64, both the same, got {a.dtype} and {b.dtype}")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"a, b: expected shapes (M, K) and (K, N), got {a.shape} and {b.shape}")
    (height, inner), width = a.shape, b.shape[1]
    if out is None:
        out = np.empty((height, width), a.dtype)
    elif out.shape != (height, width) or out.dtype != a.dtype:
        raise ValueError(f"out: expected {a.dtype} {(height, width)}, got {out.dtype} {out.shape}")
    if out.size == 0:
        return out
    if inner == 0:
        if not accumulate:
            out[...] = 0
        return out
    if (width > 1 and out.strides[1] != out.itemsize) or not out.flags.writeable:
        raise ValueError("out: expected a writable array whose rows are contiguous")
    a_flat, a_row, a_column = flatten(a)
    b_flat, b_row, b_column = flatten(b)
    c_flat, c_row, _ = flatten(out)
    parts = 1 if height * width * inner < _SERIAL_LIMIT else numba.get_num_threads()
    _product(
        a_flat, a_row, a_column, b_flat, b_row, b_column, c_flat, c_row,
        height, width, inner, VECTORS * LANES[a.dtype.name], accumulate, parts,
    )  # fmt: skip
    return out
