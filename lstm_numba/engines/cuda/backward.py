"""Back-propagation through a sequence in one launch, for any cell.

Every step, a block computes how its units' outputs went into the step after it, a product as deep as there
are slots, and then the tile's gradients. Beside the slots' gradients, from which the weights' follow as
products over all steps, only the states' gradients go from step to step.
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
from lstm_numba.engines.cuda.options import DEVICE, KERNEL
from lstm_numba.engines.cuda.scalar import add_numbers, add_tuples, load_each, store_each, store_numbers
from lstm_numba.engines.cuda.specialize import (
    FIRST,
    SECOND,
    add_inner,
    cell_backward,
    cell_operand_backward,
    inner_zeros,
    load_cell_states,
    load_one,
    load_peephole,
    load_slots,
    load_states,
    peephole_count,
    row_offsets,
    slot_count,
    stage_count,
    tile_rows,
    zero_peephole,
    zero_slots,
    zero_states,
)


@cuda.jit(**DEVICE)
def _cell_equations(cell, sizes, arrays, gradients, step, row, unit, total):
    """Gradients of one unit's slots and previous states; past a sequence's end the states' stay."""
    at = row * sizes.hidden + unit
    states = sizes.batch * sizes.hidden
    dh = add_tuples(load_one(cell, gradients.dstates, at, 0), total)
    if step == sizes.steps:
        store_numbers(gradients.dstates, at, 0, dh)
        return
    t = time_of(sizes, sizes.steps - 1 - step)
    place = slots_at(cell, sizes, t, row, unit)
    if t < arrays.lengths[row]:
        if gradients.dy.size > 0:
            dy = (t * sizes.batch + row) * sizes.dy_row + sizes.dy_at + unit
            dh = add_tuples(dh, load_one(cell, gradients.dy, dy, 0))
        dcell_states = load_cell_states(cell, gradients.dstates, states + at, states)
        _, after = neighbours(sizes, t)
        h = load_one(cell, arrays.h, after * states + at, 0)
        cell_states = load_cell_states(
            cell, arrays.cell_states, after * sizes.cell_step + at, sizes.cell_stride
        )
        dslots, dprevious, dpeephole = cell_backward(
            cell,
            load_slots(cell, arrays.slots, place, sizes.hidden),
            previous_states(cell, sizes, arrays, t, at),
            h + cell_states,
            load_peephole(cell, arrays.peephole, unit, sizes.hidden),
            dh + dcell_states,
        )
        store_numbers(arrays.slots, place, sizes.hidden, dslots)
        store_numbers(gradients.dstates, at, states, dprevious)
        add_numbers(
            gradients.dpeephole, row * peephole_count(cell) * sizes.hidden + unit, sizes.hidden, dpeephole
        )
    else:
        store_numbers(arrays.slots, place, sizes.hidden, zero_slots(cell, arrays.slots))
        store_numbers(gradients.dstates, at, 0, dh)


@cuda.jit(**DEVICE)
def _operand_equations(cell, sizes, arrays, gradients, step, row, unit, total):
    """What the operand's gradient adds to those of the slots and of the previous states."""
    t = time_of(sizes, sizes.steps - 1 - step)
    if t < arrays.lengths[row]:
        at = row * sizes.hidden + unit
        place = slots_at(cell, sizes, t, row, unit)
        dslots, dprevious = cell_operand_backward(
            cell,
            load_slots(cell, arrays.slots, place, sizes.hidden),
            previous_states(cell, sizes, arrays, t, at),
            total[0],
        )
        store_numbers(arrays.slots, place, sizes.hidden, dslots)
        add_numbers(gradients.dstates, at, sizes.batch * sizes.hidden, dprevious)


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
    """This thread's part of a tile's product of the slots' gradients at time t, left in shared memory."""
    lanes, part = cuda.blockDim.x, cuda.threadIdx.y
    column = min(unit, sizes.hidden - 1)
    slots = slot_count(cell) * sizes.hidden
    rows = row_offsets(tile, row, sizes.batch, slots)
    start = t * sizes.batch * slots
    block = sizes.hidden * sizes.hidden
    sums = inner_zeros(cell, stage, tile, shared)
    for k in range(part * sizes.depth, min((part + 1) * sizes.depth, sizes.hidden)):
        sums = add_inner(
            cell, stage, tile, sums, gradients.weights, k * sizes.hidden + column, block, arrays.slots, rows,
            start + k, sizes.hidden,
        )  # fmt: skip
    store_numbers(shared, part * tile_rows(tile) * lanes + cuda.threadIdx.x, lanes, sums)


