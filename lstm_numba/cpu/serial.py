"""The work itself, on addresses: compiled once for a cell and dtype, whatever arrays it is called with."""

from __future__ import annotations

from typing import NamedTuple

from numba import njit

from lstm_numba.cpu.backward import sweep_rows_back
from lstm_numba.cpu.dispatch import gate_of, peephole_count, product_count, slot_count, state_count
from lstm_numba.cpu.forward import first_stage, input_products, second_stage, sweep_rows
from lstm_numba.cpu.gemm import HEAD, OPERAND, operand_numbers, product_part, workspace_numbers
from lstm_numba.cpu.layout import Arrays, Gradients, share_rows
from lstm_numba.cpu.options import INLINE, SERIAL
from lstm_numba.cpu.packed import Parameters, gather_bias, gather_peephole, packed_view
from lstm_numba.cpu.places import (
    Blocks,
    Sequence,
    aligned,
    back_places,
    kept_places,
    number_bytes,
    pointer_address,
    sequence_sizes,
    whole_vectors,
)
from lstm_numba.cpu.plain import plain_stages
from lstm_numba.cpu.simd import pointer_to


@njit(**INLINE)
def _after_lengths(layer):
    """Where scratch goes on after the sequences' lengths."""
    return aligned(layer.scratch + 8 * layer.batch)


@njit(**SERIAL)
def scratch_bytes(cell, batch, inputs, hidden, steps, zero, training):
    """Bytes of scratch that the functions below want, from an aligned address on."""
    sizes = sequence_sizes(cell, steps, batch, inputs, hidden, 0, zero, False, Blocks(0, 0))
    size = kept_places(cell, sizes, 2, zero).end
    if training:
        sizes = sequence_sizes(cell, steps, batch, inputs, hidden, 0, zero, True, Blocks(0, 0))
        size = max(size, back_places(cell, sizes, zero).end)
    return aligned(8 * batch) + size


@njit(**SERIAL)
def kept_bytes(cell, batch, inputs, hidden, steps, entries, zero, keep, blocks):
    """Bytes of what `run_forward` writes, with so many entries of h among them."""
    sizes = sequence_sizes(cell, steps, batch, inputs, hidden, 0, zero, keep, blocks)
    return kept_places(cell, sizes, entries, zero).end


@njit(**INLINE)
def _arrays(layer, places, sequence, zero):
    """The engine's arrays; lengths are made up where there are none."""
    ends = pointer_to(sequence.lengths if sequence.lengths != 0 else layer.scratch, sequence.steps)
    if sequence.lengths == 0:
        for row in range(layer.batch):
            ends[row] = sequence.steps
    rest = sequence.rest
    return Arrays(
        pointer_to(sequence.x, zero), pointer_to(rest + places.slots, zero), pointer_to(sequence.h, zero),
        pointer_to(rest + places.memory, zero), pointer_to(rest + places.message, zero), ends, ends,
    )  # fmt: skip


@njit(**INLINE)
def _in_scratch(layer, steps, x):
    """A sequence of which nothing is kept: two entries of h, and the rest, in scratch."""
    start = _after_lengths(layer)
    return Sequence(steps, 0, x, 0, start, start, Blocks(0, 0))


@njit(**INLINE)
def _forward_weights(cell, layer, zero):
    tiles = pointer_to(layer.tiles, layer.tiles)
    return packed_view(cell, layer.inputs, layer.hidden, False, layer.weights, tiles, zero)


@njit(**INLINE)
def _put_states(cell, states, arrays, sizes, entry, zero):
    """Copy the caller's states to an entry of the histories."""
    numbers = sizes.batch * sizes.hidden
    for n in range(state_count(cell)):
        source = pointer_to(states[n], zero)
        for k in range(numbers):
            if n == 0:
                arrays.h[entry * numbers + k] = source[k]
            else:
                arrays.memory[(n - 1) * sizes.memory_state + entry * sizes.memory_step + k] = source[k]


@njit(**INLINE)
def _take_states(cell, states, arrays, sizes, entry, zero):
    """Copy an entry of the histories to the caller's states."""
    numbers = sizes.batch * sizes.hidden
    for n in range(state_count(cell)):
        target = pointer_to(states[n], zero)
        for k in range(numbers):
            if n == 0:
                target[k] = arrays.h[entry * numbers + k]
            else:
                target[k] = arrays.memory[(n - 1) * sizes.memory_state + entry * sizes.memory_step + k]


@njit(**SERIAL)
def run_step(cell, layer, x, states, zero):
    """One step; the states change in place."""
    sizes = sequence_sizes(cell, 1, layer.batch, layer.inputs, layer.hidden, 0, zero, False, Blocks(0, 0))
    arrays = _arrays(layer, kept_places(cell, sizes, 2, zero), _in_scratch(layer, 1, x), zero)
    _put_states(cell, states, arrays, sizes, 0, zero)
    weights, share = _forward_weights(cell, layer, zero), share_rows(sizes, 1, 0, 1, 0)
    first_stage(cell, weights, arrays, sizes, 0, share)
    second_stage(cell, weights, arrays, sizes, 0, share)
    _take_states(cell, states, arrays, sizes, 1, zero)


