"""The caller's arrays: checks, and their addresses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.core import errors, types
from numba.extending import overload

from lstm_numba.engines.cpu.offsets import number_bytes
from lstm_numba.engines.cpu.options import INLINE
from lstm_numba.engines.cpu.specialize import state_count
from lstm_numba.engines.cpu.vector import pointer_address

# The functions without a body below exist for their overloads.


def address_of(array: Any, zero: Any) -> Any:
    """Address of an array's first number; while compiling, refuses what the kernels would misread."""
    raise NotImplementedError


@overload(address_of, INLINE)
def _(array, zero):
    if not isinstance(array, types.Array) or array.dtype != zero or array.layout != "C":
        raise errors.TypingError(
            f"expected a C-contiguous array of the weights' dtype, {zero}, got {array}; "
            "numpy.ascontiguousarray(array, dtype) makes one"
        )
    return lambda array, zero: np.int64(array.ctypes.data)


def writable_address(array: Any, zero: Any) -> Any:
    """The same of an array that is written to: NumPy's flag does not hold off a kernel."""
    raise NotImplementedError


@overload(writable_address, INLINE)
def _(array, zero):
    if isinstance(array, types.Array) and not array.mutable:
        raise errors.TypingError(f"expected an array that may be written to, got {array}")
    return lambda array, zero: address_of(array, zero)


def target_address(memory: Any, zero: Any) -> Any:
    """Address of an array, or that in a C pointer."""
    raise NotImplementedError


@overload(target_address, INLINE)
def _(memory, zero):
    if isinstance(memory, types.Array):
        return lambda memory, zero: address_of(memory, zero)
    return lambda memory, zero: pointer_address(memory)


def addresses_of(states: Any, zero: Any) -> Any:
    """Addresses of some arrays that are written to, as a tuple."""
    raise NotImplementedError


@overload(addresses_of, INLINE)
def _(states, zero):
    if len(states) == 1:
        return lambda states, zero: (writable_address(states[0], zero),)
    return lambda states, zero: (writable_address(states[0], zero), *addresses_of(states[1:], zero))


def as_states(cell: Any, state: Any) -> Any:
    """States as a tuple: the array of a cell with one state may come alone."""
    raise NotImplementedError


@overload(as_states, INLINE)
def _(cell, state):
    names = cell.instance_class.states
    arrays = (state,) if isinstance(state, types.Array) else state
    if not isinstance(arrays, (tuple, types.UniTuple)) or len(arrays) != len(names):
        raise errors.TypingError(
            f"state: expected a tuple of {len(names)} arrays of one type ({', '.join(names)}), got {state}"
        )
    if isinstance(state, types.Array):
        return lambda cell, state: (state,)
    return lambda cell, state: state


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
    return end <= address_of(array, zero) + array.size * number_bytes(zero)