@cuda.jit(**DEVICE)
def _run_stage(cell, stage, tile, sizes, arrays, gradients, step, t, shared):
    """The product with a stage's weights and what follows it, on all tiles of this block.

    The gradients that are multiplied are those of time t; before the first step there are none.
    """
    height = tile_rows(tile)
    lanes, parts = cuda.blockDim.x, cuda.blockDim.y
    for unit_tile in strides(cuda.blockIdx.x, sizes.across, cuda.gridDim.x):
        unit = unit_tile * lanes + cuda.threadIdx.x
        for row_tile in strides(cuda.blockIdx.y, sizes.down, cuda.gridDim.y):
            first = row_tile * height
            if t >= 0:
                _product(cell, stage, tile, sizes, arrays, gradients, t, first, unit, shared)
            else:
                at = cuda.threadIdx.y * height * lanes + cuda.threadIdx.x
                store_numbers(shared, at, lanes, inner_zeros(cell, stage, tile, shared))
            cuda.syncthreads()
            for r in strides(cuda.threadIdx.y, height, parts):
                if unit < sizes.hidden and first + r < sizes.batch:
                    total = load_one(cell, shared, r * lanes + cuda.threadIdx.x, 0)
                    for part in range(1, parts):
                        at = (part * height + r) * lanes + cuda.threadIdx.x
                        total = add_tuples(total, load_one(cell, shared, at, 0))
                    _equations(cell, stage, sizes, arrays, gradients, step, first + r, unit, total)
            cuda.syncthreads()


@cuda.jit(**DEVICE)
def _run_second_stage(cell, team, tile, sizes, arrays, gradients, step, shared):
    if step < sizes.steps:
        meet(team, arrays.counters, 1 + 2 * step)
        t = time_of(sizes, sizes.steps - 1 - step)
        _run_stage(cell, SECOND, tile, sizes, arrays, gradients, step, t, shared)


def _second_stage(
    cell: Any, team: Any, tile: Any, sizes: Any, arrays: Any, gradients: Any, step: Any, shared: Any
) -> None:
    """The second stage of a cell that has one."""
    if len(cell.stages) > 1:
        _run_second_stage(cell, team, tile, sizes, arrays, gradients, step, shared)


@overload(_second_stage)
def _(cell, team, tile, sizes, arrays, gradients, step, shared):
    if len(cell.instance_class.stages) == 1:
        return lambda cell, team, tile, sizes, arrays, gradients, step, shared: None
    return lambda cell, team, tile, sizes, arrays, gradients, step, shared: _run_second_stage(
        cell, team, tile, sizes, arrays, gradients, step, shared
    )


@cuda.jit(**DEVICE)
def _first_gradients(cell, sizes, gradients, row, unit):
    """The final states' gradients, with which the pass begins; those of peepholes begin at zero."""
    at, states = row * sizes.hidden + unit, sizes.batch * sizes.hidden
    if gradients.final[0].size > 0:
        store_numbers(gradients.dstates, at, states, load_each(gradients.final, sizes.place + at))
    else:
        store_numbers(gradients.dstates, at, states, zero_states(cell, gradients.dstates))
    peephole = row * peephole_count(cell) * sizes.hidden + unit
    store_numbers(gradients.dpeephole, peephole, sizes.hidden, zero_peephole(cell, gradients.dstates))


@cuda.jit(**DEVICE)
def _last_gradients(cell, sizes, gradients, row, unit):
    """The initial states' gradients, with which it ends."""
    at, states = row * sizes.hidden + unit, sizes.batch * sizes.hidden
    store_each(gradients.initial, sizes.place + at, load_states(cell, gradients.dstates, at, states))


@cuda.jit(**DEVICE)
def _pass_on(cell, tile, sizes, gradients, first):
    """Take the final states' gradients, or give the initial ones'; each thread those that are its own."""
    height = tile_rows(tile)
    for unit_tile in strides(cuda.blockIdx.x, sizes.across, cuda.gridDim.x):
        unit = unit_tile * cuda.blockDim.x + cuda.threadIdx.x
        for row_tile in strides(cuda.blockIdx.y, sizes.down, cuda.gridDim.y):
            for r in strides(cuda.threadIdx.y, height, cuda.blockDim.y):
                row = row_tile * height + r
                if unit < sizes.hidden and row < sizes.batch:
                    if first:
                        _first_gradients(cell, sizes, gradients, row, unit)
                    else:
                        _last_gradients(cell, sizes, gradients, row, unit)


def backward_kernel(cell, team, tile, sizes, arrays, gradients):
    """Back-propagate through a whole sequence.

    Parameters
    ----------
    cell, team, tile
        Say by their classes what is computed, who waits for whom, and how many rows a thread has.
    sizes : Sizes
    arrays : Arrays
        From the forward pass. The slots are replaced by their gradients.
    gradients : Gradients
    """
    shared = cuda.shared.array(0, arrays.h.dtype)
    _pass_on(cell, tile, sizes, gradients, 1)
    # One turn more than there are steps: the last leaves the gradient of the initial state.
    for step in range(sizes.steps + 1):
        if step > 0:
            meet(team, arrays.counters, step * stage_count(cell))
        t = time_of(sizes, sizes.steps - step) if step > 0 else -1
        _run_stage(cell, FIRST, tile, sizes, arrays, gradients, step, t, shared)
        _second_stage(cell, team, tile, sizes, arrays, gradients, step, shared)
    leave(team, arrays.counters)
    _pass_on(cell, tile, sizes, gradients, 0)


#: The kernel for each team. With one product a step it has 102 registers at most, and two blocks fit on a
#: multiprocessor; with two products up to 142, and one fits.
BACKWARD: dict[type, Any] = dict.fromkeys((Alone, Together), cuda.jit(**KERNEL)(backward_kernel))
