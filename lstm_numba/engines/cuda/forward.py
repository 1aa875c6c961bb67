"""A sequence forward in one launch, for any cell.

Every step, a block computes the products of its tiles, each row of threads a part of the depth, adds the
parts up in shared memory, and computes at once the tile's gate equations. Then those who share rows meet.
"""

from __future__ import annotations

from typing import Any

from lstm_numba.engines.cuda.driver import cuda, overload
from lstm_numba.engines.cuda.grid_stride import strides
from lstm_numba.engines.cuda.layout import (
    Alone,
    Together,
    leave,
    meet,
    neighbours,
    previous_states,
    slots_at,
    time_of,
)
from lstm_numba.engines.cuda.options import DEVICE, KERNEL, TEAM_KERNEL
from lstm_numba.engines.cuda.scalar import add_tuples, load_each, store_each, store_numbers
from lstm_numba.engines.cuda.specialize import (
    FIRST,
    SECOND,
    add_outer,
    add_to_stage,
    cell_forward,
    cell_operand,
    gate_count,
    load_biases,
    load_cell_states,
    load_inputs,
    load_one,
    load_peephole,
    load_slots,
    load_sums,
    outer_zeros,
    row_offsets,
    stage_count,
    stage_width,
    tile_rows,
    zero_states,
)


@cuda.jit(**DEVICE)
def _store_states(sizes, arrays, entry, at, states):
    """Put states into the history."""
    store_numbers(arrays.h, entry * sizes.batch * sizes.hidden + at, 0, states[:1])
    store_numbers(arrays.cell_states, entry * sizes.cell_step + at, sizes.cell_stride, states[1:])


@cuda.jit(**DEVICE)
def _first_states(cell, sizes, arrays, entry, row, unit):
    """Put the initial states into the history."""
    at = row * sizes.hidden + unit
    if arrays.initial[0].size > 0:
        _store_states(sizes, arrays, entry, at, load_each(arrays.initial, sizes.place + at))
    else:
        _store_states(sizes, arrays, entry, at, zero_states(cell, arrays.h))


@cuda.jit(**DEVICE)
def _last_states(cell, sizes, arrays, entry, row, unit):
    """Take the final states out of the history."""
    at = row * sizes.hidden + unit
    h = load_one(cell, arrays.h, entry * sizes.batch * sizes.hidden + at, 0)
    cell_states = load_cell_states(cell, arrays.cell_states, entry * sizes.cell_step + at, sizes.cell_stride)
    store_each(arrays.final, sizes.place + at, h + cell_states)


@cuda.jit(**DEVICE)
def _pass_on(cell, tile, sizes, arrays, first):
    """Move initial states to the history, or final ones out of it; each thread those that are its own."""
    entry = sizes.steps if (sizes.reverse != 0) == (first != 0) else 0
    height = tile_rows(tile)
    for unit_tile in strides(cuda.blockIdx.x, sizes.across, cuda.gridDim.x):
        unit = unit_tile * cuda.blockDim.x + cuda.threadIdx.x
        for row_tile in strides(cuda.blockIdx.y, sizes.down, cuda.gridDim.y):
            for r in strides(cuda.threadIdx.y, height, cuda.blockDim.y):
                row = row_tile * height + r
                if unit < sizes.hidden and row < sizes.batch:
                    if first:
                        _first_states(cell, sizes, arrays, entry, row, unit)
                    else:
                        _last_states(cell, sizes, arrays, entry, row, unit)


@cuda.jit(**DEVICE)
def _first_slots(cell, sizes, arrays, place, unit):
    """Slots without the recurrent product: the input's product and the biases."""
    slots = load_inputs(cell, arrays.slots, place, sizes.hidden)
    if arrays.bias_ih.size > 0:
        slots = add_tuples(slots, load_biases(cell, arrays.bias_ih, arrays.bias_hh, unit, sizes.hidden))
    return slots


@cuda.jit(**DEVICE)
def _later_slots(cell, sizes, arrays, place, unit):
    """Slots as an earlier stage left them."""
    return load_slots(cell, arrays.slots, place, sizes.hidden)


def _slots(cell: Any, stage: Any, sizes: Any, arrays: Any, place: Any, unit: Any) -> Any:
    """A unit's slots before a stage's product is added."""
    return (_first_slots if stage.number == 0 else _later_slots)(cell, sizes, arrays, place, unit)


@overload(_slots)
def _(cell, stage, sizes, arrays, place, unit):
    load = _first_slots if stage.instance_class.number == 0 else _later_slots
    return lambda cell, stage, sizes, arrays, place, unit: load(cell, sizes, arrays, place, unit)


@cuda.jit(**DEVICE)
def _cell_equations(cell, stage, sizes, arrays, t, row, unit, sums):
    """Slots and new states of one unit; past a sequence's end the states stay."""
    at = row * sizes.hidden + unit
    previous = previous_states(cell, sizes, arrays, t, at)
    _, after = neighbours(sizes, t)
    if t < arrays.lengths[row]:
        place = slots_at(cell, sizes, t, row, unit)
        slots = add_to_stage(cell, stage, _slots(cell, stage, sizes, arrays, place, unit), sums)
        peephole = load_peephole(cell, arrays.peephole, unit, sizes.hidden)
        kept, states = cell_forward(cell, slots, previous, peephole)
        store_numbers(arrays.slots, place, sizes.hidden, kept)
        _store_states(sizes, arrays, after, at, states)
    else:
        _store_states(sizes, arrays, after, at, previous)


