"""A sequence forward in one launch, for any cell.

In every step a block computes the products of its tiles: each row of threads one part of the depth. The parts
are added in shared memory, the tile's gate equations follow at once, and a barrier ends the step.
"""

from __future__ import annotations

from typing import Any

from lstm_numba.engines.cuda.driver import cuda, overload
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.layout import (
    BlockOfModel,
    CooperativeGrid,
    SingleBlock,
    barrier_leave,
    barrier_wait,
    for_each_unit,
    load_entry,
    load_stacked,
    load_vectors,
    neighbours,
    output_units,
    previous_states,
    slots_offset,
    stage_depth,
    stage_units,
    store_entry,
    store_output,
    store_stacked,
    time_from,
    time_of,
)
from lstm_numba.engines.cuda.means import (
    FIRST_GROUP,
    GROUPS,
    SECOND_GROUP,
    THIRD_GROUP,
    cell_means,
    finish_means,
    first_reused,
    group_number,
    store_contribution,
    store_no_contribution,
    sum_tile,
)
from lstm_numba.engines.cuda.model_arrays import of_model
from lstm_numba.engines.cuda.options import COOPERATIVE_FORWARD, DEVICE, KERNEL
from lstm_numba.engines.cuda.scalar import add_tuples, store_scalars
from lstm_numba.engines.cuda.specialize import (
    FIRST,
    SECOND,
    barrier_count,
    block_count,
    cell_forward,
    cell_operand,
    cell_prepare,
    feeds_projected,
    load_biases,
    load_inputs,
    load_reused,
    load_slots,
    mean_count,
    reused_count,
    stage_width,
    tile_rows,
    zero_scalar,
    zero_states,
)
from lstm_numba.engines.cuda.stage_product import add_outer, add_to_stage, load_sums, outer_zeros, row_offsets


@cuda.jit(**DEVICE)
def _prepare_operand(cell, sizes, arrays, entry, row, unit, states):
    """The operand of the first product of the step from an entry on; zero after a sequence's end."""
    t = time_from(sizes, entry)
    operand = zero_scalar(cell, arrays.h)
    if 0 <= t < sizes.steps:
        start = t * sizes.batch * output_units(cell, sizes)
        if t < arrays.lengths[row]:
            operand = (cell_prepare(cell, states, load_vectors(cell, sizes, arrays, t, row, unit)),)
        store_output(cell, sizes, arrays.prepared[0], start, row, unit, operand)
    return operand


def _prepare(cell: Any, sizes: Any, arrays: Any, entry: Any, row: Any, unit: Any, states: Any) -> Any:
    """The operand of the step from a history entry on: h, or what the cell prepares of all states."""
    if cell.prepared:
        return _prepare_operand(cell, sizes, arrays, entry, row, unit, states)
    return states[:1]


@overload(_prepare)
def _(cell, sizes, arrays, entry, row, unit, states):
    if not cell.instance_class.prepared:
        return lambda cell, sizes, arrays, entry, row, unit, states: states[:1]
    return lambda cell, sizes, arrays, entry, row, unit, states: _prepare_operand(
        cell, sizes, arrays, entry, row, unit, states
    )


@cuda.jit(**DEVICE)
def _enter(cell, sizes, arrays, entry, row, unit, states):
    """Store the states of a history entry; returns the operand of the step from there on."""
    store_entry(cell, sizes, arrays, entry, row, unit, states)
    return _prepare(cell, sizes, arrays, entry, row, unit, states)


@cuda.jit(**DEVICE)
def load_initial_state(cell, sizes, arrays, row, unit):
    """Copy the initial states of a row and unit to the history; returns the first step's operand."""
    entry = sizes.steps if sizes.reverse else 0
    states = zero_states(cell, arrays.h)
    if arrays.initial[0].size > 0:
        states = load_stacked(cell, sizes, arrays.initial, row, unit)
    return _enter(cell, sizes, arrays, entry, row, unit, states)


@cuda.jit(**DEVICE)
def store_final_state(cell, sizes, arrays, row, unit):
    """Copy the final states of a row and unit out of the history."""
    entry = 0 if sizes.reverse else sizes.steps
    states = load_entry(cell, sizes, arrays, entry, row, unit)
    store_stacked(cell, sizes, arrays.final, row, unit, states)


