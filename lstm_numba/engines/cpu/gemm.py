"""Matrix products of any size: blocks packed for the cache around the register tile of `microkernel.py`.

The blocking is Goto & van de Geijn's ("Anatomy of high-performance matrix multiplication", ACM TOMS 34,
2008). Each thread computes its own part of C, whole inner dimension included: a result does not depend
on the number of threads, and no second library's threads compete with Numba's for the cores.
"""

from __future__ import annotations

import functools
from array import array
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from lstm_numba.engines.cpu.cpu_features import lanes, round_up, tile_rows
from lstm_numba.engines.cpu.function_pointers import once
from lstm_numba.engines.cpu.layout import split
from lstm_numba.engines.cpu.memory import ALIGNMENT, address, aligned_empty, reserve, strided
from lstm_numba.engines.cpu.microkernel import tile_address, tile_product
from lstm_numba.engines.cpu.options import CALLEE, INLINE, SERIAL
from lstm_numba.engines.cpu.records import ProductJob, ProductOperand, read_record, size_of
from lstm_numba.engines.cpu.thread_team import WORK, Phases, compile_task, run_task
from lstm_numba.engines.cpu.threads import thread_count
from lstm_numba.engines.cpu.transpose import run_copier, transpose_square
from lstm_numba.engines.cpu.vector import pointer_address, pointer_to

#: Width of a register tile in vectors. Two by twelve rows and four by six need the same registers;
#: two vectors waste less on narrow matrices.
VECTORS = 2
ROWS = tile_rows(VECTORS)
LANES = {np.dtype(t): lanes(t) for t in (np.float32, np.float64)}
#: Blocks of the inner dimension, of rows of A (level-2 cache) and of columns of B (shared cache).
DEPTH = 384
HEIGHT = 8 * ROWS
WIDTH = 2048

#: Numbers of a job's head and of an operand.
HEAD, OPERAND = size_of(ProductJob), size_of(ProductOperand)

#: Products smaller than this many multiplications stay on the calling thread.
SERIAL_LIMIT = 1 << 21

_copy_strip_row = run_copier(lambda dtype: ROWS)
_copy_panel_row = run_copier(lambda dtype: VECTORS * lanes(dtype.name))


class _Strips(NamedTuple):
    """Rows of A, packed or not: number (m, k) of a strip, and numbers from strip to strip."""

    a: Any
    at: int
    row: int
    column: int
    strip: int


@njit(**CALLEE)
def _pack_rows(a, offset, row, column, height, depth, packed):
    """Pack A (height, depth) into strips of ROWS rows, number (m, k) of a strip at ``k * ROWS + m``."""
    whole = height // ROWS * ROWS if row == 1 else 0
    for k in range(depth):
        for strip in range(0, whole, ROWS):
            _copy_strip_row(a, offset + k * column + strip, packed, strip * depth + k * ROWS)
    for strip in range(whole, height, ROWS):
        for m in range(strip, min(strip + ROWS, height)):
            for k in range(depth):
                packed[strip * depth + k * ROWS + m - strip] = a[offset + m * row + k * column]


@njit(**CALLEE)
def _panel_width(columns, lane):
    """Numbers in a row of a panel: two vectors, or one where that covers what is left of the columns."""
    return lane if columns <= lane else VECTORS * lane


@njit(**CALLEE)
def _pack_columns(b, offset, row, column, depth, width, lane, packed):
    """Pack B (depth, width) into panels, each row of a panel contiguous; zero beyond the last column."""
    for first in range(0, width, VECTORS * lane):
        panel = _panel_width(width - first, lane)
        columns = min(panel, width - first)
        base = first * depth
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


@njit(**CALLEE)
def _block(job, strips, b, height, depth, width, edge, c, c_at, c_row, add):
    """C (+)= A B on packed B."""
    for first in range(0, width, VECTORS * job.lane):
        panel = _panel_width(width - first, job.lane)
        columns = min(panel, width - first)
        tile = job.narrow if panel == job.lane else job.wide
        for strip in range(0, height, ROWS):
            rows = min(ROWS, height - strip)
            source = strips.at + strip // ROWS * strips.strip
            target = c_at + strip * c_row + first
            inside = columns == panel
            tile_product(
                tile, rows, strips.a, source, strips.row, strips.column, b, first * depth, depth,
                c if inside else edge, target if inside else 0, c_row if inside else panel, job.lane,
                add and inside,
            )  # fmt: skip
            if not inside:
                for m in range(rows):
                    for n in range(columns):
                        value = edge[m * panel + n]
                        c[target + m * c_row + n] = c[target + m * c_row + n] + value if add else value


