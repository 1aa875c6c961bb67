"""Weights laid out as the register tiles read them.

A panel holds the weights of one vector of hidden units, for all slots that a product feeds: row k is
the slots' registers side by side, of some slots at a time where there are more than a tall tile computes
at once. So one pass over a panel gives every pre-activation of those units, and the gate equations follow
while they are in the nearest cache.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from lstm_numba.engines.cpu import cpu_features
from lstm_numba.engines.cpu.cpu_features import lanes
from lstm_numba.engines.cpu.function_pointers import once
from lstm_numba.engines.cpu.options import CALLEE
from lstm_numba.engines.cpu.records import PackingJob, read_record, size_of
from lstm_numba.engines.cpu.thread_team import compile_task
from lstm_numba.engines.cpu.transpose import run_copier, transpose_square
from lstm_numba.engines.cpu.vector import pointer_to

#: Width, in vectors, of the tiles of the product that takes gradients back through the recurrent weights.
BACK_VECTORS = 2

#: Where the gates are in a job.
GATES = size_of(PackingJob)

_copy_panel_row = run_copier(lambda dtype: BACK_VECTORS * lanes(dtype.name))


group_start = njit(**CALLEE)(cpu_features.group_start)


@njit(**CALLEE)
def gates_kernel(job, zero, first, last):
    """Panel p, group g, row k, slot s of the group, lane l  <-  weight[gates[s] * units + p * lane + l, k].

    The groups are `lstm_numba.engines.cpu.cpu_features.packed_groups` of the slots; zero past the units.
    """
    record = read_record(PackingJob, job, 0)
    depth, count, lane, slots = record.columns, record.units, record.lane, record.slots
    weight, packed = pointer_to(record.weight, zero), pointer_to(record.packed, zero)
    for panel in range(first, last):
        units = min(lane, count - panel * lane)
        whole = depth // lane * lane if units == lane else 0
        group = 0
        for s in range(slots):
            if s == group_start(slots, group + 1):
                group += 1
            begin = group_start(slots, group)
            row = (group_start(slots, group + 1) - begin) * lane
            source = (job[GATES + s] * count + panel * lane) * depth
            target = (panel * slots + begin) * depth * lane + (s - begin) * lane
            for k in range(0, whole, lane):
                transpose_square(weight, source + k, depth, packed, target + k * row, row)
            for k in range(whole, depth):
                for unit in range(units):
                    packed[target + k * row + unit] = weight[source + unit * depth + k]
                for unit in range(units, lane):
                    packed[target + k * row + unit] = zero


@njit(**CALLEE)
def transposed_kernel(job, zero, first, last):
    """Panel p, row (s, unit), column n  <-  weight[gates[s] * units + unit, p * width + n]; zero outside.

    Units are padded to whole vectors. The width is `BACK_VECTORS` vectors, or what is left of the columns
    in whole vectors.
    """
    record = read_record(PackingJob, job, 0)
    columns, count, lane, slots = record.columns, record.units, record.lane, record.slots
    weight, packed = pointer_to(record.weight, zero), pointer_to(record.packed, zero)
    padded = -(-count // lane) * lane
    whole = BACK_VECTORS * lane
    for panel in range(first, last):
        left = panel * whole
        width = min(whole, -(-(columns - left) // lane) * lane)
        inside = min(width, columns - left)
        for s in range(slots):
            for unit in range(padded):
                target = left * slots * padded + (s * padded + unit) * width
                source = (job[GATES + s] * count + unit) * columns + left
                if unit < count and inside == whole:
                    _copy_panel_row(weight, source, packed, target)
                else:
                    filled = inside if unit < count else 0
                    for n in range(filled):
                        packed[target + n] = weight[source + n]
                    for n in range(filled, width):
                        packed[target + n] = zero


@once
def gates_address(dtype: Any) -> int:
    """Address of `gates_kernel` of a dtype, for calls with (pointer to the job, first, last)."""
    zero = dtype.type(0)

    def gates(job, first, last):
        gates_kernel(job, zero, first, last)

    return compile_task(gates)


@once
def transposed_address(dtype: Any) -> int:
    """Address of `transposed_kernel` of a dtype, likewise."""
    zero = dtype.type(0)

    def transposed(job, first, last):
        transposed_kernel(job, zero, first, last)

    return compile_task(transposed)
