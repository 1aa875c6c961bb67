"""The work itself, on addresses: compiled once for a cell and dtype, whatever arrays it is called with.

A step, a sequence forward and a sequence backward, on the calling thread or on several. What one thread does
alone it does as a team of one.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from lstm_numba.engines.cpu.backward import backward_by_batch
from lstm_numba.engines.cpu.forward import (
    forward_by_batch,
    input_products,
    prepare_first,
    whole_step,
)
from lstm_numba.engines.cpu.function_pointers import call_pointer
from lstm_numba.engines.cpu.gemm import HEAD, operand_numbers, segment_index, workspace_numbers
from lstm_numba.engines.cpu.head import Head
from lstm_numba.engines.cpu.layout import Arrays, Gradients, share_all, share_rows
from lstm_numba.engines.cpu.offsets import (
    aligned,
    backward_offsets,
    extras_at,
    number_bytes,
    saved_offsets,
    sequence_sizes,
    state_addresses,
    whole_vectors,
)
from lstm_numba.engines.cpu.options import CALLEE, INLINE, SERIAL
from lstm_numba.engines.cpu.records import (
    ALONE,
    BackwardJob,
    FunctionTable,
    Layer,
    ProductJob,
    ProductOperand,
    Sequence,
    read_record,
    write_record,
)
from lstm_numba.engines.cpu.rounds import clear_rounds
from lstm_numba.engines.cpu.specialize import (
    biased_stages,
    gate_of,
    peephole_count,
    prepared_count,
    product_count,
    slot_count,
    stage_count,
    state_count,
)
from lstm_numba.engines.cpu.thread_team import WORK
from lstm_numba.engines.cpu.unpacked_step import unpacked_stages
from lstm_numba.engines.cpu.vector import pointer_address, pointer_to
from lstm_numba.engines.cpu.weights import gather_bias, gather_peephole, packed_view, product_sizes


@njit(**INLINE)
def _after_lengths(layer):
    """Address of scratch after the sequences' lengths."""
    return aligned(layer.scratch + 8 * layer.batch)


@njit(**SERIAL)
def kept_offsets(cell, layer, sequence, zero):
    """Where a forward pass writes, in bytes from `sequence.rest` on; addresses do not matter."""
    return saved_offsets(cell, sequence_sizes(cell, layer, sequence, zero), sequence, zero)


@njit(**SERIAL)
def kept_bytes(cell, layer, sequence, zero):
    """Bytes of what a forward pass writes from there on."""
    return saved_offsets(cell, sequence_sizes(cell, layer, sequence, zero), sequence, zero).end


@njit(**SERIAL)
def scratch_bytes(cell, layer, steps, training, team, zero):
    """Bytes of scratch that the functions below want, from an aligned address on."""
    size = kept_bytes(cell, layer, _in_scratch(layer, steps, 0, team), zero)
    if training:
        sizes = sequence_sizes(cell, layer, Sequence(steps, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1), zero)
        size = max(size, backward_offsets(cell, sizes, team, zero).end)
    return _after_lengths(layer) - layer.scratch + size


@njit(**INLINE)
def _arrays(cell, layer, offsets, sequence, zero):
    """The engine's arrays; lengths are made up where there are none."""
    ends = pointer_to(sequence.lengths if sequence.lengths != 0 else layer.scratch, sequence.steps)
    if sequence.lengths == 0:
        for row in range(layer.batch):
            ends[row] = sequence.steps
    rest = sequence.rest
    return Arrays(
        pointer_to(sequence.x, zero), pointer_to(rest + offsets.slots, zero), pointer_to(sequence.h, zero),
        pointer_to(rest + offsets.cell_states, zero), pointer_to(rest + offsets.operand, zero),
        pointer_to(rest + offsets.prepared, zero),
        extras_at(cell, pointer_to(sequence.extras, sequence.steps), 0),
        pointer_to(rest + offsets.means, zero), pointer_to(rest + offsets.partial, zero),
        pointer_to(rest + offsets.reused, zero), ends,
        pointer_to(rest + offsets.rounds, sequence.steps),
    )  # fmt: skip