@njit(**INLINE)
def _operand(job, n):
    return read_record(ProductOperand, pointer_address(job) + 8 * HEAD, n)


@njit(**INLINE)
def segment_index(operands, n):
    """Which of a job's numbers is the first one of a segment."""
    return HEAD + operands * OPERAND + n * (2 + operands)


@njit(**SERIAL)
def _block_depth(inner):
    """Depth of even blocks of the inner dimension."""
    return -(-inner // -(-inner // DEPTH))


@njit(**INLINE)
def _columns(width, panel, part, parts):
    """First and one past the last column of a part that begins and ends between panels."""
    first, last = split(-(-width // panel), parts, part)
    return first * panel, min(width, last * panel)


@njit(**CALLEE)
def _pack_operands(job, zero, k, depth, begin, part, parts, workspace):
    """Pack a block of a part of every B's columns."""
    head = read_record(ProductJob, job, 0)
    for n in range(head.operands):
        b = _operand(job, n)
        left, right = _columns(b.width, VECTORS * head.lane, part, parts)
        corner = k * b.b_row + (left + begin) * b.b_column
        packed = pointer_to(workspace + b.packed, zero)
        width = min(WIDTH, right - left - begin)
        _pack_columns(pointer_to(b.b, zero), corner, b.b_row, b.b_column, depth, width, head.lane, packed)


@njit(**CALLEE)
def _multiply_operands(job, zero, strips, segment, m, height, k, depth, begin, part, parts, workspace):
    """Some rows of a segment times a packed block of every B."""
    head = read_record(ProductJob, job, 0)
    for n in range(head.operands):
        target = job[segment + 2 + n]
        if target >= 0:
            b = _operand(job, n)
            left, right = _columns(b.width, VECTORS * head.lane, part, parts)
            c_at = (target + m) * b.c_row + left + begin
            packed, c = pointer_to(workspace + b.packed, zero), pointer_to(b.c, zero)
            width = min(WIDTH, right - left - begin)
            more = head.add != 0 or k > 0
            edge = pointer_to(workspace, zero)
            _block(head, strips, packed, height, depth, width, edge, c, c_at, b.c_row, more)


@njit(**CALLEE)
def _part(job, zero, first, last, part, parts, workspace):
    """Strips [first, last) of A, counted over its segments, times one of the parts of each B's columns."""
    head = read_record(ProductJob, job, 0)
    a, depth = pointer_to(head.a, zero), _block_depth(head.inner)
    a_packed = pointer_to(workspace + ROWS * VECTORS * head.lane * head.size, zero)
    widest = 0
    for n in range(head.operands):
        left, right = _columns(_operand(job, n).width, VECTORS * head.lane, part, parts)
        widest = max(widest, right - left)
    for k in range(0, head.inner, depth):
        d = min(depth, head.inner - k)
        for begin in range(0, widest, WIDTH):
            _pack_operands(job, zero, k, d, begin, part, parts, workspace)
            passed = 0
            for n in range(head.segments):
                segment = segment_index(head.operands, n)
                height = job[segment + 1]
                top = max(first - passed, 0) * ROWS
                bottom = min((last - passed) * ROWS, height)
                passed += -(-height // ROWS)
                for m in range(top, bottom, HEIGHT):
                    h = min(HEIGHT, bottom - m)
                    corner = (job[segment] + m) * head.a_row + k * head.a_column
                    strips = _Strips(a, corner, head.a_row, 1, ROWS * head.a_row)
                    if head.a_column != 1:
                        _pack_rows(a, corner, head.a_row, head.a_column, h, d, a_packed)
                        strips = _Strips(a_packed, 0, 1, ROWS, ROWS * d)
                    _multiply_operands(job, zero, strips, segment, m, h, k, d, begin, part, parts, workspace)


@njit(**INLINE)
def workspace_numbers(inner, lane):
    """Numbers of a thread's workspace before the packed operands: an edge tile and rows of A."""
    return ROWS * VECTORS * lane + _block_depth(inner) * HEIGHT


@njit(**INLINE)
def operand_numbers(inner, width, lane):
    """Numbers of a thread's workspace for a packed operand."""
    return _block_depth(inner) * min(WIDTH, -(-width // lane) * lane)


@once
def product_task(dtype: Any) -> int:
    """Address of the task of products of a dtype; see `lstm_numba.engines.cpu.thread_team`."""
    zero = dtype.type(0)

    def product(job, phase, part):
        if phase == WORK:
            _product_part(job, zero, part)

    return compile_task(product)


@njit(**CALLEE)
def _segment_cost(job, head, n):
    """Strips of a segment, and what each costs: its products' columns, and a vector's for packing it."""
    segment, cost = segment_index(head.operands, n), head.lane
    for k in range(head.operands):
        if job[segment + 2 + k] >= 0:
            cost += _operand(job, k).width
    return -(-job[segment + 1] // ROWS), cost


@njit(**CALLEE)
def _strips_for(job, head, cost):
    """How many strips cost together no more than so much."""
    found = 0
    for n in range(head.segments):
        strips, each = _segment_cost(job, head, n)
        whole = min(strips, cost // each)
        found += whole
        cost -= whole * each
        if whole < strips:
            break
    return found


@njit(**CALLEE)
def _product_part(job, zero, part):
    """One of the parts of the products, which are split along their longer side."""
    head = read_record(ProductJob, job, 0)
    parts = head.parts
    strips, total = 0, 0
    for n in range(head.segments):
        count, each = _segment_cost(job, head, n)
        strips += count
        total += count * each
    width = 0
    for n in range(head.operands):
        width += _operand(job, n).width
    workspace = head.workspace + part * head.share
    first, last = 0, strips
    if strips * ROWS >= width:
        begin, end = split(total, parts, part)
        first, last = _strips_for(job, head, begin), _strips_for(job, head, end)
        part, parts = 0, 1
    _part(job, zero, first, last, part, parts, workspace)


def matmul(a: Any, b: Any, out: Any = None, accumulate: bool = False) -> Any:
    """Matrix product on Numba's threads.

    Parameters
    ----------
    a, b : ndarray, shapes (M, K) and (K, N)
        float32 or float64, both the same; any strides (``a.T`` costs no copy).
    out : ndarray, shape (M, N), optional
        Where the product goes; rows need not be adjacent, the numbers of a row must be.
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
    if a.dtype != b.dtype or a.dtype not in LANES:
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
    setting = setting_of(*shape, a.shape[1], a.dtype, thread_count())
    a, a_row, a_column = strided(a)
    b, b_row, b_column = strided(b)
    _workspace, _, workspace = reserve(setting.parts * setting.share)
    head = ProductJob(
        address(a), a_row, a_column, a.shape[1], setting.lane, a.itemsize, int(accumulate), workspace,
        setting.share, *setting.tiles, setting.parts, operands=1, segments=1,
    )  # fmt: skip
    c_row = out.strides[0] // a.itemsize
    operand = ProductOperand(address(b), b_row, b_column, address(out), c_row, shape[1], setting.packed)
    job = array("q", (*head, *operand, 0, shape[0], 0))
    run_task(setting.task, job.buffer_info()[0], Phases(work=setting.parts))
    return out


class _Setting(NamedTuple):
    """What products of one shape have in common."""

    task: int
    tiles: tuple[int, int]
    lane: int
    parts: int
    packed: int  # bytes of a thread's workspace before B,
    share: int  # and of the whole


@functools.lru_cache(maxsize=1024)
def setting_of(height: int, width: int, inner: int, dtype: Any, threads: int) -> _Setting:
    lane, size = LANES[dtype], dtype.itemsize
    packed = workspace_numbers.py_func(inner, lane) * size
    needed = packed + operand_numbers.py_func(inner, width, lane) * size
    parts = 1 if height * inner * width < SERIAL_LIMIT else threads
    tiles = (tile_address(VECTORS, dtype), tile_address(1, dtype))
    return _Setting(product_task(dtype), tiles, lane, parts, packed, round_up(needed, ALIGNMENT))