@cuda.jit(**DEVICE)
def _operand_equations(cell, stage, sizes, arrays, t, row, unit, sums):
    """The operand of the second product of one unit; zero past a sequence's end."""
    at = row * sizes.hidden + unit
    target = t * sizes.batch * sizes.hidden + at
    if t < arrays.lengths[row]:
        place = slots_at(cell, sizes, t, row, unit)
        slots = add_to_stage(cell, stage, _slots(cell, stage, sizes, arrays, place, unit), sums)
        store_numbers(arrays.slots, place, sizes.hidden, slots)
        operand = cell_operand(cell, slots, previous_states(cell, sizes, arrays, t, at))
        store_numbers(arrays.operand, target, 0, (operand,))
    else:
        store_numbers(arrays.operand, target, 0, (0.0,))


def _equations(
    cell: Any, stage: Any, sizes: Any, arrays: Any, t: Any, row: Any, unit: Any, sums: Any
) -> None:
    """What follows a stage's product: the operand for the next one, or the cell's equations."""
    last = stage.number == len(cell.stages) - 1
    (_cell_equations if last else _operand_equations)(cell, stage, sizes, arrays, t, row, unit, sums)


@overload(_equations)
def _(cell, stage, sizes, arrays, t, row, unit, sums):
    last = stage.instance_class.number == len(cell.instance_class.stages) - 1
    equations = _cell_equations if last else _operand_equations
    return lambda cell, stage, sizes, arrays, t, row, unit, sums: equations(
        cell, stage, sizes, arrays, t, row, unit, sums
    )


@cuda.jit(**DEVICE)
def _product(cell, stage, tile, sizes, weights, operand, start, row, unit, shared):
    """This thread's part of the stage's product of a tile, left in shared memory.

    `start` is where the operand's first row begins.
    """
    lanes, lane, part = cuda.blockDim.x, cuda.threadIdx.x, cuda.threadIdx.y
    line = gate_count(cell) * sizes.hidden
    width = stage_width(cell, stage)
    column = min(unit, sizes.hidden - 1)
    rows = row_offsets(tile, row, sizes.batch, sizes.hidden)
    sums = outer_zeros(cell, stage, tile, shared)
    for k in range(part * sizes.depth, min((part + 1) * sizes.depth, sizes.hidden)):
        sums = add_outer(
            cell, stage, tile, sums, weights, k * line + column, sizes.hidden, operand, rows, start + k
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
    for unit_tile in strides(cuda.blockIdx.x, sizes.across, cuda.gridDim.x):
        unit = unit_tile * cuda.blockDim.x + cuda.threadIdx.x
        for row_tile in strides(cuda.blockIdx.y, sizes.down, cuda.gridDim.y):
            first = row_tile * height
            _product(cell, stage, tile, sizes, arrays.weights, operand, start, first, unit, shared)
            cuda.syncthreads()
            for r in strides(cuda.threadIdx.y, height, cuda.blockDim.y):
                if unit < sizes.hidden and first + r < sizes.batch:
                    sums = _total(cell, stage, tile, shared, r)
                    _equations(cell, stage, sizes, arrays, t, first + r, unit, sums)
            cuda.syncthreads()


@cuda.jit(**DEVICE)
def _run_second_stage(cell, team, tile, sizes, arrays, step, t, shared):
    meet(team, arrays.counters, 2 + 2 * step)
    start = t * sizes.batch * sizes.hidden
    _run_stage(cell, SECOND, tile, sizes, arrays, arrays.operand, start, t, shared)


def _second_stage(
    cell: Any, team: Any, tile: Any, sizes: Any, arrays: Any, step: Any, t: Any, shared: Any
) -> None:
    """The second stage of a cell that has one."""
    if len(cell.stages) > 1:
        _run_second_stage(cell, team, tile, sizes, arrays, step, t, shared)


@overload(_second_stage)
def _(cell, team, tile, sizes, arrays, step, t, shared):
    if len(cell.instance_class.stages) == 1:
        return lambda cell, team, tile, sizes, arrays, step, t, shared: None
    return lambda cell, team, tile, sizes, arrays, step, t, shared: _run_second_stage(
        cell, team, tile, sizes, arrays, step, t, shared
    )


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
    _pass_on(cell, tile, sizes, arrays, 1)
    for step in range(sizes.steps):
        meet(team, arrays.counters, 1 + step * stage_count(cell))
        t = time_of(sizes, step)
        before, _ = neighbours(sizes, t)
        start = before * sizes.batch * sizes.hidden
        _run_stage(cell, FIRST, tile, sizes, arrays, arrays.h, start, t, shared)
        _second_stage(cell, team, tile, sizes, arrays, step, t, shared)
    leave(team, arrays.counters)
    _pass_on(cell, tile, sizes, arrays, 0)


#: The kernel for each team.
FORWARD: dict[type, Any] = {
    Alone: cuda.jit(**KERNEL)(forward_kernel),
    Together: cuda.jit(**TEAM_KERNEL)(forward_kernel),
}
