"""One step, and a whole sequence, forward: for calls from compiled code, on the calling thread."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.extending import overload

from lstm_numba.engines.cpu.memory import ALIGNMENT
from lstm_numba.engines.cpu.offsets import DESCRIPTOR_SIZE, aligned, number_bytes
from lstm_numba.engines.cpu.options import INLINE, SERIAL
from lstm_numba.engines.cpu.passes import (
    kept_bytes,
    run_forward,
    run_sequence,
    run_step,
    run_unpacked_step,
    scratch_bytes,
)
from lstm_numba.engines.cpu.records import ALONE, Layer, Sequence
from lstm_numba.kernels.memory import (
    address_of,
    addresses_of,
    as_states,
    batch_of,
    reaches,
    states_fit,
)
from lstm_numba.kernels.status import FITS, SCRATCH, STATE, TAPE, Checked, Typed, X, Y, spoil
from lstm_numba.kernels.types import PackedType, cell_of
from lstm_numba.kernels.weights import (
    layer_sizes,
    locate,
    packed_address,
    packing_numbers,
    weights_status,
    zero_like,
)


@njit(**INLINE)
def _after_packing(weights, address):
    """Address of scratch after the descriptor and the packed weights of plain ones."""
    return aligned(
        address + 8 * DESCRIPTOR_SIZE + packing_numbers(weights) * number_bytes(zero_like(weights))
    )


@Typed
@njit(**SERIAL)
def scratch_size(weights, steps=1, batch=1, training=False):
    """How many numbers of scratch the functions of this package need.

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
    layer = Layer(batch, inputs, hidden, hidden, 0, 0, 0)
    size = scratch_bytes(cell_of(weights), layer, steps, training, ALONE, zero)
    # An array may begin anywhere: up to a cache line is lost before its first aligned number.
    return -(-(_after_packing(weights, 0) + size + ALIGNMENT) // number_bytes(zero))


@njit(**INLINE)
def tape_bytes(weights, steps, batch):
    """Bytes of a tape: the history of h, and the rest."""
    inputs, hidden = layer_sizes(weights)
    layer = Layer(batch, inputs, hidden, hidden, 0, 0, 0)
    return kept_bytes(cell_of(weights), layer, sequence_on(0, steps, 0), zero_like(weights))


@Typed
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
def _layer_in(weights, batch, scratch):
    """What the functions on addresses must know; plain weights not yet packed."""
    inputs, hidden = layer_sizes(weights)
    descriptor = aligned(address_of(scratch))
    functions = np.int64(weights.functions.ctypes.data)
    return Layer(
        batch,
        inputs,
        hidden,
        hidden,
        descriptor + 8 * DESCRIPTOR_SIZE,
        functions,
        _after_packing(weights, descriptor),
    )


@njit(**INLINE)
def packed_layer(weights, batch, scratch, training):
    """The same with packed weights: in training those of the backward pass."""
    layer = _layer_in(weights, batch, scratch)
    address = packed_address(weights, training, layer.weights, layer.weights - 8 * DESCRIPTOR_SIZE)
    return Layer(batch, layer.inputs, layer.hidden, layer.output, address, layer.functions, layer.scratch)


@njit(**INLINE)
def call_status(weights, x, steps, states, scratch, training):
    """Status of the arguments that all calls have."""
    inputs, hidden = layer_sizes(weights)
    cell, zero, status = cell_of(weights), zero_like(weights), weights_status(weights)
    if status != FITS:
        return status
    batch = batch_of(x, steps, inputs)
    if batch < 1:
        return X
    if not states_fit(cell, states, batch, hidden):
        return STATE
    layer = _layer_in(weights, batch, scratch)
    if not reaches(scratch, layer.scratch + scratch_bytes(cell, layer, steps, training, ALONE, zero), zero):
        return SCRATCH
    return FITS


def _advance(weights: Any, x: Any, states: Any, batch: Any, scratch: Any) -> Any:
    """A step with packed or plain weights."""
    raise NotImplementedError


@overload(_advance, INLINE)
def _(weights, x, states, batch, scratch):
    def packed(weights, x, states, batch, scratch):
        zero = zero_like(weights)
        layer = packed_layer(weights, batch, scratch, False)
        run_step(cell_of(weights), layer, address_of(x), addresses_of(states), zero)

    def plain(weights, x, states, batch, scratch):
        cell, zero = cell_of(weights), zero_like(weights)
        layer, located = _layer_in(weights, batch, scratch), locate(weights)
        run_unpacked_step(cell, located, layer, address_of(x), addresses_of(states), zero)

    return packed if isinstance(weights, PackedType) else plain


@Checked
@njit(**SERIAL)
def step(weights, x, state, scratch):
    """Advance one step, in place, without allocating.

    Parameters
    ----------
    weights : Plain or Packed
        Packed weights are faster.
    x : ndarray, shape (I,) or (B, I)
    state : tuple of ndarray, shape (H,) or (B, H)
        ``(h, c)``, or ``(h,)`` or ``h`` for a cell with one state; overwritten by the new state. All arrays
        of a call are C-contiguous and of the weights' dtype. `x` must not overlap a state.
    scratch : ndarray, 1-D
        `scratch_size(weights, 1, B)` numbers, used by one call at a time.

    Returns
    -------
    int
        In compiled code: 0, or a status, which `reason` explains; the state is NaN then.

    Raises
    ------
    ValueError
        From Python: a shape does not fit. Wrong dtypes are a `TypingError` while Numba compiles.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_numba as ln
    >>> weights = ln.kernels.plain(ln.LSTM(3, 4, seed=0))
    >>> h, c = np.zeros(4, np.float32), np.zeros(4, np.float32)
    >>> scratch = np.empty(ln.kernels.scratch_size(weights), np.float32)
    >>> ln.kernels.step(weights, np.ones(3, np.float32), (h, c), scratch)
    >>> bool((h != 0).all())
    True
    """
    states = as_states(state)
    status = call_status(weights, x, np.int64(1), states, scratch, False)
    if status == FITS:
        _advance(weights, x, states, batch_of(x, np.int64(1), layer_sizes(weights)[0]), scratch)
    else:
        spoil(states, zero_like(weights))
    return status


@njit(**INLINE)
def _output_fits(y, steps, batch, hidden):
    return y.shape[0] == steps and y.shape[-1] == hidden and y.size == steps * batch * hidden


@Checked
@njit(**SERIAL)
def sequence(weights, x, state, y, scratch):
    """Run a whole sequence, without allocating and without keeping anything for the backward pass.

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

    Returns
    -------
    int
        In compiled code: 0, or a status, as `step` returns it; state and y are NaN then.

    Raises
    ------
    ValueError
        From Python: a shape does not fit.
    """
    inputs, hidden = layer_sizes(weights)
    cell, zero, steps = cell_of(weights), zero_like(weights), x.shape[0]
    states = as_states(state)
    status = call_status(weights, x, steps, states, scratch, False)
    if status == FITS and not _output_fits(y, steps, batch_of(x, steps, inputs), hidden):
        status = Y
    if status == FITS:
        layer = packed_layer(weights, batch_of(x, steps, inputs), scratch, False)
        addresses = addresses_of(states)
        run_sequence(cell, layer, steps, address_of(x), addresses, address_of(y), zero)
    else:
        spoil(states, zero)
        spoil(y, zero)
    return status


@njit(**INLINE)
def sequence_on(tape, steps, x):
    """A sequence that is kept on the tape at an address."""
    return Sequence(steps, 0, 1, x, 0, tape, tape, steps + 1, 0, 0, 0, 1)


@njit(**INLINE)
def tape_fits(weights, x, steps, tape):
    """Whether a tape is long enough for a sequence."""
    zero = zero_like(weights)
    batch = batch_of(x, steps, layer_sizes(weights)[0])
    return reaches(tape, address_of(tape) + tape_bytes(weights, steps, batch), zero)


@njit(**INLINE)
def _record(weights, x, steps, states, tape, scratch, status):
    """Run a sequence and keep everything on a tape, unless something does not fit: the status."""
    cell, zero = cell_of(weights), zero_like(weights)
    if status == FITS and not tape_fits(weights, x, steps, tape):
        status = TAPE
    if status == FITS:
        layer = packed_layer(weights, batch_of(x, steps, layer_sizes(weights)[0]), scratch, False)
        kept = sequence_on(address_of(tape), steps, address_of(x))
        addresses = addresses_of(states)
        run_forward(cell, layer, kept, addresses, addresses, zero)
    else:
        spoil(states, zero)
        spoil(tape, zero)
    return status


@Checked
@njit(**SERIAL)
def step_forward(weights, x, state, tape, scratch):
    """Advance one step in place, as `step`, and keep on `tape` what `step_backward` needs.

    Parameters
    ----------
    weights, x, state, scratch
        As for `step`. Plain weights are packed into scratch first.
    tape : ndarray, 1-D
        `tape_size(weights, 1, B)` numbers.

    Returns
    -------
    int
        In compiled code: 0, or a status, as `step` returns it; state and tape are NaN then.

    Raises
    ------
    ValueError
        From Python: a shape does not fit.
    """
    states, steps = as_states(state), np.int64(1)
    status = call_status(weights, x, steps, states, scratch, False)
    return _record(weights, x, steps, states, tape, scratch, status)


@Checked
@njit(**SERIAL)
def sequence_forward(weights, x, state, y, tape, scratch):
    """Run a whole sequence, as `sequence`, and keep on `tape` what `sequence_backward` needs.

    Parameters
    ----------
    weights, x, state, y, scratch
        As for `sequence`.
    tape : ndarray, 1-D
        `tape_size(weights, T, B)` numbers.

    Returns
    -------
    int
        In compiled code: 0, or a status, as `step` returns it; state, y and tape are NaN then.

    Raises
    ------
    ValueError
        From Python: a shape does not fit.
    """
    (inputs, hidden), steps = layer_sizes(weights), x.shape[0]
    states, batch = as_states(state), batch_of(x, steps, inputs)
    status = call_status(weights, x, steps, states, scratch, False)
    if status == FITS and not _output_fits(y, steps, batch, hidden):
        status = Y
    status = _record(weights, x, steps, states, tape, scratch, status)
    if status == FITS:
        source, target = tape[batch * hidden : (steps + 1) * batch * hidden], y.reshape(-1)
        for k in range(target.size):
            target[k] = source[k]
    else:
        spoil(y, zero_like(weights))
    return status
