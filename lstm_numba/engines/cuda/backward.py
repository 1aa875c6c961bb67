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
    CooperativeGrid,
    SingleBlock,
    barrier_leave,
    barrier_wait,
    for_each_unit,
    load_entry,
    neighbours,
    previous_states,
    slots_offset,
    time_of,
)
from lstm_numba.engines.cuda.options import COOPERATIVE_BACKWARD, DEVICE, KERNEL
from lstm_numba.engines.cuda.scalar import (
    accumulate_scalars,
    add_tuples,
    load_each,
    store_each,
    store_scalars,
)
from lstm_numba.engines.cuda.specialize import (
    FIRST,
    SECOND,
    cell_backward,
    cell_operand_backward,
    load_cell_states,
    load_peephole,
    load_scalar,
    load_slots,
    load_states,
    peephole_count,
    slot_count,
    stage_count,
    tile_rows,
    zero_peephole,
    zero_slots,
    zero_states,
)
from lstm_numba.engines.cuda.stage_product import add_inner, inner_zeros, row_offsets


@cuda.jit(**DEVICE)
def _cell_equations(cell, sizes, arrays, gradients, step, row, unit, total):
    """The cell's backward equations for one unit; after a sequence's end its gradients are carried along."""
    offset = row * sizes.hidden + unit
    stride = sizes.batch * sizes.hidden
    dh = add_tuples(load_scalar(cell, gradients.dstates, offset, 0), total)
    if step == sizes.steps:
        store_scalars(gradients.dstates, offset, 0, dh)
        return
    t = time_of(sizes, sizes.steps - 1 - step)
    slot_offset = slots_offset(cell, sizes, t, row, unit)
    if t < arrays.lengths[row]:
        if gradients.dy.size > 0:
            dy_offset = (t * sizes.batch + row) * sizes.dy_row + sizes.dy_offset + unit
            dh = add_tuples(dh, load_scalar(cell, gradients.dy, dy_offset, 0))
        dcell_states = load_cell_states(cell, gradients.dstates, stride + offset, stride)
        _, after = neighbours(sizes, t)
        states = load_entry(cell, sizes, arrays, after, offset)
        dslots, dprevious, dpeephole = cell_backward(
            cell,
            load_slots(cell, arrays.slots, slot_offset, sizes.hidden),
            previous_states(cell, sizes, arrays, t, offset),
            states,
            load_peephole(cell, arrays.peephole, unit, sizes.hidden),
            dh + dcell_states,
        )
        store_scalars(arrays.slots, slot_offset, sizes.hidden, dslots)
        store_scalars(gradients.dstates, offset, stride, dprevious)
        peephole_offset = row * peephole_count(cell) * sizes.hidden + unit
        accumulate_scalars(gradients.dpeephole, peephole_offset, sizes.hidden, dpeephole)
    else:
        store_scalars(arrays.slots, slot_offset, sizes.hidden, zero_slots(cell, arrays.slots))
        store_scalars(gradients.dstates, offset, 0, dh)


@cuda.jit(**DEVICE)
def _operand_equations(cell, sizes, arrays, gradients, step, row, unit, total):
    """The backward equations of the operand for one unit; they add to the previous states' gradients."""
    t = time_of(sizes, sizes.steps - 1 - step)
    if t < arrays.lengths[row]:
        offset = row * sizes.hidden + unit
        slot_offset = slots_offset(cell, sizes, t, row, unit)
        dslots, dprevious = cell_operand_backward(
            cell,
            load_slots(cell, arrays.slots, slot_offset, sizes.hidden),
            previous_states(cell, sizes, arrays, t, offset),
            total[0],
        )
        store_scalars(arrays.slots, slot_offset, sizes.hidden, dslots)
        accumulate_scalars(gradients.dstates, offset, sizes.batch * sizes.hidden, dprevious)


def _equations(
    cell: Any, stage: Any, sizes: Any, arrays: Any, gradients: Any, step: Any, row: Any, unit: Any, total: Any
) -> None:
    """What follows the product with a stage's weights."""
    run = _cell_equations if stage.number == 0 else _operand_equations
    run(cell, sizes, arrays, gradients, step, row, unit, total)


