"""A step with weights that are not packed: row by row, each a sum of products with the input or the state."""

from __future__ import annotations

from numba import njit

from lstm_numba.engines.cpu.forward import cell_equations, equations_after_first
from lstm_numba.engines.cpu.options import CALLEE, INLINE
from lstm_numba.engines.cpu.specialize import gate_of, load_vector, slot_count, stage_count
from lstm_numba.engines.cpu.vector import lane_sum, pointer_to, zero_vector


@njit(**INLINE)
def _dot(cell, weight, row, operand, at, depth, lane, zero):
    """Row number `row` of a matrix of rows of `depth` numbers, times as many numbers of the operand."""
    total = zero_vector(zero)
    for k in range(0, depth, lane):
        valid = depth - k
        a = load_vector(cell, weight, row * depth + k, 0, valid)[0]
        total = total + a * load_vector(cell, operand, at + k, 0, valid)[0]
    return lane_sum(total)


@njit(**CALLEE)
def unpacked_stages(cell, located, weights, arrays, sizes, zero):
    """One step of all rows; of `weights` only bias and peephole are read."""
    weight_ih, weight_hh = pointer_to(located.weight_ih, zero), pointer_to(located.weight_hh, zero)
    hidden, lane = sizes.hidden, sizes.lanes
    for row in range(sizes.batch):
        at = row * slot_count(cell) * sizes.padded
        for slot in range(slot_count(cell)):
            gate, recurrent = gate_of(cell, 0, slot), gate_of(cell, 1, slot)
            for unit in range(hidden):
                value = zero
                if gate >= 0:
                    at_x = row * sizes.inputs
                    value += _dot(
                        cell, weight_ih, gate * hidden + unit, arrays.x, at_x, sizes.inputs, lane, zero
                    )
                if recurrent >= 0:
                    value += _dot(
                        cell, weight_hh, recurrent * hidden + unit, arrays.h, row * hidden, hidden, lane, zero
                    )
                arrays.slots[at + slot * sizes.padded + unit] = value
        for unit in range(0, hidden, lane):
            equations_after_first(cell, weights, arrays, sizes, 0, row, unit, at + unit)
        for product in range(2, 1 + stage_count(cell)):
            for slot in range(slot_count(cell)):
                gate = gate_of(cell, product, slot)
                if gate >= 0:
                    for unit in range(hidden):
                        arrays.slots[at + slot * sizes.padded + unit] += _dot(
                            cell,
                            weight_hh,
                            gate * hidden + unit,
                            arrays.operand,
                            row * hidden,
                            hidden,
                            lane,
                            zero,
                        )
            for unit in range(0, hidden, lane):
                cell_equations(cell, weights, arrays, sizes, 0, row, unit, at + unit, ())