@njit(**SERIAL)
def run_plain_step(cell, located, layer, x, states, zero):
    """One step with weights as they lie; where packed ones would be there is room for the biases."""
    sizes = sequence_sizes(cell, 1, layer.batch, layer.inputs, layer.hidden, 0, zero, False, Blocks(0, 0))
    arrays = _arrays(layer, kept_places(cell, sizes, 2, zero), _in_scratch(layer, 1, x), zero)
    _put_states(cell, states, arrays, sizes, 0, zero)
    weights = _forward_weights(cell, layer, zero)
    gather_bias(cell, located, layer.hidden, weights.bias, zero)
    gather_peephole(cell, located, layer.hidden, weights.peephole, zero)
    plain_stages(cell, located, weights, arrays, sizes, zero)
    _take_states(cell, states, arrays, sizes, 1, zero)


@njit(**SERIAL)
def run_sequence(cell, layer, steps, x, states, y, zero):
    """A sequence of which only the output is kept.

    From the second step on y is the history: entry t + 1 of h is y[t]. Entry 0, the initial state, lies
    before the caller's memory, so the first step has a history of its own.
    """
    sizes = sequence_sizes(cell, steps, layer.batch, layer.inputs, layer.hidden, 0, zero, False, Blocks(0, 0))
    first = _arrays(layer, kept_places(cell, sizes, 2, zero), _in_scratch(layer, steps, x), zero)
    _put_states(cell, states, first, sizes, 0, zero)
    weights, numbers = _forward_weights(cell, layer, zero), layer.batch * layer.hidden
    history = pointer_to(y - numbers * number_bytes(zero), zero)
    later = Arrays(first.x, first.slots, history, first.memory, first.message, first.lengths, first.meeting)
    for chunk in range(sizes.chunks):
        share = share_rows(sizes, 1, 0, sizes.chunks, chunk)
        for begin in range(0, steps, sizes.block):
            last = min(steps, begin + sizes.block)
            if sizes.block > 1:
                input_products(cell, weights, later, sizes, begin, last, share)
            for t in range(begin, last):
                arrays = first if t == 0 else later
                first_stage(cell, weights, arrays, sizes, t, share)
                second_stage(cell, weights, arrays, sizes, t, share)
                if t == 0:
                    for k in range(share.top * layer.hidden, share.bottom * layer.hidden):
                        later.h[numbers + k] = first.h[numbers + k]
    _take_states(cell, states, later, sizes, steps, zero)


@njit(**SERIAL)
def run_forward(cell, layer, sequence, first, last, entries, keep, zero):
    """A sequence; `first` and `last` are the addresses of the initial and of the final states.

    Where `keep`, all that the way back needs stays in `sequence.rest`, with room for so many entries of h.
    """
    sizes = sequence_sizes(
        cell,
        sequence.steps,
        layer.batch,
        layer.inputs,
        layer.hidden,
        sequence.reverse,
        zero,
        keep,
        sequence.blocks,
    )
    arrays = _arrays(layer, kept_places(cell, sizes, entries, zero), sequence, zero)
    begin, end = (sizes.steps, 0) if sizes.reverse else (0, sizes.steps)
    _put_states(cell, first, arrays, sizes, begin, zero)
    sweep_rows(cell, _forward_weights(cell, layer, zero), arrays, sizes, 1, 0)
    _take_states(cell, last, arrays, sizes, end, zero)


@njit(**INLINE)
def _copy_rows(source, source_row, target, target_row, rows, width):
    """Copy rows of `width` numbers that lie apart in source or target."""
    for row in range(rows):
        for k in range(width):
            target[row * target_row + k] = source[row * source_row + k]


@njit(**INLINE)
def _clear(start, numbers, zero):
    """Zeros from an address on."""
    target = pointer_to(start, zero)
    for k in range(numbers):
        target[k] = zero


@njit(**INLINE)
def _give_sums(cell, sums, sizes, grads, add, zero):
    """Sums of the slots' gradients over time and rows to biases and peepholes, added where `add`."""
    hidden = sizes.hidden
    for slot in range(slot_count(cell)):
        if grads.bias_ih != 0:
            for product in range(product_count(cell)):
                gate = gate_of(cell, product, slot)
                target = pointer_to(grads.bias_ih if product == 0 else grads.bias_hh, zero)
                if gate >= 0:
                    for unit in range(hidden):
                        old = target[gate * hidden + unit] if add else zero
                        target[gate * hidden + unit] = old + sums[slot * sizes.padded + unit]
    weight_ph = pointer_to(grads.weight_ph, zero)
    for n in range(peephole_count(cell)):
        at = (slot_count(cell) + n) * sizes.padded
        for unit in range(hidden):
            old = weight_ph[n * hidden + unit] if add else zero
            weight_ph[n * hidden + unit] = old + sums[at + unit]


