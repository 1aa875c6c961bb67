"""The work itself, on addresses: compiled once for a cell and dtype, whatever arrays it is called with."""

from __future__ import annotations

from numba import njit

from lstm_numba.cpu.backward import sweep_rows_back
from lstm_numba.cpu.dispatch import gate_of, peephole_count, product_count, slot_count, state_count
from lstm_numba.cpu.forward import first_stage, input_products, second_stage, sweep_rows
from lstm_numba.cpu.gemm import HEAD, OPERAND, operand_numbers, product_part, workspace_numbers
from lstm_numba.cpu.layout import Arrays, Gradients, share_rows
from lstm_numba.cpu.options import INLINE, SERIAL
from lstm_numba.cpu.simd import pointer_to
from lstm_numba.kernels.memory import (
    aligned,
    back_places,
    kept_places,
    number_bytes,
    pointer_address,
    sequence_sizes,
    whole_vectors,
)
from lstm_numba.kernels.packed import backward_view, forward_view, gather_bias
from lstm_numba.kernels.plain import plain_stages


@njit(**INLINE)
def _after_lengths(layer):
    """Where scratch goes on after the sequences' lengths."""
    return aligned(layer.scratch + 8 * layer.batch)


@njit(**SERIAL)
def scratch_bytes(cell, batch, inputs, hidden, steps, zero, training):
    """Bytes of scratch that the functions below want, from an aligned address on."""
    sizes = sequence_sizes(cell, steps, batch, inputs, hidden, zero, False)
    size = kept_places(cell, sizes, 2, zero).end
    if training:
        sizes = sequence_sizes(cell, steps, batch, inputs, hidden, zero, True)
        size = max(size, back_places(cell, sizes, zero).end)
    return aligned(8 * batch) + size


@njit(**SERIAL)
def tape_bytes(cell, batch, inputs, hidden, steps, zero):
    """Bytes of a tape."""
    sizes = sequence_sizes(cell, steps, batch, inputs, hidden, zero, True)
    return kept_places(cell, sizes, steps + 1, zero).end


@njit(**INLINE)
def _arrays(layer, start, places, x, steps, zero):
    """The engine's arrays: what it writes lies from `start` on, x where it is."""
    ends = pointer_to(layer.scratch, steps)
    for row in range(layer.batch):
        ends[row] = steps
    return Arrays(
        pointer_to(x, zero), pointer_to(start + places.slots, zero), pointer_to(start + places.h, zero),
        pointer_to(start + places.memory, zero), pointer_to(start + places.message, zero), ends, ends,
    )  # fmt: skip


@njit(**INLINE)
def _forward_weights(cell, layer, zero):
    tiles = pointer_to(layer.tiles, layer.tiles)
    return forward_view(cell, layer.inputs, layer.hidden, layer.weights, tiles, zero)


@njit(**INLINE)
def _put_states(cell, states, arrays, sizes, zero):
    """Copy the caller's states to entry 0 of the histories."""
    numbers = sizes.batch * sizes.hidden
    for n in range(state_count(cell)):
        source = pointer_to(states[n], zero)
        for k in range(numbers):
            if n == 0:
                arrays.h[k] = source[k]
            else:
                arrays.memory[(n - 1) * sizes.memory_state + k] = source[k]


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
                at = (n - 1) * sizes.memory_state + (entry * numbers if sizes.memory_step > 0 else 0)
                target[k] = arrays.memory[at + k]


@njit(**SERIAL)
def run_step(cell, layer, x, states, zero):
    """One step; the states change in place."""
    sizes = sequence_sizes(cell, 1, layer.batch, layer.inputs, layer.hidden, zero, False)
    arrays = _arrays(layer, _after_lengths(layer), kept_places(cell, sizes, 2, zero), x, 1, zero)
    _put_states(cell, states, arrays, sizes, zero)
    weights, share = _forward_weights(cell, layer, zero), share_rows(sizes, 1, 0, 1, 0)
    first_stage(cell, weights, arrays, sizes, 0, share)
    second_stage(cell, weights, arrays, sizes, 0, share)
    _take_states(cell, states, arrays, sizes, 1, zero)


@njit(**SERIAL)
def run_plain_step(cell, located, layer, x, states, zero):
    """One step with weights as they lie; where packed ones would be there is room for the biases."""
    sizes = sequence_sizes(cell, 1, layer.batch, layer.inputs, layer.hidden, zero, False)
    arrays = _arrays(layer, _after_lengths(layer), kept_places(cell, sizes, 2, zero), x, 1, zero)
    _put_states(cell, states, arrays, sizes, zero)
    weights = _forward_weights(cell, layer, zero)
    gather_bias(cell, located, layer.inputs, layer.hidden, zero, layer.weights)
    plain_stages(cell, located, weights, arrays, sizes, zero)
    _take_states(cell, states, arrays, sizes, 1, zero)


