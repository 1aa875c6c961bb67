"""The caller's arrays: checks, and their addresses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.extending import overload

from lstm_numba.engines.cpu.offsets import number_bytes
from lstm_numba.engines.cpu.options import INLINE
from lstm_numba.engines.cpu.specialize import state_count
from lstm_numba.engines.cpu.vector import pointer_address

# What does not fit is refused before: see `lstm_numba.kernels.argument_types`.


@njit(**INLINE)
def address_of(array):
    """Address of an array's first number."""
    return np.int64(array.ctypes.data)


# The functions without a body below exist for their overloads.


def target_address(memory: Any) -> Any:
    """Address of an array, that in a C pointer, or one that is known."""
    raise NotImplementedError


@overload(target_address, INLINE)
def _(memory):
    if isinstance(memory, types.Array):
        return lambda memory: address_of(memory)
    if isinstance(memory, types.Integer):
        return lambda memory: np.int64(memory)
    return lambda memory: pointer_address(memory)


def addresses_of(states: Any) -> Any:
    """Addresses of some arrays, as a tuple."""
    raise NotImplementedError


@overload(addresses_of, INLINE)
def _(states):
    if len(states) == 1:
        return lambda states: (address_of(states[0]),)
    return lambda states: (address_of(states[0]), *addresses_of(states[1:]))


def as_states(state: Any) -> Any:
    """States as a tuple: the array of a cell with one state may come alone."""
    raise NotImplementedError


@overload(as_states, INLINE)
def _(state):
    if isinstance(state, types.Array):
        return lambda state: (state,)
    return lambda state: state


# Checks, which the functions that users call share.


@njit(**INLINE)
def batch_of(x, steps, inputs):
    """B of an input of (T, B, I), (B, I), (T, I) or (I,); 0 where it is none."""
    if x.shape[-1] != inputs or x.size < 1:
        return np.int64(0)
    return x.size // (steps * inputs)


@njit(**INLINE)
def states_fit(cell, states, batch, hidden):
    """Whether all states have the shape (B, H), or (H,) without a batch."""
    fit = True
    for n in range(state_count(cell)):
        fit = fit and states[n].shape[-1] == hidden and states[n].size == batch * hidden
    return fit


@njit(**INLINE)
def reaches(array, end, zero):
    """Whether an array reaches as far as the end, an address, of what is to be put there."""
    return end <= address_of(array) + array.size * number_bytes(zero)
