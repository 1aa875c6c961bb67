"""A sequence forward in one launch, for any cell.

Every step, a block computes the products of its tiles, each row of threads a part of the depth, adds the
parts up in shared memory, and computes at once the tile's gate equations. Then those who share rows meet.
"""

from __future__ import annotations

from typing import Any

from lstm_numba.gpu.dispatch import (
    FIRST,
    SECOND,
    add_outer,
    add_to_stage,
    cell_forward,
    cell_message,
    load_peephole,
    load_slots,
    load_sums,
    outer_zeros,
    row_offsets,
    stage_width,
    tile_rows,
)
from lstm_numba.gpu.driver import cuda, overload
from lstm_numba.gpu.layout import meet, neighbours, previous_states, slots_at, tiles, time_of
from lstm_numba.gpu.number import add_tuples, store_numbers
from lstm_numba.gpu.options import DEVICE, KERNEL


@cuda.jit(**DEVICE)
def _store_states(cell, sizes, arrays, t, at, states):
    _, after = neighbours(sizes, t)
    store_numbers(arrays.h, after * sizes.batch * sizes.hidden + at, 0, states[:1])
    store_numbers(arrays.memory, after * sizes.memory_step + at, sizes.memory_state, states[1:])


@cuda.jit(**DEVICE)
def _cell_equations(cell, stage, sizes, arrays, t, row, unit, sums):
    """Slots and new states of one unit; past a sequence's end the states stay."""
    at = row * sizes.hidden + unit
    previous = previous_states(cell, sizes, arrays, t, at)
    if t < arrays.lengths[row]:
        place = slots_at(cell, sizes, t, row, unit)
        slots = add_to_stage(cell, stage, load_slots(cell, arrays.slots, place, sizes.hidden), sums)
        peephole = load_peephole(cell, arrays.peephole, unit, sizes.hidden)
        kept, states = cell_forward(cell, slots, previous, peephole)
        store_numbers(arrays.slots, place, sizes.hidden, kept)
        _store_states(cell, sizes, arrays, t, at, states)
    else:
        _store_states(cell, sizes, arrays, t, at, previous)


@cuda.jit(**DEVICE)
def _message_equations(cell, stage, sizes, arrays, t, row, unit, sums):
    """The operand of the second product of one unit; zero past a sequence's end."""
    at = row * sizes.hidden + unit
    target = t * sizes.batch * sizes.hidden + at
    if t < arrays.lengths[row]:
        place = slots_at(cell, sizes, t, row, unit)
        slots = add_to_stage(cell, stage, load_slots(cell, arrays.slots, place, sizes.hidden), sums)
        store_numbers(arrays.slots, place, sizes.hidden, slots)
        message = cell_message(cell, slots, previous_states(cell, sizes, arrays, t, at))
        store_numbers(arrays.message, target, 0, (message,))
    else:
        store_numbers(arrays.message, target, 0, (0.0,))


def _equations(
    cell: Any, stage: Any, sizes: Any, arrays: Any, t: Any, row: Any, unit: Any, sums: Any
) -> None:
    """What follows a stage's product: the message for the next one, or the cell's equations."""
    last = stage.number == len(cell.stages) - 1
    (_cell_equations if last else _message_equations)(cell, stage, sizes, arrays, t, row, unit, sums)


@overload(_equations)
def _(cell, stage, sizes, arrays, t, row, unit, sums):
    last = stage.instance_class.number == len(cell.instance_class.stages) - 1
    equations = _cell_equations if last else _message_equations
    return lambda cell, stage, sizes, arrays, t, row, unit, sums: equations(
        cell, stage, sizes, arrays, t, row, unit, sums
    )


