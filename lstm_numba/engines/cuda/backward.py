"""Back-propagation through a sequence in one launch, for any cell.

In every step a block multiplies the slots' gradients of the later step with the recurrent weights, and then
computes the cell's backward equations of its tiles. The slots are overwritten by their gradients, from which
the weights' gradients follow as products over all steps; only the states' gradients go from step to step.
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
    has_output,
    load_entry,
    load_stacked,
    load_vectors,
    neighbours,
    previous_states,
    slots_offset,
    stage_depth,
    stage_units,
    store_stacked,
    time_from,
    time_of,
)
from lstm_numba.engines.cuda.means import (
    FIRST_GROUP,
    GROUPS,
    SECOND_GROUP,
    THIRD_GROUP,
    cell_dmeans,
    finish_means,
    first_dreused,
    store_contribution,
    store_no_contribution,
    sum_tile,
)
from lstm_numba.engines.cuda.model_arrays import of_model
from lstm_numba.engines.cuda.options import COOPERATIVE_BACKWARD, DEVICE, KERNEL
from lstm_numba.engines.cuda.scalar import (
    accumulate_scalars,
    add_tuples,
    store_scalars,
)
from lstm_numba.engines.cuda.specialize import (
    FIRST,
    SECOND,
    barrier_count,
    cell_backward,
    cell_operand_backward,
    cell_prepare_backward,
    dreused_count,
    load_cell_states,
    load_dreused,
    load_means,
    load_scalar,
    load_slots,
    load_states,
    peephole_count,
    reads_projected,
    slot_count,
    tile_rows,
    zero_peephole,
    zero_scalar,
    zero_slots,
    zero_states,
)
from lstm_numba.engines.cuda.stage_product import add_inner, inner_zeros, row_offsets


@cuda.jit(**DEVICE)
def _with_later_h(cell, sizes, arrays, gradients, step, row, unit, total):
    return add_tuples(load_scalar(cell, gradients.dstates, row * sizes.hidden + unit, 0), total)


@cuda.jit(**DEVICE)
def _with_later_operand(cell, sizes, arrays, gradients, step, row, unit, total):
    offset = row * sizes.hidden + unit
    entry = step if sizes.reverse else sizes.steps - step
    t = time_from(sizes, entry)
    if 0 <= t < arrays.lengths[row]:
        states = load_entry(cell, sizes, arrays, entry, row, unit)
        vectors = load_vectors(cell, sizes, arrays, t, row, unit)
        dstates = cell_prepare_backward(cell, states, vectors, total[0])
        accumulate_scalars(gradients.dstates, offset, sizes.batch * sizes.hidden, dstates)
    return load_scalar(cell, gradients.dstates, offset, 0)


def _with_later(
    cell: Any, sizes: Any, arrays: Any, gradients: Any, step: Any, row: Any, unit: Any, total: Any
) -> Any:
    """The gradient of a step's h from all later steps; those of the other states are complete then, too.

    `total` is the gradient of the first product's operand in the later step: h, or what the cell prepared of
    all states.
    """
    add = _with_later_operand if cell.prepared else _with_later_h
    return add(cell, sizes, arrays, gradients, step, row, unit, total)


@overload(_with_later)
def _(cell, sizes, arrays, gradients, step, row, unit, total):
    add = _with_later_operand if cell.instance_class.prepared else _with_later_h
    return lambda cell, sizes, arrays, gradients, step, row, unit, total: add(
        cell, sizes, arrays, gradients, step, row, unit, total
    )


@cuda.jit(**DEVICE)
def _state_gradients(cell, sizes, gradients, t, row, unit, dh):
    """The gradients of a step's states; `dh` is that of h from later steps, without the output's."""
    stride = sizes.batch * sizes.hidden
    if gradients.dy.size > 0 and has_output(cell, sizes, unit):
        dy_offset = (t * sizes.batch + row) * sizes.dy_row + sizes.dy_offset + unit
        dh = add_tuples(dh, load_scalar(cell, gradients.dy, dy_offset, 0))
    return dh + load_cell_states(cell, gradients.dstates, stride + (row * sizes.hidden + unit), stride)


@cuda.jit(**DEVICE)
def _unit_gradients(cell, sizes, arrays, gradients, t, row, unit, dh):
    """The cell's backward equations for one unit; after a sequence's end its gradients are carried along.

    Returns the slots' gradients.
    """
    offset = row * sizes.hidden + unit
    stride = sizes.batch * sizes.hidden
    slot_offset = slots_offset(cell, sizes, t, row, unit)
    if t < arrays.lengths[row]:
        dstates = _state_gradients(cell, sizes, gradients, t, row, unit, dh)
        _, after = neighbours(sizes, t)
        states = load_entry(cell, sizes, arrays, after, row, unit)
        dslots, dprevious, dpeephole = cell_backward(
            cell,
            load_slots(cell, arrays.slots, slot_offset, sizes.hidden),
            previous_states(cell, sizes, arrays, t, row, unit),
            states,
            load_vectors(cell, sizes, arrays, t, row, unit)
            + load_dreused(cell, gradients.dmeans, row, unit, sizes.hidden),
            dstates + load_means(cell, gradients.dmeans, row),
        )
        store_scalars(arrays.slots, slot_offset, sizes.hidden, dslots)
        store_scalars(gradients.dstates, offset, stride, dprevious)
        peephole_offset = row * peephole_count(cell) * sizes.hidden + unit
        accumulate_scalars(gradients.dpeephole, peephole_offset, sizes.hidden, dpeephole)
        return dslots
    zeros = zero_slots(cell, arrays.slots)
    store_scalars(arrays.slots, slot_offset, sizes.hidden, zeros)
    store_scalars(gradients.dstates, offset, 0, dh)
    return zeros


@cuda.jit(**DEVICE)
def _later_gradient(cell, sizes, arrays, gradients, step, row, unit, total):
    """See `_with_later`; zero for a unit that h has not."""
    dh = _with_later(cell, sizes, arrays, gradients, step, row, unit, total)
    return dh if has_output(cell, sizes, unit) else zero_scalar(cell, gradients.dstates)


@cuda.jit(**DEVICE)
def _cell_equations(cell, sizes, arrays, gradients, step, row, unit, total):
    """The gradients from later steps, and the cell's backward equations."""
    dh = _later_gradient(cell, sizes, arrays, gradients, step, row, unit, total)
    if step == sizes.steps:
        store_scalars(gradients.dstates, row * sizes.hidden + unit, 0, dh)
        return zero_slots(cell, arrays.slots)
    t = time_of(sizes, sizes.steps - 1 - step)
    return _unit_gradients(cell, sizes, arrays, gradients, t, row, unit, dh)