_load_initial_states = for_each_unit(load_initial_state)
_store_final_states = for_each_unit(store_final_state)


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
def _new_states(cell, sizes, arrays, t, row, unit, slot_offset, slots, previous):
    """The cell's equations for one unit; returns the next step's operand."""
    _, after = neighbours(sizes, t)
    vectors = load_vectors(cell, sizes, arrays, t, row, unit)
    vectors = vectors + load_reused(cell, arrays.means, row, unit, sizes.hidden)
    kept, states = cell_forward(cell, slots, previous, vectors)
    store_scalars(arrays.slots, slot_offset, sizes.hidden, kept)
    return _enter(cell, sizes, arrays, after, row, unit, states)


@cuda.jit(**DEVICE)
def _cell_equations(cell, stage, sizes, arrays, t, row, unit, sums):
    """The cell's equations for one unit; after a sequence's end its states are carried along.

    Returns the next step's operand.
    """
    previous = previous_states(cell, sizes, arrays, t, row, unit)
    if t < arrays.lengths[row]:
        slot_offset = slots_offset(cell, sizes, t, row, unit)
        slots = add_to_stage(cell, stage, _slots(cell, stage, sizes, arrays, slot_offset, unit), sums)
        return _new_states(cell, sizes, arrays, t, row, unit, slot_offset, slots, previous)
    _, after = neighbours(sizes, t)
    return _enter(cell, sizes, arrays, after, row, unit, previous)


@cuda.jit(**DEVICE)
def _store_slots(cell, stage, sizes, arrays, t, row, unit, sums):
    """The pre-activations of one unit; the equations follow when the means are known."""
    slot_offset = slots_offset(cell, sizes, t, row, unit)
    slots = add_to_stage(cell, stage, _slots(cell, stage, sizes, arrays, slot_offset, unit), sums)
    store_scalars(arrays.slots, slot_offset, sizes.hidden, slots)


@cuda.jit(**DEVICE)
def _operand_equations(cell, stage, sizes, arrays, t, row, unit, sums):
    """The operand of the second product for one unit, which it returns; zero after a sequence's end."""
    target = t * sizes.batch * sizes.hidden + (row * sizes.hidden + unit)
    operand = zero_scalar(cell, arrays.h)
    if t < arrays.lengths[row]:
        slot_offset = slots_offset(cell, sizes, t, row, unit)
        slots = add_to_stage(cell, stage, _slots(cell, stage, sizes, arrays, slot_offset, unit), sums)
        store_scalars(arrays.slots, slot_offset, sizes.hidden, slots)
        previous = previous_states(cell, sizes, arrays, t, row, unit)
        operand = (cell_operand(cell, slots, previous, load_vectors(cell, sizes, arrays, t, row, unit)),)
    store_scalars(arrays.operand, target, 0, operand)
    return operand


def equations(cell: Any, stage: Any, sizes: Any, arrays: Any, t: Any, row: Any, unit: Any, sums: Any) -> Any:
    """What follows a stage's product; returns the operand of the next product, of a cell without means."""
    return _after_product(cell, stage)(cell, stage, sizes, arrays, t, row, unit, sums)


def _after_product(cell: Any, stage: Any) -> Any:
    """The operand of the second product, or the cell's equations; those with means have to wait."""
    if stage.number < len(cell.stages) - 1:
        return _operand_equations
    return _store_slots if cell.mean_levels else _cell_equations


@overload(equations)
def _(cell, stage, sizes, arrays, t, row, unit, sums):
    run = _after_product(cell.instance_class, stage.instance_class)
    return lambda cell, stage, sizes, arrays, t, row, unit, sums: run(
        cell, stage, sizes, arrays, t, row, unit, sums
    )


