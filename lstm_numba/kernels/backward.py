"""One step, and a whole sequence, backward: for calls from compiled code, on the calling thread."""

from __future__ import annotations

import numpy as np
from numba import njit

from lstm_numba.engines.cpu.options import INLINE, SERIAL
from lstm_numba.engines.cpu.passes import run_backward
from lstm_numba.engines.cpu.records import GradientTargets, OutputGradient
from lstm_numba.kernels.forward import call_status, packed_layer, sequence_on, tape_fits
from lstm_numba.kernels.memory import address_of, addresses_of, as_states, batch_of
from lstm_numba.kernels.status import DX, DY, FITS, GRADS, TAPE, Checked, spoil
from lstm_numba.kernels.types import cell_of
from lstm_numba.kernels.weights import layer_sizes, locate, parameters_status, zero_like


@njit(**INLINE)
def _back_status(weights, x, steps, tape, dstates, dx, grads, scratch):
    """Status of the arguments of a backward pass but `dy`."""
    inputs, hidden = layer_sizes(weights)
    status = call_status(weights, x, steps, dstates, scratch, True)
    if status == FITS:
        status = parameters_status(cell_of(weights), grads)
    if status != FITS:
        return status
    if grads.weight_ih.shape[1] != inputs or grads.weight_hh.shape[1] != hidden:
        return GRADS
    if dx.size != x.size or dx.shape[-1] != inputs:
        return DX
    return FITS if tape_fits(weights, x, steps, tape) else TAPE


@njit(**INLINE)
def _retrace(weights, x, steps, tape, dy, dstates, dx, grads, scratch, status):
    """The backward pass over a tape, unless something does not fit: the status; `dy` is an address, or 0."""
    (inputs, hidden), cell, zero = layer_sizes(weights), cell_of(weights), zero_like(weights)
    if status == FITS:
        layer = packed_layer(weights, batch_of(x, steps, inputs), scratch, True)
        addresses = addresses_of(dstates)
        kept = sequence_on(address_of(tape), steps, address_of(x))
        output_gradient = OutputGradient(dy, hidden if dy != 0 else 0)
        targets = GradientTargets(address_of(dx), inputs, locate(grads), np.int64(1))
        run_backward(cell, layer, kept, output_gradient, addresses, addresses, targets, zero)
    else:
        spoil(dstates, zero)
        spoil(dx, zero)
        spoil((grads.weight_ih, grads.weight_hh), zero)
        spoil((grads.bias_ih, grads.bias_hh, grads.weight_ph), zero)
    return status


@Checked
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

    Returns
    -------
    int
        In compiled code: 0, or a status, as `step` returns it; dstate, dx and grads are NaN then.

    Raises
    ------
    ValueError
        From Python: a shape does not fit.
    """
    steps, dstates = np.int64(1), as_states(dstate)
    status = _back_status(weights, x, steps, tape, dstates, dx, grads, scratch)
    return _retrace(weights, x, steps, tape, np.int64(0), dstates, dx, grads, scratch, status)


@Checked
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

    Returns
    -------
    int
        In compiled code: 0, or a status, as `step` returns it; dstate, dx and grads are NaN then.

    Raises
    ------
    ValueError
        From Python: a shape does not fit.
    """
    hidden, steps = layer_sizes(weights)[1], x.shape[0]
    dstates, dy_address = as_states(dstate), address_of(dy)
    status = _back_status(weights, x, steps, tape, dstates, dx, grads, scratch)
    if dy.shape[0] != steps or dy.shape[-1] != hidden or dy.size * x.shape[-1] != x.size * hidden:
        status = DY
    return _retrace(weights, x, steps, tape, dy_address, dstates, dx, grads, scratch, status)
