"""One step, and a whole sequence, forward: for calls from compiled code, on the calling thread."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.extending import overload

from lstm_numba.cpu.options import INLINE, SERIAL
from lstm_numba.cpu.passes import (
    ALONE,
    kept_bytes,
    run_forward,
    run_plain_step,
    run_sequence,
    run_step,
    scratch_bytes,
)
from lstm_numba.cpu.places import NOTES, Layer, Sequence, aligned, lane_count, number_bytes
from lstm_numba.kernels.memory import (
    address_of,
    addresses_of,
    as_states,
    batch_of,
    check_states,
    reaches,
    writable_address,
)
from lstm_numba.kernels.types import PackedType, cell_of
from lstm_numba.kernels.weights import (
    check_parameters,
    layer_sizes,
    locate,
    packed_address,
    packing_numbers,
    zero_like,
)


@njit(**INLINE)
def _after_packing(weights, address):
    """Where scratch goes on after the notes and the packed weights of plain ones."""
    return aligned(address + 8 * NOTES + packing_numbers(weights) * number_bytes(zero_like(weights)))


@njit(**SERIAL)
def scratch_size(weights, steps=1, batch=1, training=False):
    """How many numbers of scratch the functions of this package want.

    Parameters
    ----------
    weights : Plain or Packed
    steps, batch : int
        T and B, the largest of the calls; 1 for steps, and where there is no batch.
    training : bool
        Whether for `step_backward` and `sequence_backward` too.

    Returns
    -------
    int
        Size of a one-dimensional array of the weights' dtype.
    """
    inputs, hidden = layer_sizes(weights)
    zero = zero_like(weights)
    layer = Layer(batch, inputs, hidden, 0, 0, 0)
    size = scratch_bytes(cell_of(weights), layer, steps, training, ALONE, zero)
    # An array may begin anywhere: up to a cache line is lost before its first aligned number.
    return (_after_packing(weights, 0) + size) // number_bytes(zero) + lane_count(zero)


@njit(**INLINE)
def tape_bytes(weights, steps, batch):
    """Bytes of a tape: the history of h, and the rest."""
    inputs, hidden = layer_sizes(weights)
    layer = Layer(batch, inputs, hidden, 0, 0, 0)
    return kept_bytes(cell_of(weights), layer, sequence_on(0, steps, 0), zero_like(weights))


@njit(**SERIAL)
def tape_size(weights, steps=1, batch=1):
    """How many numbers a tape of T steps of B sequences holds; a step's has T = 1.

    Parameters
    ----------
    weights : Plain or Packed
    steps, batch : int
        T and B.

    Returns
    -------
    int
        Size of a one-dimensional array of the weights' dtype.
    """
    zero = zero_like(weights)
    return tape_bytes(weights, steps, batch) // number_bytes(zero)


@njit(**INLINE)
def layer_in(weights, steps, batch, scratch, training):
    """What the functions on addresses must know; plain weights not yet packed."""
    inputs, hidden = layer_sizes(weights)
    zero = zero_like(weights)
    notes = aligned(writable_address(scratch, zero))
    rest = _after_packing(weights, notes)
    layer = Layer(batch, inputs, hidden, notes + 8 * NOTES, np.int64(weights.functions.ctypes.data), rest)
    size = scratch_bytes(cell_of(weights), layer, steps, training, ALONE, zero)
    if not reaches(scratch, rest + size, zero):
        raise ValueError(
            "scratch: expected as many numbers as scratch_size says for these weights, T, B and use"
        )
    return layer


@njit(**INLINE)
def packed_layer(weights, steps, batch, scratch, training):
    """The same with packed weights: in training those of the way back."""
    layer = layer_in(weights, steps, batch, scratch, training)
    address = packed_address(weights, training, layer.weights, layer.weights - 8 * NOTES)
    return Layer(batch, layer.inputs, layer.hidden, address, layer.functions, layer.scratch)


def _advance(weights: Any, x: Any, states: Any, batch: Any, scratch: Any) -> Any:
    """A step with packed weights, or with plain ones as they lie."""
    raise NotImplementedError


@overload(_advance, INLINE)
def _(weights, x, states, batch, scratch):
    def packed(weights, x, states, batch, scratch):
        zero = zero_like(weights)
        layer = packed_layer(weights, np.int64(1), batch, scratch, False)
        run_step(cell_of(weights), layer, address_of(x, zero), addresses_of(states, zero), zero)

    def plain(weights, x, states, batch, scratch):
        cell, zero = cell_of(weights), zero_like(weights)
        check_parameters(cell, weights)
        layer, located = (
            layer_in(weights, np.int64(1), batch, scratch, False),
            locate(weights, zero),
        )
        run_plain_step(cell, located, layer, address_of(x, zero), addresses_of(states, zero), zero)

    return packed if isinstance(weights, PackedType) else plain


@njit(**SERIAL)
def step(weights, x, state, scratch):
    """Advance one step, in place, without allocating.

    Parameters
    ----------
    weights : Plain or Packed
        Plain weights are read as they lie, packed ones are faster.
    x : ndarray, shape (I,) or (B, I)
    state : tuple of ndarray, shape (H,) or (B, H)
        ``(h, c)``, or ``(h,)`` or ``h`` for a cell with one state; overwritten by the new state. All arrays
        of a call are C-contiguous and of the weights' dtype. `x` must not overlap a state.
    scratch : ndarray, 1-D
        `scratch_size(weights, 1, B)` numbers, used by one call at a time.

    Raises
    ------
    ValueError
        A shape does not fit. Wrong dtypes are a `TypingError` while Numba compiles.
    """
    inputs, hidden = layer_sizes(weights)
    states, batch = as_states(cell_of(weights), state), batch_of(x, np.int64(1), inputs)
    check_states(cell_of(weights), states, batch, hidden)
    _advance(weights, x, states, batch, scratch)


@njit(**INLINE)
def _check_output(y, steps, batch, hidden):
    if y.shape[0] != steps or y.shape[-1] != hidden or y.size != steps * batch * hidden:
        raise ValueError("y: expected shape (T, B, H), or (T, H) without a batch")


@njit(**SERIAL)
def sequence(weights, x, state, y, scratch):
    """Run a whole sequence, without allocating and without keeping anything for the way back.

    Parameters
    ----------
    weights : Plain or Packed
        Plain weights are packed into scratch first.
    x : ndarray, shape (T, I) or (T, B, I)
    state : tuple of ndarray, shape (H,) or (B, H)
        As for `step`: the initial state, overwritten by the final one.
    y : ndarray, shape (T, H) or (T, B, H)
        Where h of every step goes; must not overlap x.
    scratch : ndarray, 1-D
        `scratch_size(weights, T, B)` numbers, used by one call at a time.

    Raises
    ------
    ValueError
        A shape does not fit.
    """
    inputs, hidden = layer_sizes(weights)
    cell, zero, steps = cell_of(weights), zero_like(weights), x.shape[0]
    states, batch = as_states(cell, state), batch_of(x, steps, inputs)
    check_states(cell, states, batch, hidden)
    _check_output(y, steps, batch, hidden)
    layer = packed_layer(weights, steps, batch, scratch, False)
    run_sequence(
        cell, layer, steps, address_of(x, zero), addresses_of(states, zero), writable_address(y, zero), zero
    )


@njit(**INLINE)
def sequence_on(tape, steps, x):
    """A sequence that is kept on the tape at an address."""
    return Sequence(steps, 0, 1, x, 0, tape, tape, steps + 1, 0, 0)


@njit(**INLINE)
def _record(weights, x, steps, batch, states, tape, scratch):
    """Run a sequence and keep everything on a tape."""
    cell, zero, start = cell_of(weights), zero_like(weights), writable_address(tape, zero_like(weights))
    check_states(cell, states, batch, layer_sizes(weights)[1])
    if not reaches(tape, start + tape_bytes(weights, steps, batch), zero):
        raise ValueError("tape: expected as many numbers as tape_size says for these weights, T and B")
    layer = packed_layer(weights, steps, batch, scratch, False)
    places, kept = addresses_of(states, zero), sequence_on(start, steps, address_of(x, zero))
    run_forward(cell, layer, kept, places, places, zero)


@njit(**SERIAL)
def step_forward(weights, x, state, tape, scratch):
    """Advance one step in place, as `step`, and keep on `tape` what `step_backward` needs.

    Parameters
    ----------
    weights, x, state, scratch
        As for `step`. Plain weights are packed into scratch first.
    tape : ndarray, 1-D
        `tape_size(weights, 1, B)` numbers.

    Raises
    ------
    ValueError
        A shape does not fit.
    """
    batch = batch_of(x, np.int64(1), layer_sizes(weights)[0])
    _record(weights, x, np.int64(1), batch, as_states(cell_of(weights), state), tape, scratch)


@njit(**SERIAL)
def sequence_forward(weights, x, state, y, tape, scratch):
    """Run a whole sequence, as `sequence`, and keep on `tape` what `sequence_backward` needs.

    Parameters
    ----------
    weights, x, state, y, scratch
        As for `sequence`.
    tape : ndarray, 1-D
        `tape_size(weights, T, B)` numbers.

    Raises
    ------
    ValueError
        A shape does not fit.
    """
    inputs, hidden = layer_sizes(weights)
    steps = x.shape[0]
    batch = batch_of(x, steps, inputs)
    _check_output(y, steps, batch, hidden)
    _record(weights, x, steps, batch, as_states(cell_of(weights), state), tape, scratch)
    source, target = tape[batch * hidden : (steps + 1) * batch * hidden], y.reshape(-1)
    for k in range(target.size):
        target[k] = source[k]