@njit(**INLINE)
def forward_arrays(cell, layer, sequence, zero):
    """Sizes and arrays of a sequence."""
    sizes = sequence_sizes(cell, layer, sequence, zero)
    return sizes, _arrays(cell, layer, saved_offsets(cell, sizes, sequence, zero), sequence, zero)


@njit(**INLINE)
def _in_scratch(layer, steps, x, team):
    """A sequence of which nothing is kept: two entries of h, and the rest, in scratch."""
    start = _after_lengths(layer)
    unit_parts = team.parts if team.by_units != 0 else 1
    return Sequence(steps, 0, 0, x, 0, start, start, 2, 0, 0, 0, unit_parts)


@njit(**SERIAL)
def one_step(layer, x, team):
    """A step of which nothing is kept but the states."""
    return _in_scratch(layer, np.int64(1), x, team)


@njit(**INLINE)
def forward_weights(cell, layer, zero):
    """A layer's packed weights of the forward pass."""
    return packed_view(cell, layer, np.bool_(False), zero)


@njit(**INLINE)
def _load_states(cell, states, arrays, sizes, entry, zero):
    """Copy the caller's states, or zeros where an address is 0, to an entry of the histories."""
    for n in range(state_count(cell)):
        source, given = pointer_to(states[n], zero), states[n] != 0
        numbers = sizes.batch * (sizes.output if n == 0 else sizes.hidden)
        for k in range(numbers):
            number = source[k] if given else zero
            if n == 0:
                arrays.h[entry * numbers + k] = number
            else:
                arrays.cell_states[(n - 1) * sizes.cell_stride + entry * sizes.cell_step + k] = number


@njit(**INLINE)
def _store_states(cell, states, arrays, sizes, entry, zero):
    """Copy an entry of the histories to the caller's states."""
    for n in range(state_count(cell)):
        target = pointer_to(states[n], zero)
        numbers = sizes.batch * (sizes.output if n == 0 else sizes.hidden)
        for k in range(numbers):
            if n == 0:
                target[k] = arrays.h[entry * numbers + k]
            else:
                target[k] = arrays.cell_states[(n - 1) * sizes.cell_stride + entry * sizes.cell_step + k]


@njit(**CALLEE)
def run_step(cell, layer, x, states, zero):
    """One step; the states change in place."""
    sizes, arrays = forward_arrays(cell, layer, _in_scratch(layer, 1, x, ALONE), zero)
    _load_states(cell, states, arrays, sizes, 0, zero)
    weights, share = forward_weights(cell, layer, zero), share_all(sizes)
    whole_step(cell, weights, arrays, sizes, 0, share)
    _store_states(cell, states, arrays, sizes, 1, zero)


@njit(**CALLEE)
def run_unpacked_step(cell, located, layer, x, states, zero):
    """One step with weights that are not packed; in the place of packed ones there is room for the biases."""
    sizes, arrays = forward_arrays(cell, layer, _in_scratch(layer, 1, x, ALONE), zero)
    _load_states(cell, states, arrays, sizes, 0, zero)
    weights = forward_weights(cell, layer, zero)
    gather_bias(cell, located, layer.hidden, weights.bias, zero)
    gather_peephole(cell, located, layer.hidden, weights.peephole, zero)
    unpacked_stages(cell, located, weights, arrays, sizes, zero)
    _store_states(cell, states, arrays, sizes, 1, zero)


