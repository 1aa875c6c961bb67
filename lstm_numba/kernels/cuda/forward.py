"""The forward pass of a step, for `step`: shared by `size` threads, of which this one has number `rank`."""

from __future__ import annotations

from typing import Any

from lstm_numba.engines.cuda.driver import cuda, overload
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.options import DEVICE
from lstm_numba.engines.cuda.scalar import load_each, store_each, store_scalars
from lstm_numba.engines.cuda.specialize import (
    FIRST,
    INPUT,
    SECOND,
    OneRow,
    block_count,
    cell_forward,
    cell_operand,
    load_peephole,
    load_scalar,
    load_slots,
)
from lstm_numba.engines.cuda.stage_product import add_outer, add_to_stage, outer_zeros
from lstm_numba.kernels.cuda.weights import cell_state_row, previous_row, slots_row

ONE = OneRow()


@cuda.jit(**DEVICE)
def block_barrier(size):
    """Wait for the other threads of the block, if there are any."""
    if size > 1:
        cuda.syncthreads()


@cuda.jit(**DEVICE)
def _add_product(weights, stage, slots, matrix, operand, offset, depth, unit):
    """Add a stage's product to the slots of a unit; the operand begins at `offset` of its array."""
    cell, hidden = weights.cell, weights.hidden
    width = block_count(cell, stage) * hidden
    sums, rows = outer_zeros(cell, stage, ONE, weights.bias), (offset,)
    for k in range(depth):
        sums = add_outer(cell, stage, ONE, sums, matrix, k * width + unit, hidden, operand, rows, k)
    return add_to_stage(cell, stage, slots, sums)


@cuda.jit(**DEVICE)
def _cell_equations(weights, slots, states, work, keep, unit):
    """The cell's equations for one unit; the new h goes to `work`, as others still read the old one."""
    cell, hidden = weights.cell, weights.hidden
    previous = load_each(states, unit)
    kept, new = cell_forward(cell, slots, previous, load_peephole(cell, weights.peephole, unit, hidden))
    store_scalars(work, unit, 0, new[:1])
    store_each(states[1:], unit, new[1:])
    if keep:
        store_scalars(work, slots_row(cell) * hidden + unit, hidden, kept)
        store_scalars(work, previous_row(cell) * hidden + unit, hidden, previous)
        store_scalars(work, cell_state_row(cell) * hidden + unit, hidden, new[1:])


@cuda.jit(**DEVICE)
def _operand_equations(weights, slots, states, work, keep, unit):
    """The operand of the second product for one unit."""
    cell, hidden = weights.cell, weights.hidden
    store_scalars(work, slots_row(cell) * hidden + unit, hidden, slots)
    vectors = load_peephole(cell, weights.peephole, unit, hidden)
    store_scalars(work, hidden + unit, 0, (cell_operand(cell, slots, load_each(states, unit), vectors),))


def _equations(weights: Any, slots: Any, states: Any, work: Any, keep: Any, unit: Any) -> None:
    """What follows the first recurrent product."""
    run = _cell_equations if len(weights.cell.stages) == 1 else _operand_equations
    run(weights, slots, states, work, keep, unit)


@overload(_equations)
def _(weights, slots, states, work, keep, unit):
    run = _cell_equations if len(weights[0].instance_class.stages) == 1 else _operand_equations
    return lambda weights, slots, states, work, keep, unit: run(weights, slots, states, work, keep, unit)


@cuda.jit(**DEVICE)
def _run_second_stage(weights, states, work, keep, rank, size):
    block_barrier(size)
    cell, hidden = weights.cell, weights.hidden
    for unit in stride_range(rank, hidden, size):
        slots = load_slots(cell, work, slots_row(cell) * hidden + unit, hidden)
        slots = _add_product(weights, SECOND, slots, weights.recurrent, work, hidden, hidden, unit)
        _cell_equations(weights, slots, states, work, keep, unit)


def _second_stage(weights: Any, states: Any, work: Any, keep: Any, rank: Any, size: Any) -> None:
    """The second stage of a cell that has one."""
    if len(weights.cell.stages) > 1:
        _run_second_stage(weights, states, work, keep, rank, size)


@overload(_second_stage)
def _(weights, states, work, keep, rank, size):
    if len(weights[0].instance_class.stages) == 1:
        return lambda weights, states, work, keep, rank, size: None
    return lambda weights, states, work, keep, rank, size: _run_second_stage(
        weights, states, work, keep, rank, size
    )


@cuda.jit(**DEVICE)
def step_forward(weights, x, states, work, keep, rank, size):
    """A step; the work space is scratch memory, or with `keep` a tape."""
    block_barrier(size)
    cell, hidden = weights.cell, weights.hidden
    for unit in stride_range(rank, hidden, size):
        slots = load_slots(cell, weights.bias, unit, hidden)
        slots = _add_product(weights, INPUT, slots, weights.input, x, 0, weights.inputs, unit)
        slots = _add_product(weights, FIRST, slots, weights.recurrent, states[0], 0, hidden, unit)
        _equations(weights, slots, states, work, keep, unit)
    _second_stage(weights, states, work, keep, rank, size)
    block_barrier(size)
    for unit in stride_range(rank, hidden, size):
        store_scalars(states[0], unit, 0, load_scalar(cell, work, unit, 0))
    block_barrier(size)
