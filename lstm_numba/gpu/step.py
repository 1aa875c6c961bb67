"""One step of a layer inside a user's own ``@cuda.jit`` kernel, forward and backward, for any cell.

Each function comes twice: ``thread_...`` is called by one thread, which does all of the work, for thousands of
small networks or streams side by side; ``block_...`` is called by all threads of a block, which share the
units of one sequence. Blocks may have any number of threads, in up to three dimensions.

On the host, `device_weights` makes of a layer what a kernel reads, `device_gradients` the room for gradients.

Arrays
    All are the caller's: views of one dimension, of the layer's dtype, in any memory that the threads share
    (global or shared; for ``thread_...`` local memory too), with any stride. So the states of many streams may lie
    as (H, streams), where neighbouring threads read neighbours, and go in as ``h[:, stream]``. What is written
    must not overlap anything else. Numba refuses wrong dimensions and dtypes while it compiles; sizes are not
    checked, as nothing is in a kernel.
State
    h (H,), or a tuple with one array for each of the cell's states, ``(h, c)``; updated in place.
Barriers
    ``block_...`` contain ``cuda.syncthreads()``, so that all threads of the block must call them, with the same
    arguments. They begin and end with one: what the block's threads wrote before is seen, and the results may be
    read by all of them after. ``thread_...`` contain none.

Examples
--------
>>> from numba import cuda
>>> from lstm_numba.gpu import step
>>> @cuda.jit
... def kernel(weights, x, h, c):  # (B, T, I), (B, H), (B, H); a block for each sequence
...     b, scratch = cuda.blockIdx.x, cuda.shared.array(0, x.dtype)
...     for t in range(x.shape[1]):
...         step.block_step(weights, x[b, t], (h[b], c[b]), scratch)
>>> weights = step.device_weights(rnn)  # doctest: +SKIP
>>> shared = step.scratch_size(weights) * rnn.dtype.itemsize  # doctest: +SKIP
>>> kernel[len(x), 64, 0, shared](weights, x, h, c)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

from lstm_numba.gpu.dispatch import (
    FIRST,
    INPUT,
    SECOND,
    OneRow,
    add_inner,
    add_outer,
    add_to_stage,
    cell_backward,
    cell_forward,
    cell_message,
    cell_message_backward,
    inner_zeros,
    load_memory,
    load_one,
    load_peephole,
    load_slots,
    load_states,
    outer_zeros,
    peephole_count,
    stage_first,
    stage_gates,
)
from lstm_numba.gpu.driver import TypingError, cuda, overload, types
from lstm_numba.gpu.number import add_numbers, load_each, store_each, store_numbers
from lstm_numba.gpu.options import DEVICE
from lstm_numba.gpu.weights import (
    ParameterGradients,
    Weights,
    device_gradients,
    device_weights,
    memory_row,
    peephole_row,
    previous_row,
    scratch_size,
    slots_row,
    tape_size,
)

__all__ = [
    "ParameterGradients",
    "Weights",
    "block_backward",
    "block_forward",
    "block_step",
    "device_gradients",
    "device_weights",
    "scratch_size",
    "tape_size",
    "thread_backward",
    "thread_forward",
    "thread_step",
]

_ONE = OneRow()


# -- who does the work: thread number `rank` of `size` ---------------------------------------------------------


@cuda.jit(**DEVICE)
def _rank():
    inner = cuda.threadIdx.y + cuda.blockDim.y * cuda.threadIdx.z
    return cuda.threadIdx.x + cuda.blockDim.x * inner


@cuda.jit(**DEVICE)
def _size():
    return cuda.blockDim.x * cuda.blockDim.y * cuda.blockDim.z


@cuda.jit(**DEVICE)
def _meet(size):
    """Wait for the others; who is alone has nobody to wait for."""
    if size > 1:
        cuda.syncthreads()


# -- what comes in ---------------------------------------------------------------------------------------------


def checked(weights: Any, state: Any, *arrays: Any) -> Any:
    """The states as a tuple; Numba checks dimensions and dtypes of all arrays while it compiles."""
    return state if isinstance(state, tuple) else (state,)


@overload(checked)
def _(weights, state, *arrays):
    single, dtype = isinstance(state, types.Array), weights[weights.fields.index("bias")].dtype
    states = (state,) if single else tuple(state)
    names = weights[0].instance_class.states
    if len(states) != len(names):
        raise TypingError(f"state: expected {len(names)} arrays ({', '.join(names)}), got {len(states)}")
    for kind in (*states, *arrays):
        if not isinstance(kind, types.Array) or kind.ndim != 1 or kind.dtype != dtype:
            raise TypingError(f"expected views of one dimension of {dtype}, got {kind}")
    if single:
        return lambda weights, state, *arrays: (state,)
    return lambda weights, state, *arrays: state


# -- forward ---------------------------------------------------------------------------------------------------


@cuda.jit(**DEVICE)
def _add_product(weights, stage, slots, matrix, operand, at, depth, unit):
    """The slots of a unit, with those that a stage feeds; `at` is where the operand begins in its array."""
    cell, hidden = weights.cell, weights.hidden
    width = weights.recurrent.size // hidden
    sums, rows = outer_zeros(cell, stage, _ONE, weights.bias), (at,)
    for k in range(depth):
        sums = add_outer(cell, stage, _ONE, sums, matrix, k * width + unit, hidden, operand, rows, k)
    return add_to_stage(cell, stage, slots, sums)


@cuda.jit(**DEVICE)
def _cell_equations(weights, slots, states, work, keep, unit):
    """New states of one unit; h waits in the work space until nobody needs the old one."""
    cell, hidden = weights.cell, weights.hidden
    previous = load_each(states, unit)
    kept, new = cell_forward(cell, slots, previous, load_peephole(cell, weights.peephole, unit, hidden))
    store_numbers(work, unit, 0, new[:1])
    store_each(states[1:], unit, new[1:])
    if keep:
        store_numbers(work, slots_row(cell) * hidden + unit, hidden, kept)
        store_numbers(work, previous_row(cell) * hidden + unit, hidden, previous)
        store_numbers(work, memory_row(cell) * hidden + unit, hidden, new[1:])


@cuda.jit(**DEVICE)
def _message_equations(weights, slots, states, work, keep, unit):
    """The operand of the second product of one unit."""
    cell, hidden = weights.cell, weights.hidden
    store_numbers(work, slots_row(cell) * hidden + unit, hidden, slots)
    store_numbers(work, hidden + unit, 0, (cell_message(cell, slots, load_each(states, unit)),))


def _equations(weights: Any, slots: Any, states: Any, work: Any, keep: Any, unit: Any) -> None:
    """What follows the first recurrent product."""
    run = _cell_equations if len(weights.cell.stages) == 1 else _message_equations
    run(weights, slots, states, work, keep, unit)


@overload(_equations)
def _(weights, slots, states, work, keep, unit):
    run = _cell_equations if len(weights[0].instance_class.stages) == 1 else _message_equations
    return lambda weights, slots, states, work, keep, unit: run(weights, slots, states, work, keep, unit)


@cuda.jit(**DEVICE)
def _run_second_stage(weights, states, work, keep, rank, size):
    _meet(size)
    cell, hidden = weights.cell, weights.hidden
    for unit in range(rank, hidden, size):
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
def _forward(weights, x, states, work, keep, rank, size):
    """A step; the work space is scratch memory, or a tape where it is kept."""
    _meet(size)
    cell, hidden = weights.cell, weights.hidden
    for unit in range(rank, hidden, size):
        slots = load_slots(cell, weights.bias, unit, hidden)
        slots = _add_product(weights, INPUT, slots, weights.input, x, 0, weights.inputs, unit)
        slots = _add_product(weights, FIRST, slots, weights.recurrent, states[0], 0, hidden, unit)
        _equations(weights, slots, states, work, keep, unit)
    _second_stage(weights, states, work, keep, rank, size)
    _meet(size)
    for unit in range(rank, hidden, size):
        store_numbers(states[0], unit, 0, load_one(cell, work, unit, 0))
    _meet(size)


@cuda.jit(**DEVICE)
def thread_step(weights, x, state, scratch):
    """Advance one sequence by one step, by one thread; see the module for arrays, state and barriers.

    Parameters
    ----------
    weights : Weights
        From `device_weights`.
    x : array, shape (I,)
    state : array or tuple of arrays, each (H,)
        ``h`` or ``(h, c)``; replaced by the new state.
    scratch : array, shape (scratch_size(weights),) or more
        For this call only; this thread's own.
    """
    _forward(weights, x, checked(weights, state, x, scratch), scratch, False, 0, 1)


@cuda.jit(**DEVICE)
def block_step(weights, x, state, scratch):
    """Advance one sequence by one step, by all threads of a block.

    Parameters
    ----------
    weights, x, state, scratch
        As for `thread_step`; the scratch memory is this block's own.
    """
    _forward(weights, x, checked(weights, state, x, scratch), scratch, False, _rank(), _size())


@cuda.jit(**DEVICE)
def thread_forward(weights, x, state, tape):
    """Advance one sequence by one step, by one thread, and keep what the way back needs.

    Parameters
    ----------
    weights, x, state
        As for `thread_step`.
    tape : array, shape (tape_size(weights),) or more
        This step's own. `x` is not kept there.
    """
    _forward(weights, x, checked(weights, state, x, tape), tape, True, 0, 1)


@cuda.jit(**DEVICE)
def block_forward(weights, x, state, tape):
    """Advance one sequence by one step, by all threads of a block, and keep what the way back needs.

    Parameters
    ----------
    weights, x, state, tape
        As for `thread_forward`.
    """
    _forward(weights, x, checked(weights, state, x, tape), tape, True, _rank(), _size())


# -- backward --------------------------------------------------------------------------------------------------


@cuda.jit(**DEVICE)
def _inner_product(weights, stage, matrix, depth, tape, column):
    """The slots' gradients times one column of the weights through which a stage fed them."""
    cell, hidden = weights.cell, weights.hidden
    total, rows = inner_zeros(cell, stage, _ONE, weights.bias), (slots_row(cell) * hidden,)
    for k in range(hidden):
        total = add_inner(
            cell, stage, _ONE, total, matrix, k * depth + column, hidden * depth, tape, rows, k, hidden
        )
    return total