@njit(**CALLEE)
def run_sequence(cell, layer, steps, x, states, y, zero):
    """A sequence of which only the output is kept.

    From the second step on y is the history: entry t + 1 of h is y[t]. Entry 0, the initial state, would be
    before the caller's memory, so the first step has a history of its own.
    """
    sizes, first = forward_arrays(cell, layer, _in_scratch(layer, steps, x, ALONE), zero)
    _load_states(cell, states, first, sizes, 0, zero)
    weights, numbers = forward_weights(cell, layer, zero), layer.batch * layer.hidden
    history = pointer_to(y - numbers * number_bytes(zero), zero)
    later = Arrays(
        first.x, first.slots, history, first.cell_states, first.operand, first.prepared, first.extras,
        first.means, first.partial, first.reused, first.lengths, first.rounds,
    )  # fmt: skip
    for chunk in range(sizes.chunks):
        share = share_rows(sizes, 1, 0, sizes.chunks, chunk)
        for begin in range(0, steps, sizes.block):
            last = min(steps, begin + sizes.block)
            if sizes.block > 1:
                input_products(cell, weights, later, sizes, begin, last, share)
            for t in range(begin, last):
                arrays = first if t == 0 else later
                whole_step(cell, weights, arrays, sizes, t, share)
                if t == 0:
                    for k in range(share.top * layer.hidden, share.bottom * layer.hidden):
                        later.h[numbers + k] = first.h[numbers + k]
    _store_states(cell, states, later, sizes, steps, zero)


@njit(**CALLEE)
def run_stack(cell, layers, x, states, y, zero):
    """One step of stacked layers, whose states change in place: h (layers, B, units of h), and behind it each
    other state (layers, B, H).

    `layers` points at their number, the address of a `Head`, or 0 if y is the last layer's h, and, behind
    these, a `Layer` for each.
    """
    records = pointer_address(layers) + 16
    source, top = x, read_record(Layer, records, layers[0] - 1)
    output = top.batch * top.output * number_bytes(zero)
    size = top.batch * top.hidden * number_bytes(zero)
    for n in range(layers[0]):
        h, others = states + n * output, states + layers[0] * output + n * size
        addresses = state_addresses(cell, h, others, layers[0] * size)
        run_step(cell, read_record(Layer, records, n), source, addresses, zero)
        source = h
    if layers[1] != 0:
        call_pointer(read_record(Head, layers[1], 0).function, (layers[1], source, y))
        return
    last, target = pointer_to(source, zero), pointer_to(y, zero)
    for k in range(top.batch * top.output):
        target[k] = last[k]


@njit(**CALLEE)
def begin(cell, layer, sequence, first, zero):
    """Copy the initial states to where the first step reads them, and clear the rounds."""
    sizes, arrays = forward_arrays(cell, layer, sequence, zero)
    _load_states(cell, first, arrays, sizes, sizes.steps if sizes.reverse else 0, zero)
    prepare_first(cell, forward_weights(cell, layer, zero), arrays, sizes)
    clear_rounds(arrays.rounds, sequence.unit_parts)


@njit(**CALLEE)
def end(cell, layer, sequence, last, zero):
    """Copy the final states from where the last step wrote them."""
    sizes, arrays = forward_arrays(cell, layer, sequence, zero)
    _store_states(cell, last, arrays, sizes, 0 if sizes.reverse else sizes.steps, zero)


@njit(**CALLEE)
def run_forward(cell, layer, sequence, first, last, zero):
    """A sequence; `first` and `last` are the addresses of the initial and of the final states."""
    begin(cell, layer, sequence, first, zero)
    sizes, arrays = forward_arrays(cell, layer, sequence, zero)
    forward_by_batch(cell, forward_weights(cell, layer, zero), arrays, sizes, np.int64(1), np.int64(0))
    end(cell, layer, sequence, last, zero)