@cuda.jit(**DEVICE)
def _product(cell, stage, tile, sizes, weights, operand, start, row, unit, shared):
    """Store this thread's part of the stage's product in shared memory; `start`: offset of the operand."""
    lanes, lane, part = cuda.blockDim.x, cuda.threadIdx.x, cuda.threadIdx.y
    units, _ = stage_units(cell, stage, sizes)
    depth, part_depth = stage_depth(cell, stage, sizes)
    weight_row = block_count(cell, stage) * units
    width = stage_width(cell, stage)
    column = min(unit, units - 1)
    rows = row_offsets(tile, row, sizes.batch, depth)
    sums = outer_zeros(cell, stage, tile, shared)
    if feeds_projected(cell, stage) and unit >= units:
        depth = 0  # no work for a result that nobody reads
    for k in range(part * part_depth, min((part + 1) * part_depth, depth)):
        sums = add_outer(
            cell, stage, tile, sums, weights, k * weight_row + column, units, operand, rows, start + k
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
def _run_stage(cell, stage, tile, sizes, arrays, weights, operand, start, t, shared):
    """One stage of a step, on all tiles of this block."""
    height = tile_rows(tile)
    for unit_tile in stride_range(cuda.blockIdx.x, sizes.unit_tiles, cuda.gridDim.x):
        unit = unit_tile * cuda.blockDim.x + cuda.threadIdx.x
        for row_tile in stride_range(cuda.blockIdx.y, sizes.row_tiles, cuda.gridDim.y):
            first = row_tile * height
            _product(cell, stage, tile, sizes, weights, operand, start, first, unit, shared)
            cuda.syncthreads()
            for r in stride_range(cuda.threadIdx.y, height, cuda.blockDim.y):
                if unit < sizes.hidden and first + r < sizes.batch:
                    sums = _total(cell, stage, tile, shared, r)
                    equations(cell, stage, sizes, arrays, t, first + r, unit, sums)
            cuda.syncthreads()


@cuda.jit(**DEVICE)
def _run_with_h(cell, tile, sizes, arrays, t, shared):
    before, _ = neighbours(sizes, t)
    start = before * sizes.batch * output_units(cell, sizes)
    _run_stage(cell, FIRST, tile, sizes, arrays, arrays.weights[0], arrays.h, start, t, shared)


@cuda.jit(**DEVICE)
def _run_with_prepared(cell, tile, sizes, arrays, t, shared):
    start = t * sizes.batch * output_units(cell, sizes)
    _run_stage(cell, FIRST, tile, sizes, arrays, arrays.weights[0], arrays.prepared[0], start, t, shared)


def _first_stage(cell: Any, tile: Any, sizes: Any, arrays: Any, t: Any, shared: Any) -> None:
    """The first stage: its operand is the previous h, or what the cell prepared of the previous states."""
    (_run_with_prepared if cell.prepared else _run_with_h)(cell, tile, sizes, arrays, t, shared)


@overload(_first_stage)
def _(cell, tile, sizes, arrays, t, shared):
    run = _run_with_prepared if cell.instance_class.prepared else _run_with_h
    return lambda cell, tile, sizes, arrays, t, shared: run(cell, tile, sizes, arrays, t, shared)


@cuda.jit(**DEVICE)
def _run_second_stage(cell, mode, tile, sizes, arrays, step, t, shared):
    barrier_wait(mode, arrays.counters, 2 + 2 * step)
    start = t * sizes.batch * sizes.hidden
    _run_stage(cell, SECOND, tile, sizes, arrays, arrays.weights[-1], arrays.operand, start, t, shared)


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


@cuda.jit(**DEVICE)
def _contribution(cell, group, sizes, arrays, t, row, unit):
    """What one unit contributes to the means of a group; it keeps what is reused."""
    hidden, numbers = sizes.hidden, arrays.means[2]
    values, reused = cell_means(
        cell,
        group,
        load_slots(cell, arrays.slots, slots_offset(cell, sizes, t, row, unit), hidden),
        previous_states(cell, sizes, arrays, t, row, unit),
        load_vectors(cell, sizes, arrays, t, row, unit) + load_reused(cell, arrays.means, row, unit, hidden),
    )
    first = row * reused_count(cell) + first_reused(cell, group)
    store_scalars(numbers, first * hidden + unit, hidden, reused)
    return values


@cuda.jit(**DEVICE)
def _run_group(cell, group, mode, tile, sizes, arrays, step, t, shared):
    """The means of a group."""
    height, means, partial = tile_rows(tile), arrays.means[0], arrays.means[1]
    for unit_tile in stride_range(cuda.blockIdx.x, sizes.unit_tiles, cuda.gridDim.x):
        unit = unit_tile * cuda.blockDim.x + cuda.threadIdx.x
        for row_tile in stride_range(cuda.blockIdx.y, sizes.row_tiles, cuda.gridDim.y):
            first = row_tile * height
            for r in stride_range(cuda.threadIdx.y, height, cuda.blockDim.y):
                row = first + r
                if unit < sizes.hidden and row < sizes.batch and t < arrays.lengths[row]:
                    values = _contribution(cell, group, sizes, arrays, t, row, unit)
                    store_contribution(cell, group, shared, r, values)
                else:
                    store_no_contribution(cell, group, shared, r)
            sum_tile(cell, group, tile, sizes, shared, partial, first, unit_tile)
    barrier_wait(mode, arrays.counters, 2 + step * barrier_count(cell) + group_number(cell, group))
    finish_means(cell, group, tile, sizes, partial, means, t * sizes.batch * mean_count(cell))


@cuda.jit(**DEVICE)
def _run_equations(cell, tile, sizes, arrays, t):
    """The cell's equations for all units of this block, when the means are known."""
    height = tile_rows(tile)
    for unit_tile in stride_range(cuda.blockIdx.x, sizes.unit_tiles, cuda.gridDim.x):
        unit = unit_tile * cuda.blockDim.x + cuda.threadIdx.x
        for row_tile in stride_range(cuda.blockIdx.y, sizes.row_tiles, cuda.gridDim.y):
            for r in stride_range(cuda.threadIdx.y, height, cuda.blockDim.y):
                row = row_tile * height + r
                if unit < sizes.hidden and row < sizes.batch:
                    previous = previous_states(cell, sizes, arrays, t, row, unit)
                    if t < arrays.lengths[row]:
                        offset = slots_offset(cell, sizes, t, row, unit)
                        slots = load_slots(cell, arrays.slots, offset, sizes.hidden)
                        _new_states(cell, sizes, arrays, t, row, unit, offset, slots, previous)
                    else:
                        _, after = neighbours(sizes, t)
                        _enter(cell, sizes, arrays, after, row, unit, previous)


def _means(cell: Any, mode: Any, tile: Any, sizes: Any, arrays: Any, step: Any, t: Any, shared: Any) -> None:
    """Means and equations of a cell with means."""
    if cell.mean_levels:
        for group in GROUPS[: len(cell.mean_levels)]:
            _run_group(cell, group, mode, tile, sizes, arrays, step, t, shared)
        _run_equations(cell, tile, sizes, arrays, t)


@overload(_means)
def _(cell, mode, tile, sizes, arrays, step, t, shared):
    def none(cell, mode, tile, sizes, arrays, step, t, shared):
        pass

    def one(cell, mode, tile, sizes, arrays, step, t, shared):
        _run_group(cell, FIRST_GROUP, mode, tile, sizes, arrays, step, t, shared)
        _run_equations(cell, tile, sizes, arrays, t)

    def two(cell, mode, tile, sizes, arrays, step, t, shared):
        _run_group(cell, FIRST_GROUP, mode, tile, sizes, arrays, step, t, shared)
        _run_group(cell, SECOND_GROUP, mode, tile, sizes, arrays, step, t, shared)
        _run_equations(cell, tile, sizes, arrays, t)

    def three(cell, mode, tile, sizes, arrays, step, t, shared):
        _run_group(cell, FIRST_GROUP, mode, tile, sizes, arrays, step, t, shared)
        _run_group(cell, SECOND_GROUP, mode, tile, sizes, arrays, step, t, shared)
        _run_group(cell, THIRD_GROUP, mode, tile, sizes, arrays, step, t, shared)
        _run_equations(cell, tile, sizes, arrays, t)

    return (none, one, two, three)[len(cell.instance_class.mean_levels)]


@cuda.jit(**DEVICE)
def _run_sequence(cell, mode, tile, sizes, arrays, shared):
    _load_initial_states(cell, tile, sizes, arrays)
    for step in range(sizes.steps):
        barrier_wait(mode, arrays.counters, 1 + step * barrier_count(cell))
        t = time_of(sizes, step)
        _first_stage(cell, tile, sizes, arrays, t, shared)
        _second_stage(cell, mode, tile, sizes, arrays, step, t, shared)
        _means(cell, mode, tile, sizes, arrays, step, t, shared)
    barrier_leave(mode, arrays.counters)
    _store_final_states(cell, tile, sizes, arrays)


def forward_kernel(cell, mode, tile, sizes, arrays):
    """Run a whole sequence.

    Parameters
    ----------
    cell, mode, tile : empty named tuples
        Their classes say what is computed, which blocks wait for each other, and how many rows a thread has.
    sizes : Sizes
    arrays : Arrays
    """
    _run_sequence(cell, mode, tile, sizes, arrays, cuda.shared.array(0, arrays.h.dtype))


def forward_of_models(cell, mode, tile, sizes, arrays, models):
    """Run the sequences of many models, one for each block along z of the grid.

    Parameters
    ----------
    cell, mode, tile : empty named tuples
    sizes : Sizes
        Of each model.
    arrays : Arrays
        Of all models.
    models : Models
    """
    shared = cuda.shared.array(0, arrays.h.dtype)
    own = of_model(arrays, models.arrays, cuda.blockIdx.z)
    _run_sequence(cell, mode, tile, sizes, own, shared)


#: The kernel for each launch mode.
FORWARD: dict[type, Any] = {
    SingleBlock: cuda.jit(**KERNEL)(forward_kernel),
    CooperativeGrid: cuda.jit(**COOPERATIVE_FORWARD)(forward_kernel),
    BlockOfModel: cuda.jit(**COOPERATIVE_FORWARD)(forward_of_models),
}
