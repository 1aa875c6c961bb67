"""A sequence forward in one launch, for any cell.

In every step a block computes the products of its tiles: each row of threads one part of the depth. The parts
are added in shared memory, the tile's gate equations follow at once, and a barrier ends the step.
"""

from __future__ import annotations

from typing import Any

from lstm_numba.engines.cuda.driver import cuda, overload
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.layout import (
    CooperativeGrid,
    SingleBlock,
    barrier_leave,
    barrier_wait,
    for_each_unit,
    load_entry,
    neighbours,
    previous_states,
    slots_offset,
    store_entry,
    time_of,
)
from lstm_numba.engines.cuda.options import COOPERATIVE_FORWARD, DEVICE, KERNEL
from lstm_numba.engines.cuda.scalar import add_tuples, load_each, store_each, store_scalars
from lstm_numba.engines.cuda.specialize import (
    FIRST,
    SECOND,
    block_count,
    cell_forward,
    cell_operand,
    load_biases,
    load_inputs,
    load_peephole,
    load_slots,
    stage_count,
    stage_width,
    tile_rows,
    zero_states,
)
from lstm_numba.engines.cuda.stage_product import add_outer, add_to_stage, load_sums, outer_zeros, row_offsets


@cuda.jit(**DEVICE)
def _load_initial_state(cell, sizes, arrays, row, unit):
    """Copy the initial states of a row and unit to the history."""
    entry = sizes.steps if sizes.reverse else 0
    offset = row * sizes.hidden + unit
    if arrays.initial[0].size > 0:
        states = load_each(arrays.initial, sizes.state_offset + offset)
        store_entry(sizes, arrays, entry, offset, states)
    else:
        store_entry(sizes, arrays, entry, offset, zero_states(cell, arrays.h))


@cuda.jit(**DEVICE)
def _store_final_state(cell, sizes, arrays, row, unit):
    """Copy the final states of a row and unit out of the history."""
    entry = 0 if sizes.reverse else sizes.steps
    offset = row * sizes.hidden + unit
    store_each(arrays.final, sizes.state_offset + offset, load_entry(cell, sizes, arrays, entry, offset))


_load_initial_states = for_each_unit(_load_initial_state)
_store_final_states = for_each_unit(_store_final_state)


@cuda.jit(**DEVICE)
def _first_slots(cell, sizes, arrays, slot_offset, unit):
    """A unit's slots before the first stage: the products with the input weights, and the biases."""
    slots = load_inputs(cell, arrays.slots, slot_offset, sizes.hidden)
    if arrays.bias_ih.size > 0:
        slots = add_tuples(slots, load_biases(cell, arrays.bias_ih, arrays.bias_hh, unit, sizes.hidden))
    return slots


@cuda.jit(**DEVICE)
def _later_slots(cell, sizes, arrays, slot_offset, unit):
    """A unit's slots as an earlier stage stored them."""
    return load_slots(cell, arrays.slots, slot_offset, sizes.hidden)


def _slots(cell: Any, stage: Any, sizes: Any, arrays: Any, slot_offset: Any, unit: Any) -> Any:
    """A unit's slots before a stage's product is added."""
    return (_first_slots if stage.number == 0 else _later_slots)(cell, sizes, arrays, slot_offset, unit)


@overload(_slots)
def _(cell, stage, sizes, arrays, slot_offset, unit):
    load = _first_slots if stage.instance_class.number == 0 else _later_slots
    return lambda cell, stage, sizes, arrays, slot_offset, unit: load(cell, sizes, arrays, slot_offset, unit)


@cuda.jit(**DEVICE)
def _cell_equations(cell, stage, sizes, arrays, t, row, unit, sums):
    """The cell's equations for one unit; after a sequence's end its states are carried along."""
    offset = row * sizes.hidden + unit
    previous = previous_states(cell, sizes, arrays, t, offset)
    _, after = neighbours(sizes, t)
    if t < arrays.lengths[row]:
        slot_offset = slots_offset(cell, sizes, t, row, unit)
        slots = add_to_stage(cell, stage, _slots(cell, stage, sizes, arrays, slot_offset, unit), sums)
        peephole = load_peephole(cell, arrays.peephole, unit, sizes.hidden)
        kept, states = cell_forward(cell, slots, previous, peephole)
        store_scalars(arrays.slots, slot_offset, sizes.hidden, kept)
        store_entry(sizes, arrays, after, offset, states)
    else:
        store_entry(sizes, arrays, after, offset, previous)


@cuda.jit(**DEVICE)
def _operand_equations(cell, stage, sizes, arrays, t, row, unit, sums):
    """The operand of the second product for one unit; zero after a sequence's end."""
    offset = row * sizes.hidden + unit
    target = t * sizes.batch * sizes.hidden + offset
    if t < arrays.lengths[row]:
        slot_offset = slots_offset(cell, sizes, t, row, unit)
        slots = add_to_stage(cell, stage, _slots(cell, stage, sizes, arrays, slot_offset, unit), sums)
        store_scalars(arrays.slots, slot_offset, sizes.hidden, slots)
        operand = cell_operand(cell, slots, previous_states(cell, sizes, arrays, t, offset))
        store_scalars(arrays.operand, target, 0, (operand,))
    else:
        store_scalars(arrays.operand, target, 0, (0.0,))


