"""The caller's memory: checks of arrays, and where in scratch and tape everything lies.

The engine knows arrays by their addresses. Scratch is memory that means nothing between calls; a tape is what
a forward pass leaves for the way back. Both are one-dimensional arrays that the caller makes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import errors, types
from numba.extending import intrinsic, overload

from lstm_numba.cpu.arrays import ALIGNMENT
from lstm_numba.cpu.dispatch import input_count, peephole_count, slot_count, stage_count, state_count
from lstm_numba.cpu.gemm import operand_numbers, workspace_numbers
from lstm_numba.cpu.layout import Sizes
from lstm_numba.cpu.options import INLINE
from lstm_numba.cpu.sequence import CACHE_BYTES, CHUNK_ROWS, MIN_ROWS
from lstm_numba.cpu.target import lanes

#: Numbers of int64 in which packing and products write down what they are to do.
NOTES = 512


class Layer(NamedTuple):
    """What the functions on addresses must know of a layer.

    Attributes
    ----------
    batch, inputs, hidden : int
        B, I and H.
    weights : int
        Where the packed weights begin.
    tiles : int
        Where the addresses of the compiled products stand.
    scratch : int
        Where scratch begins.
    """

    batch: int
    inputs: int
    hidden: int
    weights: int
    tiles: int
    scratch: int


# The functions without a body below exist for their overloads.


def lane_count(zero: Any) -> Any:
    """Numbers like `zero` in a vector register."""
    raise NotImplementedError


@overload(lane_count, INLINE)
def _(zero):
    count = lanes(zero.name)
    return lambda zero: count


def number_bytes(zero: Any) -> Any:
    """Bytes of a number like `zero`."""
    raise NotImplementedError


@overload(number_bytes, INLINE)
def _(zero):
    size = zero.bitwidth // 8
    return lambda zero: size


def recurrent_gates(cell: Any) -> Any:
    """Slots that recurrent products feed."""
    raise NotImplementedError


@overload(recurrent_gates, INLINE)
def _(cell):
    count = sum(len(stage.gates) for stage in cell.instance_class.stages)
    return lambda cell: count


def address_of(array: Any, zero: Any) -> Any:
    """Where an array's first number lies; refuses, while compiling, what the kernels would misread."""
    raise NotImplementedError


@overload(address_of, INLINE)
def _(array, zero):
    if not isinstance(array, types.Array) or array.dtype != zero or array.layout != "C":
        raise errors.TypingError(
            f"expected a C-contiguous array of the weights' dtype, {zero}, got {array}; "
            "numpy.ascontiguousarray(array, dtype) makes one"
        )
    return lambda array, zero: np.int64(array.ctypes.data)


def addresses_of(states: Any, zero: Any) -> Any:
    """Addresses of some arrays, as a tuple."""
    raise NotImplementedError


@overload(addresses_of, INLINE)
def _(states, zero):
    if len(states) == 1:
        return lambda states, zero: (address_of(states[0], zero),)
    return lambda states, zero: (address_of(states[0], zero), *addresses_of(states[1:], zero))


@intrinsic
def places_apart(typingctx: Any, cell: Any, address: Any, apart: Any) -> Any:
    """Addresses of a cell's states, `apart` bytes from one to the next, as a tuple."""
    count = len(cell.instance_class.states)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        places = [
            builder.add(args[1], builder.mul(args[2], ir.Constant(ir.IntType(64), n))) for n in range(count)
        ]
        return context.make_tuple(builder, sig.return_type, places)

    return types.UniTuple(types.int64, count)(cell, types.int64, types.int64), codegen


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


