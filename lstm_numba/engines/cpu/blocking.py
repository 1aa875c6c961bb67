"""Who computes what: threads by rows of the batch or by hidden units, steps in blocks, rows in chunks."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from lstm_numba.engines.cpu.cpu_features import lanes, round_up
from lstm_numba.engines.cpu.gemm import SERIAL_LIMIT
from lstm_numba.engines.cpu.options import INLINE
from lstm_numba.engines.cpu.records import Team
from lstm_numba.engines.cpu.threads import thread_count

#: Packed weights up to this many bytes stay in a core's level-2 cache while all its rows use them.
CACHE_BYTES = 1 << 20
#: A thread gets at least this many rows, or the register tiles are mostly empty.
MIN_ROWS = 4
#: Rows that a thread takes through all steps at once.
CHUNK_ROWS = 16
#: A barrier at every step pays from about this many multiplications a step.
MIN_STEP_WORK = 1 << 15
#: Below this many multiplications in all, one thread is done before a second has started.
MIN_WORK = 1 << 19


class Plan(NamedTuple):
    """Who does what, and how much of it at once: the block and the chunks of `Sequence`."""

    team: Team
    block: int
    chunks: int


def cell_class(cell: Any) -> Any:
    """A cell's class, by which results are kept: cells are empty tuples, all of them equal."""
    return type(cell)


def padded(units: int, dtype: Any) -> int:
    """Units rounded up to whole vectors."""
    return round_up(units, lanes(dtype))


def choose_plan(
    cell: Any, shape: tuple[int, int, int, int], dtype: Any, keep: bool = False, threads: int = 0
) -> Plan:
    """Choose what the threads, all or so many, share, and how much a thread takes on at once.

    `shape` is (T, B, I, H).
    """
    return _choose(cell_class(cell), shape, dtype.char, keep, threads or thread_count())


@functools.lru_cache(maxsize=1024)
def _choose(cell: Any, shape: tuple[int, int, int, int], char: str, keep: bool, threads: int) -> Plan:
    steps, batch, inputs, hidden = shape
    dtype = np.dtype(char)
    size = dtype.itemsize
    recurrent = sum(len(stage.gates) for stage in cell.stages) * hidden * hidden
    work = batch * recurrent
    fits = recurrent * size <= CACHE_BYTES
    row = len(cell.slots) * padded(hidden, dtype) * size
    both = recurrent + len(cell.input_gates) * hidden * inputs
    enough = steps * work >= MIN_WORK
    by_units = threads > 1 and enough and work >= MIN_STEP_WORK and not (fits and batch >= MIN_ROWS * threads)
    rows = max(1, min(threads, batch // MIN_ROWS)) if enough else 1
    parts = threads if by_units else rows
    workers = threads if parts > 1 and steps * batch * both >= SERIAL_LIMIT else 1
    block, chunks = blocking.py_func(steps, batch, both * size, row, 1 if by_units else parts, keep)
    return Plan(Team(int(by_units), parts, workers), block, 1 if by_units else chunks)


@njit(**INLINE)
def blocking(steps, batch, weights, row, parts, keep):
    """How a thread of some goes through its share: steps of a block, and chunks of the rows.

    The products with the input go ahead of the recurrence by a block of steps; in blocks of one they are part
    of the step. A long block reads the input's weights seldom and fills tiles that few rows would not; but
    its slots, which without `keep` serve the next one too, leave the nearest cache before they are used.
    A chunk of the rows goes through all steps before the next, so that its slots stay there, for one more
    reading of the weights a step. `weights` are bytes, `row` the bytes of a row's slots.
    """
    long = max(1, min(steps, max(2, 2 * CACHE_BYTES // (batch * row))))
    rows = batch // parts
    if weights > 4 * CACHE_BYTES or batch < MIN_ROWS:
        return long, 1
    if keep and rows < CHUNK_ROWS and weights > CACHE_BYTES // 2:
        return long, 1
    return min(steps, 1 if weights <= CACHE_BYTES else 2), max(1, rows // CHUNK_ROWS)