@cuda.jit(**DEVICE)
def _store_later_gradient(cell, sizes, arrays, gradients, step, row, unit, total):
    """The gradients from later steps; the equations follow when those of the means are known."""
    dh = _later_gradient(cell, sizes, arrays, gradients, step, row, unit, total)
    store_scalars(gradients.dstates, row * sizes.hidden + unit, 0, dh)


@cuda.jit(**DEVICE)
def _operand_equations(cell, sizes, arrays, gradients, step, row, unit, total):
    """The backward equations of the operand for one unit; they add to the previous states' gradients.

    Returns the slots' gradients.
    """
    t = time_of(sizes, sizes.steps - 1 - step)
    if t < arrays.lengths[row]:
        offset = row * sizes.hidden + unit
        slot_offset = slots_offset(cell, sizes, t, row, unit)
        dslots, dprevious = cell_operand_backward(
            cell,
            load_slots(cell, arrays.slots, slot_offset, sizes.hidden),
            previous_states(cell, sizes, arrays, t, row, unit),
            load_vectors(cell, sizes, arrays, t, row, unit),
            total[0],
        )
        store_scalars(arrays.slots, slot_offset, sizes.hidden, dslots)
        accumulate_scalars(gradients.dstates, offset, sizes.batch * sizes.hidden, dprevious)
        return dslots
    return zero_slots(cell, arrays.slots)


def equations(
    cell: Any, stage: Any, sizes: Any, arrays: Any, gradients: Any, step: Any, row: Any, unit: Any, total: Any
) -> Any:
    """What follows the product with a stage's weights; the slots' gradients, of a cell without means."""
    run = _after_product(cell, stage)
    return run(cell, sizes, arrays, gradients, step, row, unit, total)


def _after_product(cell: Any, stage: Any) -> Any:
    """The cell's backward equations, or those of the operand; those with means have to wait."""
    if stage.number > 0:
        return _operand_equations
    return _store_later_gradient if cell.mean_levels else _cell_equations


