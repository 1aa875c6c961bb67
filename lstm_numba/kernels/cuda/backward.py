"""The backward pass of a step, for `step`: shared by `size` threads, of which this one has number `rank`."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_numba.engines.cuda.driver import cuda, overload
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.options import DEVICE
from lstm_numba.engines.cuda.scalar import (
    accumulate_each,
    accumulate_scalars,
    load_each,
    store_each,
    store_scalars,
)
from lstm_numba.engines.cuda.specialize import (
    FIRST,
    INPUT,
    SECOND,
    cell_backward,
    cell_operand_backward,
    load_cell_states,
    load_peephole,
    load_scalar,
    load_slots,
    load_states,
    peephole_count,
    stage_first,
    stage_gates,
)
from lstm_numba.engines.cuda.stage_product import add_inner, inner_zeros
from lstm_numba.kernels.cuda.forward import ONE, block_barrier
from lstm_numba.kernels.cuda.weights import cell_state_row, peephole_row, previous_row, slots_row


@cuda.jit(**DEVICE)
def _inner_product(weights, stage, matrix, depth, tape, column):
    """The gradients of a stage's slots times one column of its weights."""
    cell, hidden = weights.cell, weights.hidden
    total, rows = inner_zeros(cell, stage, ONE, weights.bias), (slots_row(cell) * hidden,)
    for k in range(hidden):
        total = add_inner(
            cell, stage, ONE, total, matrix, k * depth + column, hidden * depth, tape, rows, k, hidden
        )
    return total


@cuda.jit(**DEVICE)
def _cell_gradients(weights, tape, dstates, unit):
    """The cell's backward equations for one unit."""
    cell, hidden = weights.cell, weights.hidden
    offset = slots_row(cell) * hidden + unit
    new = load_scalar(cell, tape, unit, 0) + load_cell_states(
        cell, tape, cell_state_row(cell) * hidden + unit, hidden
    )
    dslots, dprevious, dpeephole = cell_backward(
        cell,
        load_slots(cell, tape, offset, hidden),
        load_states(cell, tape, previous_row(cell) * hidden + unit, hidden),
        new,
        load_peephole(cell, weights.peephole, unit, hidden),
        load_each(dstates, unit),
    )
    store_scalars(tape, offset, hidden, dslots)
    store_each(dstates, unit, dprevious)
    store_scalars(tape, peephole_row(cell) * hidden + unit, hidden, dpeephole)


@cuda.jit(**DEVICE)
def _run_second_stage_backward(weights, tape, dstates, rank, size):
    """The backward pass of the second product and of the operand's equations."""
    cell, hidden = weights.cell, weights.hidden
    block_barrier(size)
    for unit in stride_range(rank, hidden, size):
        # The new h is no longer needed, and is overwritten. All threads still read the slots.
        total = _inner_product(weights, SECOND, weights.recurrent_rows, hidden, tape, unit)
        store_scalars(tape, unit, 0, total)
    block_barrier(size)
    for unit in stride_range(rank, hidden, size):
        offset = slots_row(cell) * hidden + unit
        dslots, dprevious = cell_operand_backward(
            cell,
            load_slots(cell, tape, offset, hidden),
            load_states(cell, tape, previous_row(cell) * hidden + unit, hidden),
            load_peephole(cell, weights.peephole, unit, hidden),
            load_scalar(cell, tape, unit, 0)[0],
        )
        store_scalars(tape, offset, hidden, dslots)
        accumulate_each(dstates, unit, dprevious)


def _second_stage_backward(weights: Any, tape: Any, dstates: Any, rank: Any, size: Any) -> None:
    """The backward pass of the second stage of a cell that has one."""
    if len(weights.cell.stages) > 1:
        _run_second_stage_backward(weights, tape, dstates, rank, size)


@overload(_second_stage_backward)
def _(weights, tape, dstates, rank, size):
    if len(weights[0].instance_class.stages) == 1:
        return lambda weights, tape, dstates, rank, size: None
    return lambda weights, tape, dstates, rank, size: _run_second_stage_backward(
        weights, tape, dstates, rank, size
    )


@cuda.jit(**DEVICE)
def _add_weights(weights, stage, matrix, bias, tape, operand, offset, rank, size):
    """Add to the gradients of a stage's weights and biases, atomically: other sequences may do so too."""
    cell, hidden = weights.cell, weights.hidden
    gates, depth = stage_gates(cell, stage), matrix.shape[1]
    for n in range(len(gates)):
        first = gates[n] * hidden
        slots = (slots_row(cell) + stage_first(cell, stage) + n) * hidden
        for i in stride_range(rank, hidden * depth, size):
            # Division in 32 bits is much faster than in 64.
            unit, k = np.int64(np.uint32(i) // np.uint32(depth)), np.int64(np.uint32(i) % np.uint32(depth))
            cuda.atomic.add(matrix, (first + unit, k), tape[slots + unit] * operand[offset + k])
        if bias.size > 0:
            for unit in stride_range(rank, hidden, size):
                cuda.atomic.add(bias, first + unit, tape[slots + unit])


@cuda.jit(**DEVICE)
def _add_second_weights(weights, matrix, bias, tape, rank, size):
    _add_weights(weights, SECOND, matrix, bias, tape, tape, weights.hidden, rank, size)


def _second_weights(weights: Any, matrix: Any, bias: Any, tape: Any, rank: Any, size: Any) -> None:
    """Gradients of the weights of a second stage, where there is one."""
    if len(weights.cell.stages) > 1:
        _add_second_weights(weights, matrix, bias, tape, rank, size)


@overload(_second_weights)
def _(weights, matrix, bias, tape, rank, size):
    if len(weights[0].instance_class.stages) == 1:
        return lambda weights, matrix, bias, tape, rank, size: None
    return lambda weights, matrix, bias, tape, rank, size: _add_second_weights(
        weights, matrix, bias, tape, rank, size
    )


@cuda.jit(**DEVICE)
def _add_parameters(weights, gradients, x, tape, rank, size):
    cell, hidden = weights.cell, weights.hidden
    _add_weights(weights, INPUT, gradients.weight_ih, gradients.bias_ih, tape, x, 0, rank, size)
    before = previous_row(cell) * hidden
    _add_weights(weights, FIRST, gradients.weight_hh, gradients.bias_hh, tape, tape, before, rank, size)
    _second_weights(weights, gradients.weight_hh, gradients.bias_hh, tape, rank, size)
    for i in stride_range(rank, peephole_count(cell) * hidden, size):
        cuda.atomic.add(gradients.weight_ph, i, tape[peephole_row(cell) * hidden + i])


@cuda.jit(**DEVICE)
def step_backward(weights, gradients, x, tape, dstates, dx, rank, size):
    """The backward pass of a step; overwrites the tape."""
    block_barrier(size)
    hidden = weights.hidden
    for unit in stride_range(rank, hidden, size):
        _cell_gradients(weights, tape, dstates, unit)
    _second_stage_backward(weights, tape, dstates, rank, size)
    block_barrier(size)
    for unit in stride_range(rank, hidden, size):
        total = _inner_product(weights, FIRST, weights.recurrent_rows, hidden, tape, unit)
        accumulate_scalars(dstates[0], unit, 0, total)
    for feature in stride_range(rank, dx.size, size):
        total = _inner_product(weights, INPUT, weights.input_rows, weights.inputs, tape, feature)
        store_scalars(dx, feature, 0, total)
    _add_parameters(weights, gradients, x, tape, rank, size)
    block_barrier(size)
