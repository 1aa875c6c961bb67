"""Packed weights: their parts in one array, how they are made, and how the engine sees them.

input, first, second        weights of the input product and of the two stages' recurrent products
bias, peephole              per slot and peephole, units padded to whole vectors
back_input, back_first, back_second     the same weights, transposed, for the way back
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit
from numba.extending import overload

from lstm_numba.cpu import packing
from lstm_numba.cpu.dispatch import (
    gate_of,
    input_count,
    peephole_count,
    product_count,
    slot_count,
    stage_width,
)
from lstm_numba.cpu.layout import Weights
from lstm_numba.cpu.options import INLINE, SERIAL
from lstm_numba.cpu.places import lane_count, number_bytes, whole_vectors
from lstm_numba.cpu.simd import pointer_to


class Parameters(NamedTuple):
    """Parameters of one layer and direction, or their gradients, in PyTorch's layout; C-contiguous.

    Attributes
    ----------
    weight_ih : ndarray, shape (G*H, I)
    weight_hh : ndarray, shape (G*H, H)
    bias_ih, bias_hh : ndarray, shape (G*H,), or (0,) without biases
    weight_ph : ndarray, shape (P*H,), or (0,) for a cell without peepholes
    """

    weight_ih: Any
    weight_hh: Any
    bias_ih: Any
    bias_hh: Any
    weight_ph: Any


class Parts(NamedTuple):
    """Where in packed weights each part begins, and the size of the whole, in numbers."""

    input: int
    first: int
    second: int
    bias: int
    peephole: int
    back_input: int
    back_first: int
    back_second: int
    end: int


def _second_width(cell: Any) -> Any:
    """Slots that a second stage feeds; none where there is none."""
    raise NotImplementedError


@overload(_second_width, INLINE)
def _(cell):
    stages = cell.instance_class.stages
    width = len(stages[1].gates) if len(stages) > 1 else 0
    return lambda cell: width


@njit(**INLINE)
def parts_of(cell, inputs, hidden, lane):
    """The parts of packed weights."""
    padded, wide = whole_vectors(hidden, lane), whole_vectors(inputs, lane)
    n, n1, n2 = input_count(cell), stage_width(cell, 0), _second_width(cell)
    first = padded * n * inputs
    second = first + padded * n1 * hidden
    bias = second + padded * n2 * hidden
    peephole = bias + padded * slot_count(cell)
    back_input = peephole + padded * max(1, peephole_count(cell))
    back_first = back_input + wide * n * padded
    back_second = back_first + padded * n1 * padded
    return Parts(
        0, first, second, bias, peephole, back_input, back_first, back_second,
        back_second + padded * n2 * padded,
    )  # fmt: skip


@njit(**SERIAL)
def packed_numbers(cell, inputs, hidden, zero):
    """How many numbers packed weights are."""
    return parts_of(cell, inputs, hidden, lane_count(zero)).end


@njit(**INLINE)
def forward_view(cell, inputs, hidden, address, tiles, zero):
    """Packed weights at an address as the engine's forward kernels want them."""
    lane, size = lane_count(zero), number_bytes(zero)
    p = parts_of(cell, inputs, hidden, lane)
    return Weights(
        pointer_to(address, zero), pointer_to(address + p.first * size, zero),
        pointer_to(address + p.second * size, zero), pointer_to(address + p.bias * size, zero),
        pointer_to(address + p.peephole * size, zero), tiles[0], tiles[1], tiles[2], tiles[3], tiles[4],
        tiles[5],
    )  # fmt: skip


@njit(**INLINE)
def backward_view(cell, inputs, hidden, address, tiles, zero):
    """Packed weights at an address as the engine's backward kernels want them."""
    forward = forward_view(cell, inputs, hidden, address, tiles, zero)
    size = number_bytes(zero)
    p = parts_of(cell, inputs, hidden, lane_count(zero))
    return Weights(
        pointer_to(address + p.back_input * size, zero), pointer_to(address + p.back_first * size, zero),
        pointer_to(address + p.back_second * size, zero), forward.bias, forward.peephole, tiles[0], tiles[1],
        tiles[2], tiles[3], tiles[4], tiles[5],
    )  # fmt: skip


@njit(**INLINE)
def _pack_product(cell, product, weight, columns, hidden, zero, address, place, back_place, notes):
    """Pack the weights of one product, for both ways; see `lstm_numba.cpu.packing`."""
    lane, size = lane_count(zero), number_bytes(zero)
    notes[0], notes[1], notes[2], notes[3], notes[4] = weight, address + place * size, columns, hidden, lane
    count = 0
    for slot in range(slot_count(cell)):
        gate = gate_of(cell, product, slot)
        if gate >= 0:
            notes[packing.GATES + count] = gate
            count += 1
    notes[5] = count
    packing.gates_kernel(notes, zero, 0, whole_vectors(hidden, lane) // lane)
    notes[1] = address + back_place * size
    width = packing.BACK_VECTORS * lane
    packing.transposed_kernel(notes, zero, 0, -(-whole_vectors(columns, lane) // width))


@njit(**SERIAL)
def gather_bias(cell, located, inputs, hidden, zero, address):
    """Of packed weights the biases, summed where they meet, and the peepholes; padded with zeros."""
    p, size = parts_of(cell, inputs, hidden, lane_count(zero)), number_bytes(zero)
    bias, peephole = pointer_to(address + p.bias * size, zero), pointer_to(address + p.peephole * size, zero)
    padded = whole_vectors(hidden, lane_count(zero))
    for slot in range(slot_count(cell)):
        for unit in range(padded):
            bias[slot * padded + unit] = zero
        if located.bias_ih != 0:
            for product in range(product_count(cell)):
                gate = gate_of(cell, product, slot)
                source = pointer_to(located.bias_ih if product == 0 else located.bias_hh, zero)
                if gate >= 0:
                    for unit in range(hidden):
                        bias[slot * padded + unit] += source[gate * hidden + unit]
    weight_ph = pointer_to(located.weight_ph, zero)
    for n in range(peephole_count(cell)):
        for unit in range(padded):
            peephole[n * padded + unit] = zero
        for unit in range(hidden):
            peephole[n * padded + unit] = weight_ph[n * hidden + unit]


@njit(**SERIAL)
def pack_at(cell, located, inputs, hidden, zero, address, notes):
    """Pack parameters, known by their addresses, into memory at an address."""
    p, notes = parts_of(cell, inputs, hidden, lane_count(zero)), pointer_to(notes, inputs)
    _pack_product(cell, 0, located.weight_ih, inputs, hidden, zero, address, p.input, p.back_input, notes)
    for product in range(1, product_count(cell)):
        place, back = (p.first, p.back_first) if product == 1 else (p.second, p.back_second)
        _pack_product(cell, product, located.weight_hh, hidden, hidden, zero, address, place, back, notes)
    gather_bias(cell, located, inputs, hidden, zero, address)