@overload(equations)
def _(cell, stage, sizes, arrays, gradients, step, row, unit, total):
    run = _after_product(cell.instance_class, stage.instance_class)
    return lambda cell, stage, sizes, arrays, gradients, step, row, unit, total: run(
        cell, sizes, arrays, gradients, step, row, unit, total
    )


@cuda.jit(**DEVICE)
def _product(cell, stage, tile, sizes, arrays, weights, t, row, unit, shared):
    """Store this thread's part of the product of the slots' gradients at time t in shared memory."""
    lanes, part = cuda.blockDim.x, cuda.threadIdx.y
    columns, _ = stage_depth(cell, stage, sizes)
    units, part_depth = stage_units(cell, stage, sizes)
    column = min(unit, columns - 1)
    slots = slot_count(cell) * sizes.hidden
    rows = row_offsets(tile, row, sizes.batch, slots)
    start = t * sizes.batch * slots
    block = units * columns
    sums = inner_zeros(cell, stage, tile, shared)
    if reads_projected(cell, stage) and unit >= columns:
        units = 0  # no gradient of what the operand has not
    for k in range(part * part_depth, min((part + 1) * part_depth, units)):
        sums = add_inner(
            cell, stage, tile, sums, weights, k * columns + column, block, arrays.slots, rows, start + k,
            sizes.hidden,
        )  # fmt: skip
    store_scalars(shared, part * tile_rows(tile) * lanes + cuda.threadIdx.x, lanes, sums)


@cuda.jit(**DEVICE)
def _run_stage(cell, stage, tile, sizes, arrays, gradients, weights, step, t, shared):
    """The product with a stage's weights and what follows it, on all tiles of this block.

    The product is of the slots' gradients at time t; -1 stands for zeros, before the first step.
    """
    height = tile_rows(tile)
    lanes, parts = cuda.blockDim.x, cuda.blockDim.y
    for unit_tile in stride_range(cuda.blockIdx.x, sizes.unit_tiles, cuda.gridDim.x):
        unit = unit_tile * lanes + cuda.threadIdx.x
        for row_tile in stride_range(cuda.blockIdx.y, sizes.row_tiles, cuda.gridDim.y):
            first = row_tile * height
            if t >= 0:
                _product(cell, stage, tile, sizes, arrays, weights, t, first, unit, shared)
            else:
                offset = cuda.threadIdx.y * height * lanes + cuda.threadIdx.x
                store_scalars(shared, offset, lanes, inner_zeros(cell, stage, tile, shared))
            cuda.syncthreads()
            for r in stride_range(cuda.threadIdx.y, height, parts):
                if unit < sizes.hidden and first + r < sizes.batch:
                    total = load_scalar(cell, shared, r * lanes + cuda.threadIdx.x, 0)
                    for part in range(1, parts):
                        offset = (part * height + r) * lanes + cuda.threadIdx.x
                        total = add_tuples(total, load_scalar(cell, shared, offset, 0))
                    equations(cell, stage, sizes, arrays, gradients, step, first + r, unit, total)
            cuda.syncthreads()


@cuda.jit(**DEVICE)
def _run_second_stage(cell, mode, tile, sizes, arrays, gradients, step, shared):
    if step < sizes.steps:
        barrier_wait(mode, arrays.counters, 1 + 2 * step)
        t = time_of(sizes, sizes.steps - 1 - step)
        _run_stage(cell, SECOND, tile, sizes, arrays, gradients, gradients.weights[-1], step, t, shared)


def _second_stage(
    cell: Any, mode: Any, tile: Any, sizes: Any, arrays: Any, gradients: Any, step: Any, shared: Any
) -> None:
    """The second stage of a cell that has one."""
    if len(cell.stages) > 1:
        _run_second_stage(cell, mode, tile, sizes, arrays, gradients, step, shared)


@overload(_second_stage)
def _(cell, mode, tile, sizes, arrays, gradients, step, shared):
    if len(cell.instance_class.stages) == 1:
        return lambda cell, mode, tile, sizes, arrays, gradients, step, shared: None
    return lambda cell, mode, tile, sizes, arrays, gradients, step, shared: _run_second_stage(
        cell, mode, tile, sizes, arrays, gradients, step, shared
    )