@cuda.jit(**DEVICE)
def _cell_gradients(weights, tape, dstates, unit):
    """Gradients of one unit's slots and previous states, all but what flows through the recurrent products."""
    cell, hidden = weights.cell, weights.hidden
    at = slots_row(cell) * hidden + unit
    new = load_one(cell, tape, unit, 0) + load_memory(cell, tape, memory_row(cell) * hidden + unit, hidden)
    dslots, dprevious, dpeephole = cell_backward(
        cell,
        load_slots(cell, tape, at, hidden),
        load_states(cell, tape, previous_row(cell) * hidden + unit, hidden),
        new,
        load_peephole(cell, weights.peephole, unit, hidden),
        load_each(dstates, unit),
    )
    store_numbers(tape, at, hidden, dslots)
    store_each(dstates, unit, dprevious)
    store_numbers(tape, peephole_row(cell) * hidden + unit, hidden, dpeephole)


@cuda.jit(**DEVICE)
def _run_second_back(weights, tape, dstates, rank, size):
    """What the message's gradient adds to those of the slots and of the previous states."""
    cell, hidden = weights.cell, weights.hidden
    _meet(size)
    for unit in range(rank, hidden, size):
        # The new h is not needed any more. The slots still are, by all threads.
        total = _inner_product(weights, SECOND, weights.recurrent_rows, hidden, tape, unit)
        store_numbers(tape, unit, 0, total)
    _meet(size)
    for unit in range(rank, hidden, size):
        at = slots_row(cell) * hidden + unit
        dslots, dprevious = cell_message_backward(
            cell,
            load_slots(cell, tape, at, hidden),
            load_states(cell, tape, previous_row(cell) * hidden + unit, hidden),
            load_one(cell, tape, unit, 0)[0],
        )
        store_numbers(tape, at, hidden, dslots)
        add_numbers(dstates[0], unit, 0, dprevious)