def _equations(
    cell: Any, stage: Any, sizes: Any, arrays: Any, t: Any, row: Any, unit: Any, sums: Any
) -> None:
    """What follows a stage's product: the operand of the second one, or the cell's equations."""
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
    """Store this thread's part of the stage's product in shared memory; `start`: offset of the operand."""
    lanes, lane, part = cuda.blockDim.x, cuda.threadIdx.x, cuda.threadIdx.y
    weight_row = block_count(cell, stage) * sizes.hidden
    width = stage_width(cell, stage)
    column = min(unit, sizes.hidden - 1)
    rows = row_offsets(tile, row, sizes.batch, sizes.hidden)
    sums = outer_zeros(cell, stage, tile, shared)
    for k in range(part * sizes.part_depth, min((part + 1) * sizes.part_depth, sizes.hidden)):
        sums = add_outer(
            cell, stage, tile, sums, weights, k * weight_row + column, sizes.hidden, operand, rows, start + k
        )
    store_scalars(shared, part * tile_rows(tile) * width * lanes + lane, lanes, sums)


@cuda.jit(**DEVICE)
def _total(cell, stage, tile, shared, r):
    """Sum of all parts of the stage's product, for this thread's unit and row r of the tile."""
    lanes, parts = cuda.blockDim.x, cuda.blockDim.y
    width = stage_width(cell, stage)
    offset = r * width * lanes + cuda.threadIdx.x
    total = load_sums(cell, stage, shared, offset, lanes)
    for _ in range(1, parts):
        offset += tile_rows(tile) * width * lanes
        total = add_tuples(total, load_sums(cell, stage, shared, offset, lanes))
    return total


@cuda.jit(**DEVICE)
def _run_stage(cell, stage, tile, sizes, arrays, operand, start, t, shared):
    """One stage of a step, on all tiles of this block."""
    height = tile_rows(tile)
    for unit_tile in stride_range(cuda.blockIdx.x, sizes.unit_tiles, cuda.gridDim.x):
        unit = unit_tile * cuda.blockDim.x + cuda.threadIdx.x
        for row_tile in stride_range(cuda.blockIdx.y, sizes.row_tiles, cuda.gridDim.y):
            first = row_tile * height
            _product(cell, stage, tile, sizes, arrays.weights, operand, start, first, unit, shared)
            cuda.syncthreads()
            for r in stride_range(cuda.threadIdx.y, height, cuda.blockDim.y):
                if unit < sizes.hidden and first + r < sizes.batch:
                    sums = _total(cell, stage, tile, shared, r)
                    _equations(cell, stage, sizes, arrays, t, first + r, unit, sums)
            cuda.syncthreads()


@cuda.jit(**DEVICE)
def _run_second_stage(cell, mode, tile, sizes, arrays, step, t, shared):
    barrier_wait(mode, arrays.counters, 2 + 2 * step)
    start = t * sizes.batch * sizes.hidden
    _run_stage(cell, SECOND, tile, sizes, arrays, arrays.operand, start, t, shared)


def _second_stage(
    cell: Any, mode: Any, tile: Any, sizes: Any, arrays: Any, step: Any, t: Any, shared: Any
) -> None:
    """The second stage of a cell that has one."""
    if len(cell.stages) > 1:
        _run_second_stage(cell, mode, tile, sizes, arrays, step, t, shared)


@overload(_second_stage)
def _(cell, mode, tile, sizes, arrays, step, t, shared):
    if len(cell.instance_class.stages) == 1:
        return lambda cell, mode, tile, sizes, arrays, step, t, shared: None
    return lambda cell, mode, tile, sizes, arrays, step, t, shared: _run_second_stage(
        cell, mode, tile, sizes, arrays, step, t, shared
    )


def forward_kernel(cell, mode, tile, sizes, arrays):
    """Run a whole sequence.

    Parameters
    ----------
    cell, mode, tile : empty named tuples
        Their classes say what is computed, which blocks wait for each other, and how many rows a thread has.
    sizes : Sizes
    arrays : Arrays
    """
    shared = cuda.shared.array(0, arrays.h.dtype)
    _load_initial_states(cell, tile, sizes, arrays)
    for step in range(sizes.steps):
        barrier_wait(mode, arrays.counters, 1 + step * stage_count(cell))
        t = time_of(sizes, step)
        before, _ = neighbours(sizes, t)
        start = before * sizes.batch * sizes.hidden
        _run_stage(cell, FIRST, tile, sizes, arrays, arrays.h, start, t, shared)
        _second_stage(cell, mode, tile, sizes, arrays, step, t, shared)
    barrier_leave(mode, arrays.counters)
    _store_final_states(cell, tile, sizes, arrays)


#: The kernel for each launch mode.
FORWARD: dict[type, Any] = {
    SingleBlock: cuda.jit(**KERNEL)(forward_kernel),
    CooperativeGrid: cuda.jit(**COOPERATIVE_FORWARD)(forward_kernel),
}