@cuda.jit(**DEVICE)
def _contribution(cell, group, sizes, arrays, gradients, t, row, unit):
    """What one unit contributes to the gradients of the means of a group; it keeps what is reused."""
    hidden, numbers = sizes.hidden, gradients.dmeans[1]
    dh = load_scalar(cell, gradients.dstates, row * sizes.hidden + unit, 0)
    dstates = _state_gradients(cell, sizes, gradients, t, row, unit, dh)
    _, after = neighbours(sizes, t)
    states = load_entry(cell, sizes, arrays, after, row, unit)
    values, reused = cell_dmeans(
        cell,
        group,
        load_slots(cell, arrays.slots, slots_offset(cell, sizes, t, row, unit), hidden),
        previous_states(cell, sizes, arrays, t, row, unit),
        states,
        load_vectors(cell, sizes, arrays, t, row, unit)
        + load_dreused(cell, gradients.dmeans, row, unit, hidden),
        dstates + load_means(cell, gradients.dmeans, row),
    )
    first = row * dreused_count(cell) + first_dreused(cell, group)
    store_scalars(numbers, first * hidden + unit, hidden, reused)
    return values


@cuda.jit(**DEVICE)
def _run_group(cell, group, mode, tile, sizes, arrays, gradients, step, earlier, shared):
    """The gradients of the means of a group; `earlier`: groups before it in this step."""
    height, partial, t = tile_rows(tile), arrays.means[1], time_of(sizes, sizes.steps - 1 - step)
    for unit_tile in stride_range(cuda.blockIdx.x, sizes.unit_tiles, cuda.gridDim.x):
        unit = unit_tile * cuda.blockDim.x + cuda.threadIdx.x
        for row_tile in stride_range(cuda.blockIdx.y, sizes.row_tiles, cuda.gridDim.y):
            first = row_tile * height
            for r in stride_range(cuda.threadIdx.y, height, cuda.blockDim.y):
                row = first + r
                if unit < sizes.hidden and row < sizes.batch and t < arrays.lengths[row]:
                    values = _contribution(cell, group, sizes, arrays, gradients, t, row, unit)
                    store_contribution(cell, group, shared, r, values)
                else:
                    store_no_contribution(cell, group, shared, r)
            sum_tile(cell, group, tile, sizes, shared, partial, first, unit_tile)
    barrier_wait(mode, arrays.counters, 1 + step * barrier_count(cell) + earlier)
    finish_means(cell, group, tile, sizes, partial, gradients.dmeans[0], 0)


@cuda.jit(**DEVICE)
def _run_equations(cell, tile, sizes, arrays, gradients, step):
    """The backward equations for all units of this block, when the gradients of the means are known."""
    height, t = tile_rows(tile), time_of(sizes, sizes.steps - 1 - step)
    for unit_tile in stride_range(cuda.blockIdx.x, sizes.unit_tiles, cuda.gridDim.x):
        unit = unit_tile * cuda.blockDim.x + cuda.threadIdx.x
        for row_tile in stride_range(cuda.blockIdx.y, sizes.row_tiles, cuda.gridDim.y):
            for r in stride_range(cuda.threadIdx.y, height, cuda.blockDim.y):
                row = row_tile * height + r
                if unit < sizes.hidden and row < sizes.batch:
                    dh = load_scalar(cell, gradients.dstates, row * sizes.hidden + unit, 0)
                    _unit_gradients(cell, sizes, arrays, gradients, t, row, unit, dh)


def _means(
    cell: Any, mode: Any, tile: Any, sizes: Any, arrays: Any, gradients: Any, step: Any, shared: Any
) -> None:
    """Gradients of the means and backward equations of a cell with means."""
    if cell.mean_levels and step < sizes.steps:
        for earlier, group in enumerate(reversed(GROUPS[: len(cell.mean_levels)])):
            _run_group(cell, group, mode, tile, sizes, arrays, gradients, step, earlier, shared)
        _run_equations(cell, tile, sizes, arrays, gradients, step)


@overload(_means)
def _(cell, mode, tile, sizes, arrays, gradients, step, shared):
    def none(cell, mode, tile, sizes, arrays, gradients, step, shared):
        pass

    def one(cell, mode, tile, sizes, arrays, gradients, step, shared):
        if step < sizes.steps:
            _run_group(cell, FIRST_GROUP, mode, tile, sizes, arrays, gradients, step, 0, shared)
            _run_equations(cell, tile, sizes, arrays, gradients, step)

    def two(cell, mode, tile, sizes, arrays, gradients, step, shared):
        if step < sizes.steps:
            _run_group(cell, SECOND_GROUP, mode, tile, sizes, arrays, gradients, step, 0, shared)
            _run_group(cell, FIRST_GROUP, mode, tile, sizes, arrays, gradients, step, 1, shared)
            _run_equations(cell, tile, sizes, arrays, gradients, step)

    def three(cell, mode, tile, sizes, arrays, gradients, step, shared):
        if step < sizes.steps:
            _run_group(cell, THIRD_GROUP, mode, tile, sizes, arrays, gradients, step, 0, shared)
            _run_group(cell, SECOND_GROUP, mode, tile, sizes, arrays, gradients, step, 1, shared)
            _run_group(cell, FIRST_GROUP, mode, tile, sizes, arrays, gradients, step, 2, shared)
            _run_equations(cell, tile, sizes, arrays, gradients, step)

    return (none, one, two, three)[len(cell.instance_class.mean_levels)]