@njit(**INLINE)
def _copy_rows(source, source_row, target, target_row, rows, width):
    """Copy rows of `width` numbers with strides of their own in source and target."""
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
def _store_sums(cell, sums, sizes, grads, add, zero):
    """Sums of the slots' gradients over time and rows to biases and peepholes, added where `add`."""
    hidden = sizes.hidden
    for slot in range(slot_count(cell)):
        if grads.bias_ih != 0:
            for product in range(1 + biased_stages(cell)):
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
def _continues(cell, slot, padded, hidden):
    """Whether in all products a slot's gate is the next after that of the slot before it, without a gap."""
    same = slot > 0 and padded == hidden and biased_stages(cell) == stage_count(cell)
    for product in range(product_count(cell)):
        gate, before = gate_of(cell, product, slot), gate_of(cell, product, max(0, slot - 1))
        same = same and ((gate >= 0 and gate == before + 1) or (gate < 0 and before < 0))
    return same


@njit(**INLINE)
def _describe_products(cell, job, arrays, sizes, offsets, zero):
    """Write the `ProductJob` of the slots' gradients with x, h and the operand."""
    layer, targets = job.layer, job.targets
    scratch, table = _after_lengths(layer), read_record(FunctionTable, layer.functions, 0)
    descriptor = scratch + offsets.descriptor
    size, slots, products = number_bytes(zero), slot_count(cell), product_count(cell)
    inner = sizes.steps * sizes.batch
    before = pointer_address(arrays.h) + sizes.reverse * sizes.batch * sizes.output * size
    packed = workspace_numbers(inner, sizes.lanes)
    for product in range(products):
        b, target = pointer_address(arrays.x), targets.grads.weight_ih
        _, width = product_sizes(product, sizes.inputs, sizes.hidden, sizes.output)
        if product > 0:
            b, target = before, targets.grads.weight_hh
            if prepared_count(cell) > 0:
                b = pointer_address(arrays.prepared)
        if product > 1:
            b = pointer_address(arrays.operand)
        if product > biased_stages(cell):
            target = targets.grads.second
        operand = ProductOperand(b, width, 1, target, width, width, packed * size)
        write_record(descriptor + 8 * HEAD, product, operand)
        packed += operand_numbers(inner, width, sizes.lanes)
    segments, numbers = 0, pointer_to(descriptor, sizes.steps)
    for slot in range(slots):
        if _continues(cell, slot, sizes.padded, sizes.hidden):  # one longer segment fills more tiles
            numbers[segment_index(products, segments - 1) + 1] += sizes.hidden
        else:
            at = segment_index(products, segments)
            numbers[at], numbers[at + 1] = slot * sizes.padded, 0
            for product in range(products):
                gate = gate_of(cell, product, slot)
                units, _ = product_sizes(product, sizes.inputs, sizes.hidden, sizes.output)
                numbers[at + 2 + product] = gate * units if gate >= 0 else -1
                if gate >= 0:
                    numbers[at + 1] = units
            segments += 1
    head = ProductJob(
        pointer_address(arrays.slots), 1, slots * sizes.padded, inner, sizes.lanes, size, targets.add,
        scratch + offsets.workspace, offsets.share, table.wide_tile, table.narrow_tile, job.team.workers,
        products, segments,
    )  # fmt: skip
    write_record(descriptor, 0, head)


@njit(**INLINE)
def backward_weights(cell, layer, zero):
    """A layer's packed weights of the backward pass."""
    return packed_view(cell, layer, np.bool_(True), zero)


@njit(**INLINE)
def backward_arrays(cell, job, zero):
    """Sizes, offsets in scratch, arrays and gradients of a backward pass, a `BackwardJob`."""
    layer, targets = job.layer, job.targets
    sizes, arrays = forward_arrays(cell, layer, job.sequence, zero)
    offsets, start = backward_offsets(cell, sizes, job.team, zero), _after_lengths(layer)
    dy = job.output_gradient.dy if job.output_gradient.dy != 0 else start + offsets.zeros
    direct = targets.row == whole_vectors(sizes.inputs, sizes.lanes)
    dx = targets.dx if direct else start + offsets.dx
    state = sizes.batch * sizes.padded
    gradients = Gradients(
        pointer_to(start + offsets.carried, zero),
        pointer_to(start + offsets.carried + state * number_bytes(zero), zero),
        pointer_to(start + offsets.doperand, zero), pointer_to(start + offsets.dprepared, zero),
        pointer_to(start + offsets.dmeans, zero), pointer_to(start + offsets.partial, zero),
        pointer_to(start + offsets.reused, zero), pointer_to(start + offsets.sums, zero),
        pointer_to(dy, zero), pointer_to(dx, zero), job.output_gradient.row, state,
    )  # fmt: skip
    return sizes, offsets, arrays, gradients