@intrinsic
def pointer_address(typingctx: Any, pointer: Any) -> Any:
    """A C pointer as an integer."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ptrtoint(args[0], ir.IntType(64))

    return types.int64(pointer), codegen


def place_of(memory: Any, zero: Any) -> Any:
    """Where an array or a C pointer leads to."""
    raise NotImplementedError


@overload(place_of, INLINE)
def _(memory, zero):
    if isinstance(memory, types.Array):
        return lambda memory, zero: address_of(memory, zero)
    return lambda memory, zero: pointer_address(memory)


@njit(**INLINE)
def whole_vectors(count, lane):
    """A count rounded up to whole vectors."""
    return -(-count // lane) * lane


@njit(**INLINE)
def aligned(address):
    """The first cache line from an address on."""
    return -(-address // ALIGNMENT) * ALIGNMENT


@njit(**INLINE)
def _after(place, numbers, zero):
    """Where the next region begins after one of so many numbers like `zero`."""
    return aligned(place + numbers * number_bytes(zero))


@njit(**INLINE)
def sequence_sizes(cell, steps, batch, inputs, hidden, zero, keep):
    """The engine's sizes for a sequence on one thread, forwards in time.

    The products with the input go ahead of the recurrence by a block of steps, unless all weights fit the
    cache.
    """
    lane, size = lane_count(zero), number_bytes(zero)
    padded = whole_vectors(hidden, lane)
    row = slot_count(cell) * padded
    numbers = batch * hidden
    weights = (recurrent_gates(cell) * hidden + input_count(cell) * inputs) * hidden * size
    block = max(2, min(steps, 2 * CACHE_BYTES // (batch * row * size)))
    if steps == 1 or (weights <= CACHE_BYTES // 2 and batch >= MIN_ROWS):
        block = 1
    return Sizes(
        steps, batch, inputs, hidden, padded, lane, 0,
        max(1, min(4 * batch * row * size // CACHE_BYTES, batch // CHUNK_ROWS)),
        block, steps if keep else block, batch * row, numbers if stage_count(cell) > 1 else 0,
        numbers if keep else 0, (steps + 1) * numbers if keep else numbers,
    )  # fmt: skip


class Kept(NamedTuple):
    """Where, in bytes from its beginning, a tape or scratch holds what the forward kernels write."""

    h: int
    memory: int
    slots: int
    message: int
    end: int


@njit(**INLINE)
def kept_places(cell, sizes, entries, zero):
    """Histories of so many entries of h, and slots and messages of `sizes.depth` steps."""
    memory = _after(0, entries * sizes.batch * sizes.hidden, zero)
    slots = _after(memory, (state_count(cell) - 1) * sizes.memory_state, zero)
    message = _after(slots, sizes.depth * sizes.slot_step, zero)
    return Kept(0, memory, slots, message, _after(message, sizes.depth * sizes.message_step, zero))


class Back(NamedTuple):
    """Where, in bytes from its beginning, scratch holds what the way back works on."""

    notes: int
    carried: int
    zeros: int
    dmessage: int
    sums: int
    dx: int
    workspace: int
    end: int


@njit(**INLINE)
def back_places(cell, sizes, zero):
    """Carried gradients, a row of zeros, sums for biases and peepholes, padded dx, and what products need."""
    rows, inner = sizes.batch * sizes.padded, sizes.steps * sizes.batch
    carried = aligned(8 * NOTES)
    zeros = _after(carried, state_count(cell) * rows, zero)
    dmessage = _after(zeros, sizes.padded, zero)
    sums = _after(dmessage, rows, zero)
    dx = _after(sums, (slot_count(cell) + peephole_count(cell)) * sizes.padded, zero)
    workspace = _after(dx, inner * whole_vectors(sizes.inputs, sizes.lanes), zero)
    numbers = workspace_numbers(inner, sizes.lanes) + operand_numbers(inner, sizes.inputs, sizes.lanes)
    numbers += stage_count(cell) * operand_numbers(inner, sizes.hidden, sizes.lanes)
    return Back(0, carried, zeros, dmessage, sums, dx, workspace, _after(workspace, numbers, zero))


# Checks, which the functions that users call share. Messages are constants: compiled code cannot compose
# text.


@njit(**INLINE)
def batch_of(x, steps, inputs):
    """B of an input of (T, B, I), (B, I), (T, I) or (I,)."""
    if x.shape[-1] != inputs or x.size < 1:
        raise ValueError(
            "x: expected shape (T, B, I) or (T, I), of a step (B, I) or (I,), with the weights' I"
        )
    return x.size // (steps * inputs)


@njit(**INLINE)
def check_states(cell, states, batch, hidden):
    """Raise `ValueError` where a state has not the shape (B, H), or (H,) without a batch."""
    for n in range(state_count(cell)):
        if states[n].shape[-1] != hidden or states[n].size != batch * hidden:
            raise ValueError("state: expected shape (B, H) each, or (H,) without a batch")


@njit(**INLINE)
def reaches(array, end, zero):
    """Whether an array reaches as far as the end, an address, of what is to be put there."""
    return end <= address_of(array, zero) + array.size * number_bytes(zero)