def _second_back(weights: Any, tape: Any, dstates: Any, rank: Any, size: Any) -> None:
    """The way back through the second stage of a cell that has one."""
    if len(weights.cell.stages) > 1:
        _run_second_back(weights, tape, dstates, rank, size)


@overload(_second_back)
def _(weights, tape, dstates, rank, size):
    if len(weights[0].instance_class.stages) == 1:
        return lambda weights, tape, dstates, rank, size: None
    return lambda weights, tape, dstates, rank, size: _run_second_back(weights, tape, dstates, rank, size)


@cuda.jit(**DEVICE)
def _add_weights(weights, stage, matrix, bias, tape, operand, at, rank, size):
    """Add to the gradients of a stage's weights and biases; other sequences may add to them at the same time."""
    cell, hidden = weights.cell, weights.hidden
    gates, depth = stage_gates(cell, stage), matrix.shape[1]
    for n in range(len(gates)):
        first = gates[n] * hidden
        slots = (slots_row(cell) + stage_first(cell, stage) + n) * hidden
        for i in range(rank, hidden * depth, size):
            unit, k = i // depth, i % depth
            cuda.atomic.add(matrix, (first + unit, k), tape[slots + unit] * operand[at + k])
        if bias.size > 0:
            for unit in range(rank, hidden, size):
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
    for i in range(rank, peephole_count(cell) * hidden, size):
        cuda.atomic.add(gradients.weight_ph, i, tape[peephole_row(cell) * hidden + i])