@njit(**INLINE)
def _note_products(cell, arrays, sizes, grads, add, workspace, tiles, zero, notes):
    """Write down for `lstm_numba.cpu.gemm` the products of the slots' gradients with x, h and message."""
    size, slots, products = number_bytes(zero), slot_count(cell), product_count(cell)
    inner = sizes.steps * sizes.batch
    before = pointer_address(arrays.h) + sizes.reverse * sizes.batch * sizes.hidden * size
    notes[0], notes[1], notes[2], notes[3] = pointer_address(arrays.slots), 1, slots * sizes.padded, inner
    notes[4], notes[5], notes[6], notes[7] = sizes.lanes, size, add, workspace
    notes[8], notes[9], notes[10], notes[11], notes[12] = 0, tiles[4], tiles[5], products, slots
    packed = workspace_numbers(inner, sizes.lanes)
    for product in range(products):
        at = HEAD + product * OPERAND
        b, target, width = pointer_address(arrays.x), grads.weight_ih, sizes.inputs
        if product > 0:
            b, target, width = before, grads.weight_hh, sizes.hidden
        if product > 1:
            b = pointer_address(arrays.message)
        notes[at], notes[at + 1], notes[at + 2], notes[at + 3] = b, width, 1, target
        notes[at + 4], notes[at + 5], notes[at + 6] = width, width, packed * size
        packed += operand_numbers(inner, width, sizes.lanes)
    for slot in range(slots):
        at = HEAD + products * OPERAND + slot * (2 + products)
        notes[at], notes[at + 1] = slot * sizes.padded, sizes.hidden
        for product in range(products):
            gate = gate_of(cell, product, slot)
            notes[at + 2 + product] = gate * sizes.hidden if gate >= 0 else -1


class Incoming(NamedTuple):
    """Gradient of the loss with respect to the output: where it begins, 0 for none, and from row to row."""

    dy: int
    row: int


class Outgoing(NamedTuple):
    """Where gradients go: of x, rows `row` numbers apart, and of the parameters, which are added to or not.

    Rows of x in whole vectors cost no copy.
    """

    dx: int
    row: int
    grads: Parameters
    add: int


@njit(**SERIAL)
def run_backward(cell, layer, sequence, entries, incoming, dlast, dfirst, outgoing, zero):
    """The way back over what `run_forward` kept; from the final states' gradients to the initial ones'."""
    sizes = sequence_sizes(
        cell,
        sequence.steps,
        layer.batch,
        layer.inputs,
        layer.hidden,
        sequence.reverse,
        zero,
        True,
        sequence.blocks,
    )
    places, start = back_places(cell, sizes, zero), _after_lengths(layer)
    arrays = _arrays(layer, kept_places(cell, sizes, entries, zero), sequence, zero)
    tiles = pointer_to(layer.tiles, layer.tiles)
    weights = packed_view(cell, sizes.inputs, sizes.hidden, True, layer.weights, tiles, zero)
    hidden, padded, size = sizes.hidden, sizes.padded, number_bytes(zero)
    state, wide = sizes.batch * padded, whole_vectors(sizes.inputs, sizes.lanes)
    carried, sums = pointer_to(start + places.carried, zero), pointer_to(start + places.sums, zero)
    _clear(start + places.carried, state_count(cell) * state, zero)
    _clear(start + places.zeros, padded, zero)
    _clear(start + places.sums, (slot_count(cell) + peephole_count(cell)) * padded, zero)
    for n in range(state_count(cell)):
        target = pointer_to(start + places.carried + n * state * size, zero)
        _copy_rows(pointer_to(dlast[n], zero), hidden, target, padded, sizes.batch, hidden)
    dy, dx = start + places.zeros, start + places.dx
    if incoming.dy != 0:
        dy = incoming.dy
    if outgoing.row == wide:
        dx = outgoing.dx
    gradients = Gradients(
        carried, pointer_to(start + places.carried + state * size, zero),
        pointer_to(start + places.dmessage, zero), sums, pointer_to(dy, zero), pointer_to(dx, zero),
        incoming.row, state,
    )  # fmt: skip
    sweep_rows_back(cell, weights, arrays, gradients, sizes, product_count(cell) > 2, 1, 0)
    for n in range(state_count(cell)):
        source = pointer_to(start + places.carried + n * state * size, zero)
        _copy_rows(source, padded, pointer_to(dfirst[n], zero), hidden, sizes.batch, hidden)
    if outgoing.row != wide:
        rows, target = sizes.steps * sizes.batch, pointer_to(outgoing.dx, zero)
        _copy_rows(gradients.dx, wide, target, outgoing.row, rows, sizes.inputs)
    _give_sums(cell, sums, sizes, outgoing.grads, outgoing.add, zero)
    notes = pointer_to(start + places.notes, sizes.steps)
    _note_products(
        cell, arrays, sizes, outgoing.grads, outgoing.add, start + places.workspace, tiles, zero, notes
    )
    product_part(notes, zero, 0, 1)
