"""Packed weights: one array for the forward pass, one for the backward pass; how they are made and read.

Each holds the weights of the input product and of one or two stages' recurrent products as
`lstm_numba.engines.cpu.panel_packing` lays them out, then, for the forward pass, the biases per slot, then
the peepholes, units padded to whole vectors.
"""

from __future__ import annotations

from typing import NamedTuple

from numba import njit

from lstm_numba.engines.cpu import panel_packing
from lstm_numba.engines.cpu.function_pointers import call_pointer
from lstm_numba.engines.cpu.layout import Weights, split
from lstm_numba.engines.cpu.offsets import lane_count, number_bytes, whole_vectors
from lstm_numba.engines.cpu.options import CALLEE, INLINE, SERIAL
from lstm_numba.engines.cpu.records import FunctionTable, PackingJob, read_record, write_record
from lstm_numba.engines.cpu.specialize import (
    biased_stages,
    gate_of,
    input_count,
    peephole_count,
    product_count,
    second_count,
    slot_count,
    stage_width,
)
from lstm_numba.engines.cpu.vector import pointer_to


class Parts(NamedTuple):
    """Where in packed weights each part begins, and the size of the whole, in numbers."""

    input: int
    first: int
    second: int
    bias: int
    peephole: int
    end: int


@njit(**INLINE)
def product_sizes(product, inputs, hidden, output):
    """Units that a product feeds, and columns of its weights; product 0 is the input, 1 and 2 the stages."""
    if product == 0:
        return hidden, inputs
    return (hidden, output) if product == 1 else (output, hidden)


@njit(**INLINE)
def _size(product, inputs, hidden, output, back, lane):
    """Numbers of a product's packed weights for each of the slots that it feeds."""
    units, columns = product_sizes(product, inputs, hidden, output)
    return whole_vectors(units, lane) * (whole_vectors(columns, lane) if back else columns)


@njit(**INLINE)
def _parts(cell, inputs, hidden, output, back, zero):
    """The parts of packed weights, of the backward or forward pass."""
    padded, lane = whole_vectors(hidden, lane_count(zero)), lane_count(zero)
    first = input_count(cell) * _size(0, inputs, hidden, output, back, lane)
    second = first + stage_width(cell, 0) * _size(1, inputs, hidden, output, back, lane)
    bias = second + second_count(cell) * _size(2, inputs, hidden, output, back, lane)
    peephole = bias if back else bias + padded * slot_count(cell)
    return Parts(0, first, second, bias, peephole, peephole + padded * max(1, peephole_count(cell)))


@njit(**SERIAL)
def packed_numbers(cell, inputs, hidden, output, back, zero):
    """How many numbers packed weights are."""
    return _parts(cell, inputs, hidden, output, back, zero).end


@njit(**CALLEE)
def packed_offsets(cell, layer, back, address, zero):
    """Addresses of the parts of a layer's packed weights, as the first fields of `layout.Weights`."""
    p, size = _parts(cell, layer.inputs, layer.hidden, layer.output, back, zero), number_bytes(zero)
    return (
        address, address + p.first * size, address + p.second * size, address + p.bias * size,
        address + p.peephole * size,
    )  # fmt: skip


@njit(**INLINE)
def packed_view(cell, layer, back, zero):
    """A layer's packed weights as the kernels read them."""
    at = packed_offsets(cell, layer, back, layer.weights, zero)
    table = read_record(FunctionTable, layer.functions, 0)
    return Weights(
        pointer_to(at[0], zero), pointer_to(at[1], zero), pointer_to(at[2], zero), pointer_to(at[3], zero),
        pointer_to(at[4], zero), table.input_tile, table.first_tile, table.second_tile, table.clear_tile,
        table.wide_tile, table.narrow_tile,
    )  # fmt: skip


@njit(**CALLEE)
def _pack_product(cell, layer, product, weight, back, address, descriptor, part, parts, zero):
    """One part of the panels of a product's weights."""
    lane, hidden = lane_count(zero), layer.hidden
    units, columns = product_sizes(product, layer.inputs, hidden, layer.output)
    functions, gates = read_record(FunctionTable, layer.functions, 0), descriptor + 8 * panel_packing.GATES
    count = 0
    for slot in range(slot_count(cell)):
        gate = gate_of(cell, product, slot)
        if gate >= 0:
            pointer_to(gates, hidden)[count] = gate
            count += 1
    write_record(descriptor, 0, PackingJob(weight, address, columns, units, lane, count))
    job = pointer_to(descriptor, hidden)
    if back:
        panels = -(-whole_vectors(columns, lane) // (panel_packing.BACK_VECTORS * lane))
        first, last = split(panels, parts, part)
        call_pointer(functions.pack_transposed, (job, first, last))
    else:
        first, last = split(whole_vectors(units, lane) // lane, parts, part)
        call_pointer(functions.pack, (job, first, last))


@njit(**INLINE)
def gather_peephole(cell, located, hidden, peephole, zero):
    """Peephole weights, padded with zeros; each number is written once."""
    padded, weight_ph = whole_vectors(hidden, lane_count(zero)), pointer_to(located.weight_ph, zero)
    for n in range(peephole_count(cell)):
        for unit in range(hidden):
            peephole[n * padded + unit] = weight_ph[n * hidden + unit]
        for unit in range(hidden, padded):
            peephole[n * padded + unit] = zero


@njit(**CALLEE)
def gather_bias(cell, located, hidden, bias, zero):
    """Biases, summed where both products feed a slot, padded with zeros; each number is written once."""
    padded, given = whole_vectors(hidden, lane_count(zero)), located.bias_ih != 0
    bias_ih, bias_hh = pointer_to(located.bias_ih, zero), pointer_to(located.bias_hh, zero)
    for slot in range(slot_count(cell)):
        gate_ih, gate_hh = gate_of(cell, 0, slot), -1
        for product in range(1, 1 + biased_stages(cell)):
            gate_hh = max(gate_hh, gate_of(cell, product, slot))  # of the stages one at most feeds a slot
        for unit in range(hidden):
            total = zero
            if given and gate_ih >= 0:
                total += bias_ih[gate_ih * hidden + unit]
            if given and gate_hh >= 0:
                total += bias_hh[gate_hh * hidden + unit]
            bias[slot * padded + unit] = total
        for unit in range(hidden, padded):
            bias[slot * padded + unit] = zero


@njit(**CALLEE)
def pack_part(cell, layer, params, back, address, descriptor, part, parts, zero):
    """One of some parts of packing parameters, given by their addresses, for a pass, to an address.

    `descriptor` is the address of `DESCRIPTOR_SIZE` numbers of int64 that are this part's own.
    """
    at = packed_offsets(cell, layer, back, address, zero)
    for product in range(product_count(cell)):
        target, weight = at[0], params.weight_ih
        if product > 0:
            target, weight = at[1] if product == 1 else at[2], params.weight_hh
        if product > biased_stages(cell):
            weight = params.second
        _pack_product(cell, layer, product, weight, back, target, descriptor, part, parts, zero)
    if part == 0:
        if not back:
            gather_bias(cell, params, layer.hidden, pointer_to(at[3], zero), zero)
        gather_peephole(cell, params, layer.hidden, pointer_to(at[4], zero), zero)