@cuda.jit(**DEVICE)
def load_final_gradient(cell, sizes, gradients, row, unit):
    """Start from the gradients of the final states, and from zeros for those of the peephole weights."""
    offset, stride = row * sizes.hidden + unit, sizes.batch * sizes.hidden
    if gradients.final[0].size > 0:
        dstates = load_stacked(cell, sizes, gradients.final, row, unit)
        store_scalars(gradients.dstates, offset, stride, dstates)
    else:
        store_scalars(gradients.dstates, offset, stride, zero_states(cell, gradients.dstates))
    peephole = row * peephole_count(cell) * sizes.hidden + unit
    store_scalars(gradients.dpeephole, peephole, sizes.hidden, zero_peephole(cell, gradients.dstates))


@cuda.jit(**DEVICE)
def store_initial_gradient(cell, sizes, gradients, row, unit):
    """Copy out the gradients of the initial states."""
    offset, stride = row * sizes.hidden + unit, sizes.batch * sizes.hidden
    dstates = load_states(cell, gradients.dstates, offset, stride)
    store_stacked(cell, sizes, gradients.initial, row, unit, dstates)


_load_final_gradients = for_each_unit(load_final_gradient)
_store_initial_gradients = for_each_unit(store_initial_gradient)


@cuda.jit(**DEVICE)
def _run_sequence(cell, mode, tile, sizes, arrays, gradients, shared):
    _load_final_gradients(cell, tile, sizes, gradients)
    # One iteration more than there are steps: the last computes the gradient of the initial state.
    for step in range(sizes.steps + 1):
        if step > 0:
            barrier_wait(mode, arrays.counters, step * barrier_count(cell))
        t = time_of(sizes, sizes.steps - step) if step > 0 else -1
        _run_stage(cell, FIRST, tile, sizes, arrays, gradients, gradients.weights[0], step, t, shared)
        _second_stage(cell, mode, tile, sizes, arrays, gradients, step, shared)
        _means(cell, mode, tile, sizes, arrays, gradients, step, shared)
    barrier_leave(mode, arrays.counters)
    _store_initial_gradients(cell, tile, sizes, gradients)


def backward_kernel(cell, mode, tile, sizes, arrays, gradients):
    """Back-propagate through a whole sequence.

    Parameters
    ----------
    cell, mode, tile : empty named tuples
        Their classes say what is computed, which blocks wait for each other, and how many rows a thread has.
    sizes : Sizes
    arrays : Arrays
        From the forward pass. The slots are replaced by their gradients.
    gradients : Gradients
    """
    _run_sequence(cell, mode, tile, sizes, arrays, gradients, cuda.shared.array(0, arrays.h.dtype))


def backward_of_models(cell, mode, tile, sizes, arrays, gradients, models):
    """Back-propagate through the sequences of many models, one for each block along z of the grid.

    Parameters
    ----------
    cell, mode, tile : empty named tuples
    sizes : Sizes
        Of each model.
    arrays, gradients : Arrays, Gradients
        Of all models.
    models : Models
    """
    shared = cuda.shared.array(0, arrays.h.dtype)
    own = of_model(arrays, models.arrays, cuda.blockIdx.z)
    own_gradients = of_model(gradients, models.gradients, cuda.blockIdx.z)
    _run_sequence(cell, mode, tile, sizes, own, own_gradients, shared)


#: The kernel for each launch mode.
BACKWARD: dict[type, Any] = {
    SingleBlock: cuda.jit(**KERNEL)(backward_kernel),
    CooperativeGrid: cuda.jit(**COOPERATIVE_BACKWARD)(backward_kernel),
    BlockOfModel: cuda.jit(**COOPERATIVE_BACKWARD)(backward_of_models),
}
