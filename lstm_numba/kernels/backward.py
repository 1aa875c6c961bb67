"""One step, and a whole sequence, backward: for calls from compiled code, on the calling thread."""

from __future__ import annotations

import numpy as np
from numba import njit

from lstm_numba.cpu.options import INLINE, SERIAL
from lstm_numba.cpu.passes import Incoming, Outgoing, run_backward
from lstm_numba.kernels.forward import packed_layer, sequence_on, tape_bytes
from lstm_numba.kernels.memory import (
    address_of,
    addresses_of,
    as_states,
    batch_of,
    check_states,
    reaches,
    writable_address,
)
from lstm_numba.kernels.types import cell_of
from lstm_numba.kernels.weights import check_parameters, layer_sizes, locate, zero_like


@njit(**INLINE)
def _retrace(weights, x, steps, tape, dy, dstates, dx, grads, scratch):
    """The way back over a tape; `dy` is an address, or 0 for none."""
    inputs, hidden = layer_sizes(weights)
    cell, zero, start = cell_of(weights), zero_like(weights), writable_address(tape, zero_like(weights))
    batch = batch_of(x, steps, inputs)
    check_states(cell, dstates, batch, hidden)
    check_parameters(cell, grads)
    if grads.weight_ih.shape[1] != inputs or grads.weight_hh.shape[1] != hidden:
        raise ValueError("grads: expected Parameters of the weights' shapes")
    if dx.size != x.size or dx.shape[-1] != inputs:
        raise ValueError("dx: expected the shape of x")
    if not reaches(tape, start + tape_bytes(weights, steps, batch), zero):
        raise ValueError("tape: expected the tape of the forward pass")
    layer = packed_layer(weights, steps, batch, scratch, True)
    places, kept = addresses_of(dstates, zero), sequence_on(start, steps, address_of(x, zero))
    incoming = Incoming(dy, hidden if dy != 0 else 0)
    outgoing = Outgoing(writable_address(dx, zero), inputs, locate(grads, zero), np.int64(1))
    run_backward(cell, layer, kept, incoming, places, places, outgoing, zero)


@njit(**SERIAL)
def step_backward(weights, x, tape, dstate, dx, grads, scratch):
    """Back-propagate through one step.

    Parameters
    ----------
    weights : Plain or Packed
        With the parameters of the forward pass, unchanged since; plain weights are packed into scratch first.
    x : ndarray, shape (I,) or (B, I)
        The step's input, unchanged since the forward pass: the tape does not hold it.
    tape : ndarray, 1-D
        From `step_forward`; is used up.
    dstate : tuple of ndarray, shape (H,) or (B, H)
        Gradient of the loss with respect to the state after the step, in the state's form; overwritten by
        that with respect to the state before it.
    dx : ndarray, shape of x
        Overwritten by the gradient with respect to x; must not overlap it.
    grads : Parameters
        The gradients of the parameters are added to these; no overlap with anything else.
    scratch : ndarray, 1-D
        `scratch_size(weights, 1, B, True)` numbers, used by one call at a time.

    Raises
    ------
    ValueError
        A shape does not fit.
    """
    _retrace(
        weights, x, np.int64(1), tape, np.int64(0), as_states(cell_of(weights), dstate), dx, grads, scratch
    )


@njit(**SERIAL)
def sequence_backward(weights, x, tape, dy, dstate, dx, grads, scratch):
    """Back-propagate through a whole sequence.

    Parameters
    ----------
    weights : Plain or Packed
        With the parameters of the forward pass, unchanged since; plain weights are packed into scratch first.
    x : ndarray, shape (T, I) or (T, B, I)
        The input, unchanged since the forward pass: the tape does not hold it.
    tape : ndarray, 1-D
        From `sequence_forward`; is used up.
    dy : ndarray, shape (T, H) or (T, B, H)
        Gradient of the loss with respect to y.
    dstate : tuple of ndarray, shape (H,) or (B, H)
        Gradient with respect to the final state, in the state's form; overwritten by that with respect to the
        initial one.
    dx : ndarray, shape of x
        Overwritten by the gradient with respect to x; must not overlap it.
    grads : Parameters
        The gradients of the parameters are added to these; no overlap with anything else.
    scratch : ndarray, 1-D
        `scratch_size(weights, T, B, True)` numbers, used by one call at a time.

    Raises
    ------
    ValueError
        A shape does not fit.
    """
    hidden, steps = layer_sizes(weights)[1], x.shape[0]
    if dy.shape[0] != steps or dy.shape[-1] != hidden or dy.size * x.shape[-1] != x.size * hidden:
        raise ValueError("dy: expected the shape of y")
    dy_address = address_of(dy, zero_like(weights))
    _retrace(weights, x, steps, tape, dy_address, as_states(cell_of(weights), dstate), dx, grads, scratch)