@cuda.jit(**DEVICE)
def _backward(weights, gradients, x, tape, dstates, dx, rank, size):
    _meet(size)
    cell, hidden = weights.cell, weights.hidden
    for unit in range(rank, hidden, size):
        _cell_gradients(weights, tape, dstates, unit)
    _second_back(weights, tape, dstates, rank, size)
    _meet(size)
    for unit in range(rank, hidden, size):
        total = _inner_product(weights, FIRST, weights.recurrent_rows, hidden, tape, unit)
        add_numbers(dstates[0], unit, 0, total)
    for feature in range(rank, dx.size, size):
        total = _inner_product(weights, INPUT, weights.input_rows, weights.inputs, tape, feature)
        store_numbers(dx, feature, 0, total)
    _add_parameters(weights, gradients, x, tape, rank, size)
    _meet(size)


@cuda.jit(**DEVICE)
def thread_backward(weights, gradients, x, tape, dstate, dx):
    """Back-propagate through one step, by one thread; see the module for arrays, state and barriers.

    Parameters
    ----------
    weights : Weights
        Those of the forward step.
    gradients : ParameterGradients
        From `device_gradients`. The step's are added atomically: any number of threads and blocks may share them,
        which then add in any order, so that the last bits differ from run to run.
    x : array, shape (I,)
        The forward step's.
    tape : array
        The forward step's; is used up.
    dstate : array or tuple of arrays, each (H,)
        In the state's form: the loss' gradient with respect to the new state, everything that uses h included;
        replaced by that with respect to the previous state.
    dx : array, shape (I,), or empty
        Gets the gradient of `x`; nothing is computed for an empty one.
    """
    _backward(weights, gradients, x, tape, checked(weights, dstate, x, tape, dx), dx, 0, 1)


@cuda.jit(**DEVICE)
def block_backward(weights, gradients, x, tape, dstate, dx):
    """Back-propagate through one step, by all threads of a block.

    Parameters
    ----------
    weights, gradients, x, tape, dstate, dx
        As for `thread_backward`.
    """
    _backward(weights, gradients, x, tape, checked(weights, dstate, x, tape, dx), dx, _rank(), _size())