@njit(**SERIAL)
def run_sequence(cell, layer, steps, x, states, y, zero):
    """A sequence of which only the output is kept.

    From the second step on y is the history: entry t + 1 of h is y[t]. Entry 0, the initial state, lies
    before the caller's memory, so the first step has a history of its own.
    """
    sizes = sequence_sizes(cell, steps, layer.batch, layer.inputs, layer.hidden, zero, False)
    first = _arrays(layer, _after_lengths(layer), kept_places(cell, sizes, 2, zero), x, steps, zero)
    _put_states(cell, states, first, sizes, zero)
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
def run_forward(cell, layer, steps, x, states, tape, zero):
    """A sequence of which everything is kept on a tape."""
    sizes = sequence_sizes(cell, steps, layer.batch, layer.inputs, layer.hidden, zero, True)
    arrays = _arrays(layer, tape, kept_places(cell, sizes, steps + 1, zero), x, steps, zero)
    _put_states(cell, states, arrays, sizes, zero)
    sweep_rows(cell, _forward_weights(cell, layer, zero), arrays, sizes, 1, 0)
    _take_states(cell, states, arrays, sizes, steps, zero)


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
def _add_sums(cell, sums, sizes, grads, zero):
    """Add the slots' gradients, summed over time and rows, to those of biases and peepholes."""
    hidden = sizes.hidden
    for slot in range(slot_count(cell)):
        if grads.bias_ih != 0:
            for product in range(product_count(cell)):
                gate = gate_of(cell, product, slot)
                target = pointer_to(grads.bias_ih if product == 0 else grads.bias_hh, zero)
                if gate >= 0:
                    for unit in range(hidden):
                        target[gate * hidden + unit] += sums[slot * sizes.padded + unit]
    weight_ph = pointer_to(grads.weight_ph, zero)
    for n in range(peephole_count(cell)):
        at = (slot_count(cell) + n) * sizes.padded
        for unit in range(hidden):
            weight_ph[n * hidden + unit] += sums[at + unit]


@njit(**INLINE)
def _note_products(cell, arrays, sizes, grads, workspace, tiles, zero, notes):
    """Write down for `lstm_numba.cpu.gemm` the products of the slots' gradients with x, h and message."""
    size, slots, products = number_bytes(zero), slot_count(cell), product_count(cell)
    inner = sizes.steps * sizes.batch
    notes[0], notes[1], notes[2], notes[3] = pointer_address(arrays.slots), 1, slots * sizes.padded, inner
    notes[4], notes[5], notes[6], notes[7] = sizes.lanes, size, 1, workspace
    notes[8], notes[9], notes[10], notes[11], notes[12] = 0, tiles[4], tiles[5], products, slots
    packed = workspace_numbers(inner, sizes.lanes)
    for product in range(products):
        at = HEAD + product * OPERAND
        b, target, width = pointer_address(arrays.x), grads.weight_ih, sizes.inputs
        if product > 0:
            b, target, width = pointer_address(arrays.h), grads.weight_hh, sizes.hidden
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


@njit(**SERIAL)
def run_backward(cell, layer, steps, x, tape, dy, dstates, dx, grads, zero):
    """The way back over a tape; `dy` is 0 where there is no gradient but that of the final state."""
    sizes = sequence_sizes(cell, steps, layer.batch, layer.inputs, layer.hidden, zero, True)
    places, start = back_places(cell, sizes, zero), _after_lengths(layer)
    arrays = _arrays(layer, tape, kept_places(cell, sizes, steps + 1, zero), x, steps, zero)
    tiles = pointer_to(layer.tiles, layer.tiles)
    weights = backward_view(cell, sizes.inputs, sizes.hidden, layer.weights, tiles, zero)
    hidden, padded, size = sizes.hidden, sizes.padded, number_bytes(zero)
    state = sizes.batch * padded
    carried, sums = pointer_to(start + places.carried, zero), pointer_to(start + places.sums, zero)
    _clear(start + places.carried, state_count(cell) * state, zero)
    _clear(start + places.zeros, padded, zero)
    _clear(start + places.sums, (slot_count(cell) + peephole_count(cell)) * padded, zero)
    for n in range(state_count(cell)):
        target = pointer_to(start + places.carried + n * state * size, zero)
        _copy_rows(pointer_to(dstates[n], zero), hidden, target, padded, sizes.batch, hidden)
    gradients = Gradients(
        carried, pointer_to(start + places.carried + state * size, zero),
        pointer_to(start + places.dmessage, zero), sums, pointer_to(dy if dy != 0 else start + places.zeros,
        zero), pointer_to(start + places.dx, zero), hidden if dy != 0 else 0, state,
    )  # fmt: skip
    sweep_rows_back(cell, weights, arrays, gradients, sizes, product_count(cell) > 2, 1, 0)
    for n in range(state_count(cell)):
        source = pointer_to(start + places.carried + n * state * size, zero)
        _copy_rows(source, padded, pointer_to(dstates[n], zero), hidden, sizes.batch, hidden)
    wide = whole_vectors(sizes.inputs, sizes.lanes)
    _copy_rows(gradients.dx, wide, pointer_to(dx, zero), sizes.inputs, steps * sizes.batch, sizes.inputs)
    _add_sums(cell, sums, sizes, grads, zero)
    notes = pointer_to(start + places.notes, steps)
    _note_products(cell, arrays, sizes, grads, start + places.workspace, tiles, zero, notes)
    product_part(notes, zero, 0, 1)