@njit(**CALLEE)
def backward_prologue(cell, job, dlast, zero):
    """Copy the final states' gradients to where the last step reads them, and clear sums and rounds."""
    sizes, offsets, arrays, _ = backward_arrays(cell, job, zero)
    start, padded = _after_lengths(job.layer), sizes.padded
    state = sizes.batch * padded
    _clear(start + offsets.carried, state_count(cell) * state, zero)
    _clear(start + offsets.zeros, padded, zero)
    _clear(start + offsets.sums, job.team.parts * (slot_count(cell) + peephole_count(cell)) * padded, zero)
    for n in range(state_count(cell)):
        if dlast[n] != 0:
            target = pointer_to(start + offsets.carried + n * state * number_bytes(zero), zero)
            units = sizes.output if n == 0 else sizes.hidden
            _copy_rows(pointer_to(dlast[n], zero), units, target, padded, sizes.batch, units)
    clear_rounds(arrays.rounds, job.sequence.unit_parts)


@njit(**CALLEE)
def backward_epilogue(cell, job, dfirst, zero):
    """Store all gradients but those of the weights, and describe the products that give these."""
    sizes, offsets, arrays, gradients = backward_arrays(cell, job, zero)
    start, padded = _after_lengths(job.layer), sizes.padded
    for n in range(state_count(cell)):
        units = sizes.output if n == 0 else sizes.hidden
        source = pointer_to(start + offsets.carried + n * sizes.batch * padded * number_bytes(zero), zero)
        _copy_rows(source, padded, pointer_to(dfirst[n], zero), units, sizes.batch, units)
    wide = whole_vectors(sizes.inputs, sizes.lanes)
    if job.targets.row != wide:
        rows, target = sizes.steps * sizes.batch, pointer_to(job.targets.dx, zero)
        _copy_rows(gradients.dx, wide, target, job.targets.row, rows, sizes.inputs)
    numbers = (slot_count(cell) + peephole_count(cell)) * padded
    for part in range(1, job.team.parts):
        for k in range(numbers):
            gradients.sums[k] += gradients.sums[part * numbers + k]
    _store_sums(cell, gradients.sums, sizes, job.targets.grads, job.targets.add, zero)
    _describe_products(cell, job, arrays, sizes, offsets, zero)


@njit(**INLINE)
def weights_part(layer, part):
    """A part of the products that give the weights' gradients."""
    descriptor = pointer_to(_after_lengths(layer), layer.batch)
    call_pointer(read_record(FunctionTable, layer.functions, 0).product, (descriptor, WORK, part))


@njit(**CALLEE)
def run_backward(cell, layer, sequence, output_gradient, dlast, dfirst, targets, zero):
    """The backward pass over what `run_forward` saved; from the final states' gradients to the initial."""
    job = BackwardJob(layer, sequence, ALONE, output_gradient, targets)
    backward_prologue(cell, job, dlast, zero)
    sizes, _, arrays, gradients = backward_arrays(cell, job, zero)
    weights = backward_weights(cell, layer, zero)
    backward_by_batch(cell, weights, arrays, gradients, sizes, np.int64(1), np.int64(0))
    backward_epilogue(cell, job, dfirst, zero)
    weights_part(layer, np.int64(0))