@overload(_equations)
def _(cell, stage, sizes, arrays, gradients, step, row, unit, total):
    run = _cell_equations if stage.instance_class.number == 0 else _operand_equations
    return lambda cell, stage, sizes, arrays, gradients, step, row, unit, total: run(
        cell, sizes, arrays, gradients, step, row, unit, total
    )


@cuda.jit(**DEVICE)
def _product(cell, stage, tile, sizes, arrays, gradients, t, row, unit, shared):
    """Store this thread's part of the product of the slots' gradients at time t in shared memory."""
    lanes, part = cuda.blockDim.x, cuda.threadIdx.y
    column = min(unit, sizes.hidden - 1)
    slots = slot_count(cell) * sizes.hidden
    rows = row_offsets(tile, row, sizes.batch, slots)
    start = t * sizes.batch * slots
    block = sizes.hidden * sizes.hidden
    sums = inner_zeros(cell, stage, tile, shared)
    for k in range(part * sizes.part_depth, min((part + 1) * sizes.part_depth, sizes.hidden)):
        sums = add_inner(
            cell, stage, tile, sums, gradients.weights, k * sizes.hidden + column, block, arrays.slots, rows,
            start + k, sizes.hidden,
        )  # fmt: skip
    store_scalars(shared, part * tile_rows(tile) * lanes + cuda.threadIdx.x, lanes, sums)


@cuda.jit(**DEVICE)
def _run_stage(cell, stage, tile, sizes, arrays, gradients, step, t, shared):
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
                _product(cell, stage, tile, sizes, arrays, gradients, t, first, unit, shared)
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
                    _equations(cell, stage, sizes, arrays, gradients, step, first + r, unit, total)
            cuda.syncthreads()


@cuda.jit(**DEVICE)
def _run_second_stage(cell, mode, tile, sizes, arrays, gradients, step, shared):
    if step < sizes.steps:
        barrier_wait(mode, arrays.counters, 1 + 2 * step)
        t = time_of(sizes, sizes.steps - 1 - step)
        _run_stage(cell, SECOND, tile, sizes, arrays, gradients, step, t, shared)


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
def _load_final_gradient(cell, sizes, gradients, row, unit):
    """Start from the gradients of the final states, and from zeros for those of the peephole weights."""
    offset, stride = row * sizes.hidden + unit, sizes.batch * sizes.hidden
    if gradients.final[0].size > 0:
        dstates = load_each(gradients.final, sizes.state_offset + offset)
        store_scalars(gradients.dstates, offset, stride, dstates)
    else:
        store_scalars(gradients.dstates, offset, stride, zero_states(cell, gradients.dstates))
    peephole = row * peephole_count(cell) * sizes.hidden + unit
    store_scalars(gradients.dpeephole, peephole, sizes.hidden, zero_peephole(cell, gradients.dstates))


@cuda.jit(**DEVICE)
def _store_initial_gradient(cell, sizes, gradients, row, unit):
    """Copy out the gradients of the initial states."""
    offset, stride = row * sizes.hidden + unit, sizes.batch * sizes.hidden
    dstates = load_states(cell, gradients.dstates, offset, stride)
    store_each(gradients.initial, sizes.state_offset + offset, dstates)


_load_final_gradients = for_each_unit(_load_final_gradient)
_store_initial_gradients = for_each_unit(_store_initial_gradient)


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
    shared = cuda.shared.array(0, arrays.h.dtype)
    _load_final_gradients(cell, tile, sizes, gradients)
    # One iteration more than there are steps: the last computes the gradient of the initial state.
    for step in range(sizes.steps + 1):
        if step > 0:
            barrier_wait(mode, arrays.counters, step * stage_count(cell))
        t = time_of(sizes, sizes.steps - step) if step > 0 else -1
        _run_stage(cell, FIRST, tile, sizes, arrays, gradients, step, t, shared)
        _second_stage(cell, mode, tile, sizes, arrays, gradients, step, shared)
    barrier_leave(mode, arrays.counters)
    _store_initial_gradients(cell, tile, sizes, gradients)


#: The kernel for each launch mode.
BACKWARD: dict[type, Any] = {
    SingleBlock: cuda.jit(**KERNEL)(backward_kernel),
    CooperativeGrid: cuda.jit(**COOPERATIVE_BACKWARD)(backward_kernel),
}
