"""Matrix products of any size: blocks packed for the cache around the register tile of `tile.py`.

The blocking is Goto & van de Geijn's ("Anatomy of high-performance matrix multiplication", ACM TOMS 34,
2008). Each thread computes its own part of C, whole inner dimension included: a result does not depend
on the number of threads, and no second library's threads compete with Numba's for the cores.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numba import njit, prange

from lstm_numba.cpu.arrays import aligned_empty, aligned_start, flatten
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
DEPTH = 384
HEIGHT = 8 * ROWS
WIDTH = 2048

#: Matrices that one call can multiply A with.
OPERANDS = 3
#: Products smaller than this many multiplications stay on the calling thread.
_SERIAL_LIMIT = 1 << 16

_copy_strip_row = run_copier(lambda dtype: ROWS)
_copy_panel_row = run_copier(lambda dtype: VECTORS * lanes(dtype.name))


class _Shape(NamedTuple):
    """Inner dimension; per operand the strides of B, the row stride of C, and the number of columns."""

    inner: int
    b_row: Any
    b_column: Any
    c_row: Any
    width: Any


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
def _panel_width(columns, lane):
    """Numbers in a row of a panel: two vectors, or one where that covers what is left of the columns."""
    return lane if columns <= lane else VECTORS * lane


@njit(**SERIAL)
def _pack_columns(b, offset, row, column, depth, width, lane, packed, start):
    """Pack B (depth, width) into panels, each row of a panel contiguous; zero beyond the last column."""
    for first in range(0, width, VECTORS * lane):
        panel = _panel_width(width - first, lane)
        columns = min(panel, width - first)
        base = start + first * depth
        source = offset + first * column
        if column == 1 and columns == VECTORS * lane:
            for k in range(depth):
                _copy_panel_row(b, source + k * row, packed, base + k * panel)
        elif column == 1:
            for k in range(depth):
                for n in range(columns):
                    packed[base + k * panel + n] = b[source + k * row + n]
        else:
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
def _tile(rows, a, a_at, a_row, a_column, b, b_at, depth, panel, lane, c, c_at, c_row, add):
    """A register tile of either width."""
    if panel == lane:
        tile_product(1, rows, a, a_at, a_row, a_column, b, b_at, depth, c, c_at, c_row, lane, add)
    else:
        tile_product(VECTORS, rows, a, a_at, a_row, a_column, b, b_at, depth, c, c_at, c_row, lane, add)


@njit(**SERIAL)
def _block(
    a, a_at, a_row, a_column, a_strip, b, b_start, height, depth, width, lane, edge, c, c_at, c_row, add
):  # fmt: skip
    """C (+)= A B on packed B; strips of A, packed or as they lie, are `a_strip` numbers apart."""
    for first in range(0, width, VECTORS * lane):
        panel = _panel_width(width - first, lane)
        columns = min(panel, width - first)
        b_at = b_start + first * depth
        for strip in range(0, height, ROWS):
            rows = min(ROWS, height - strip)
            source = a_at + strip // ROWS * a_strip
            target = c_at + strip * c_row + first
            if columns == panel:
                _tile(rows, a, source, a_row, a_column, b, b_at, depth, panel, lane, c, target, c_row, add)
            else:
                _tile(rows, a, source, a_row, a_column, b, b_at, depth, panel, lane, edge, 0, panel, False)
                for m in range(rows):
                    for n in range(columns):
                        value = edge[m * panel + n]
                        c[target + m * c_row + n] = c[target + m * c_row + n] + value if add else value


@njit(**SERIAL)
def _part(a, a_row, a_column, bs, cs, shape, segments, first, last, lefts, rights, lane, add):
    """One thread's share: strips [first, last) of A, counted over its segments, and columns of each B."""
    inner = shape.inner
    depth = -(-inner // -(-inner // DEPTH))
    pack_a = a_column != 1
    widths = np.zeros(OPERANDS, np.int64)
    starts = np.zeros(OPERANDS + 1, np.int64)
    for n in range(OPERANDS):
        starts[n + 1] = starts[n] + depth * min(WIDTH, -(-(rights[n] - lefts[n]) // lane) * lane)
    b_packed = np.empty(starts[OPERANDS] + 64, a.dtype)
    b_start = aligned_start(b_packed)
    a_packed = np.empty(depth * HEIGHT + 64 if pack_a else 1, a.dtype)
    a_start = aligned_start(a_packed) if pack_a else 0
    edge = np.empty(ROWS * VECTORS * lane, a.dtype)
    for k in range(0, inner, depth):
        d = min(depth, inner - k)
        more = add or k > 0
        for left in range(0, np.max(rights - lefts), WIDTH):
            for n in range(OPERANDS):
                widths[n] = max(0, min(WIDTH, rights[n] - lefts[n] - left))
                row, column = shape.b_row[n], shape.b_column[n]
                corner = k * row + (lefts[n] + left) * column
                _pack_columns(bs[n], corner, row, column, d, widths[n], lane, b_packed, b_start + starts[n])
            passed = 0
            for segment in range(len(segments)):
                a_first, height = segments[segment, 0], segments[segment, 1]
                top = max(first - passed, 0) * ROWS
                bottom = min((last - passed) * ROWS, height)
                passed += -(-height // ROWS)
                for m in range(top, bottom, HEIGHT):
                    h = min(HEIGHT, bottom - m)
                    strips, source, strip_row, strip_column, strip = (
                        a,
                        (a_first + m) * a_row + k,
                        a_row,
                        1,
                        ROWS * a_row,
                    )
                    if pack_a:
                        _pack_rows(
                            a, (a_first + m) * a_row + k * a_column, a_row, a_column, h, d, a_packed, a_start
                        )
                        strips, source, strip_row, strip_column, strip = a_packed, a_start, 1, ROWS, ROWS * d
                    for n in range(OPERANDS):
                        c_first = segments[segment, 2 + n]
                        if c_first >= 0 and widths[n] > 0:
                            target = (c_first + m) * shape.c_row[n] + lefts[n] + left
                            _block(
                                strips, source, strip_row, strip_column, strip, b_packed, b_start + starts[n],
                                h, d, widths[n], lane, edge, cs[n], target, shape.c_row[n], more,
                            )  # fmt: skip


@njit(**SERIAL)
def _product(a, a_row, a_column, bs, cs, shape, segments, lane, add, part, parts):
    """One of `parts` parts of the products, which are split along their longer side."""
    strips = 0
    for segment in range(len(segments)):
        strips += -(-segments[segment, 1] // ROWS)
    lefts = np.zeros(OPERANDS, np.int64)
    rights = shape.width.copy()
    if strips * ROWS >= np.sum(rights):
        first, last = part * strips // parts, (part + 1) * strips // parts
    else:
        first, last = 0, strips
        panel = VECTORS * lane
        for n in range(OPERANDS):
            panels = -(-shape.width[n] // panel)
            lefts[n] = part * panels // parts * panel
            rights[n] = min(shape.width[n], (part + 1) * panels // parts * panel)
    if first < last and np.any(lefts < rights):
        _part(a, a_row, a_column, bs, cs, shape, segments, first, last, lefts, rights, lane, add)


@njit(**PARALLEL)
def _product_parallel(a, a_row, a_column, bs, cs, shape, segments, lane, add, parts):
    for part in prange(parts):
        _product(a, a_row, a_column, bs, cs, shape, segments, lane, add, part, parts)


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
    shape = (a.shape[0], b.shape[1])
    if out is None:
        out = aligned_empty(shape, a.dtype)
    elif out.shape != shape or out.dtype != a.dtype:
        raise ValueError(f"out: expected {a.dtype} {shape}, got {out.dtype} {out.shape}")
    if out.size == 0:
        return out
    if a.shape[1] == 0:
        if not accumulate:
            out[...] = 0
        return out
    if (shape[1] > 1 and out.strides[1] != out.itemsize) or not out.flags.writeable:
        raise ValueError("out: expected a writable array whose rows are contiguous")
    products(a, [(b, out)], [(0, shape[0], (0,))], accumulate)
    return out


def products(
    a: Any,
    operands: list[tuple[Any, Any]],
    segments: list[tuple[int, int, tuple[int, ...]]],
    accumulate: bool,
) -> None:
    """Products of row segments of one matrix with up to three others, each part of it packed only once.

    Parameters
    ----------
    a : ndarray, shape (M, K)
    operands : list of (b, out)
        Matrices (K, N) and where their products go; what `matmul` says of them holds, but is not checked.
    segments : list of (first, rows, targets)
        Rows ``[first, first + rows)`` of `a` and, for every operand, the first row of its `out` that they
        are for, or -1 where the operand is not multiplied with them.
    accumulate : bool
        Add to the outs instead of overwriting them.
    """
    a_flat, a_row, a_column = flatten(a)
    spare = OPERANDS - len(operands)
    bs = [flatten(b) for b, _ in operands]
    cs = [flatten(out) for _, out in operands]
    widths = [b.shape[1] for b, _ in operands]
    numbers = np.array(
        [[b[1], b[2], c[1], width] for b, c, width in zip(bs, cs, widths, strict=True)] + [[0] * 4] * spare
    ).T
    shape = _Shape(a.shape[1], *numbers.copy())
    table = np.array([(first, rows, *targets, *[-1] * spare) for first, rows, targets in segments])
    work = sum(s[1] * sum(w for w, t in zip(widths, s[2], strict=True) if t >= 0) for s in segments)
    parts = 1 if work * shape.inner < _SERIAL_LIMIT else numba.get_num_threads()
    arguments = (
        a_flat, a_row, a_column, tuple(b[0] for b in bs + bs[:1] * spare),
        tuple(c[0] for c in cs + cs[:1] * spare), shape, table, LANES[a.dtype.name], bool(accumulate),
    )  # fmt: skip
    if parts == 1:
        _product(*arguments, 0, 1)
    else:
        _product_parallel(*arguments, parts)