@cuda.jit(**DEVICE)
def _product(cell, stage, tile, sizes, weights, operand, start, row, unit, shared):
    """This thread's part of the stage's product of a tile, left in shared memory.

    `start` is where the operand's first row begins.
    """
    lanes, parts = cuda.blockDim.x, cuda.blockDim.y
    lane, part = cuda.threadIdx.x, cuda.threadIdx.y
    width = stage_width(cell, stage)
    depth = tiles(sizes.hidden, parts)
    gates = weights.size // sizes.hidden
    column = min(unit, sizes.hidden - 1)
    rows = row_offsets(tile, row, sizes.batch, sizes.hidden)
    sums = outer_zeros(cell, stage, tile, shared)
    for k in range(part * depth, min((part + 1) * depth, sizes.hidden)):
        sums = add_outer(
            cell, stage, tile, sums, weights, k * gates + column, sizes.hidden, operand, rows, start + k
        )
    store_numbers(shared, part * tile_rows(tile) * width * lanes + lane, lanes, sums)


@cuda.jit(**DEVICE)
def _total(cell, stage, tile, shared, r):
    """The stage's sums of this thread's unit and row r of the tile, over all parts."""
    lanes, parts = cuda.blockDim.x, cuda.blockDim.y
    width = stage_width(cell, stage)
    at = r * width * lanes + cuda.threadIdx.x
    total = load_sums(cell, stage, shared, at, lanes)
    for _ in range(1, parts):
        at += tile_rows(tile) * width * lanes
        total = add_tuples(total, load_sums(cell, stage, shared, at, lanes))
    return total


@cuda.jit(**DEVICE)
def _run_stage(cell, stage, tile, sizes, arrays, operand, start, t, shared):
    """A stage of one step, on all tiles of this block."""
    height = tile_rows(tile)
    for unit_tile in range(cuda.blockIdx.x, tiles(sizes.hidden, cuda.blockDim.x), cuda.gridDim.x):
        unit = unit_tile * cuda.blockDim.x + cuda.threadIdx.x
        for row_tile in range(cuda.blockIdx.y, tiles(sizes.batch, height), cuda.gridDim.y):
            first = row_tile * height
            _product(cell, stage, tile, sizes, arrays.weights, operand, start, first, unit, shared)
            cuda.syncthreads()
            for r in range(cuda.threadIdx.y, height, cuda.blockDim.y):
                if unit < sizes.hidden and first + r < sizes.batch:
                    sums = _total(cell, stage, tile, shared, r)
                    _equations(cell, stage, sizes, arrays, t, first + r, unit, sums)
            cuda.syncthreads()


@cuda.jit(**DEVICE)
def _run_second_stage(cell, team, tile, sizes, arrays, t, shared):
    meet(team)
    start = t * sizes.batch * sizes.hidden
    _run_stage(cell, SECOND, tile, sizes, arrays, arrays.message, start, t, shared)


def _second_stage(cell: Any, team: Any, tile: Any, sizes: Any, arrays: Any, t: Any, shared: Any) -> None:
    """The second stage of a cell that has one."""
    if len(cell.stages) > 1:
        _run_second_stage(cell, team, tile, sizes, arrays, t, shared)


@overload(_second_stage)
def _(cell, team, tile, sizes, arrays, t, shared):
    if len(cell.instance_class.stages) == 1:
        return lambda cell, team, tile, sizes, arrays, t, shared: None
    return lambda cell, team, tile, sizes, arrays, t, shared: _run_second_stage(
        cell, team, tile, sizes, arrays, t, shared
    )


@cuda.jit(**KERNEL)
def forward_kernel(cell, team, tile, sizes, arrays):
    """Run a whole sequence.

    Parameters
    ----------
    cell, team, tile
        Say by their classes what is computed, who waits for whom, and how many rows a thread has.
    sizes : Sizes
    arrays : Arrays
    """
    shared = cuda.shared.array(0, arrays.h.dtype)
    for step in range(sizes.steps):
        t = time_of(sizes, step)
        before, _ = neighbours(sizes, t)
        start = before * sizes.batch * sizes.hidden
        _run_stage(cell, FIRST, tile, sizes, arrays, arrays.h, start, t, shared)
        _second_stage(cell, team, tile, sizes, arrays, t, shared)
        meet(team)
