"""Offsets, in bytes, into the memory of a sequence.

Compiled code is given addresses of whole pieces of memory. What a forward pass saves for the backward pass,
and what the kernels work on meanwhile, have their offsets in such a piece.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic, overload

from lstm_numba.engines.cpu.blocking import blocking
from lstm_numba.engines.cpu.cpu_features import lanes
from lstm_numba.engines.cpu.gemm import operand_numbers, workspace_numbers
from lstm_numba.engines.cpu.layout import Sizes
from lstm_numba.engines.cpu.memory import ALIGNMENT
from lstm_numba.engines.cpu.options import INLINE
from lstm_numba.engines.cpu.rounds import rounds_numbers
from lstm_numba.engines.cpu.specialize import (
    dreused_count,
    input_count,
    mean_count,
    peephole_count,
    prepared_count,
    recurrent_count,
    reused_count,
    slot_count,
    stage_count,
    state_count,
)

#: Numbers of int64 of a `PackingJob` or a `ProductJob`, with all that is behind it.
DESCRIPTOR_SIZE = 512


# The functions without a body exist for their overloads.


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


@intrinsic
def state_addresses(typingctx: Any, cell: Any, first: Any, second: Any, stride: Any) -> Any:
    """Addresses of a cell's states: the first, and the others, `stride` bytes from one to the next."""
    count = len(cell.instance_class.states)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        steps = [builder.mul(args[3], ir.Constant(ir.IntType(64), n)) for n in range(count - 1)]
        addresses = [args[1], *(builder.add(args[2], step) for step in steps)]
        return context.make_tuple(builder, sig.return_type, addresses)

    return types.UniTuple(types.int64, count)(cell, *[types.int64] * 3), codegen


def _reader(count_of: Callable[[Any], int]) -> Any:
    """Make ``read(cell, numbers, begin)``: ``count_of(cell class)`` of some numbers as a tuple."""

    @intrinsic
    def read(typingctx: Any, cell: Any, numbers: Any, begin: Any) -> Any:
        count = count_of(cell.instance_class)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            addresses = [builder.add(args[2], ir.Constant(ir.IntType(64), n)) for n in range(count)]
            values = [builder.load(builder.gep(args[1], [place])) for place in addresses]
            return context.make_tuple(builder, sig.return_type, values)

        return types.UniTuple(types.int64, count)(cell, numbers, types.int64), codegen

    return read


#: Addresses of the states; and what `lstm_numba.engines.cpu.records.Sequence.extras` leads to.
addresses_at = _reader(lambda cell: len(cell.states))
extras_at = _reader(lambda cell: 4 * len(cell.extras))


@njit(**INLINE)
def whole_vectors(count, lane):
    """A count rounded up to whole vectors."""
    return -(-count // lane) * lane


@njit(**INLINE)
def aligned(address):
    """The first cache line from an address on."""
    return -(-address // ALIGNMENT) * ALIGNMENT


@njit(**INLINE)
def _after(numbers, zero):
    """Bytes from a region of so many numbers like `zero` to the next."""
    return aligned(numbers * number_bytes(zero))


@njit(**INLINE)
def sequence_sizes(cell, layer, sequence, zero):
    """The engine's sizes for a layer and a sequence."""
    lane, size = lane_count(zero), number_bytes(zero)
    steps, batch, hidden, output = sequence.steps, layer.batch, layer.hidden, layer.output
    padded = whole_vectors(hidden, lane)
    row = slot_count(cell) * padded
    numbers = batch * hidden
    block, chunks = sequence.block, sequence.chunks
    if block == 0:
        weights = (recurrent_count(cell) * hidden + input_count(cell) * layer.inputs) * hidden * size
        block, chunks = blocking(steps, batch, weights, row * size, 1, sequence.keep != 0)
    depth, cell_step, entries, prepared = block, 0, 1, 2
    if sequence.keep != 0:
        depth, cell_step, entries, prepared = steps, numbers, steps + 1, steps
    return Sizes(
        steps, batch, layer.inputs, hidden, output, padded, lane, sequence.reverse, chunks, block, depth,
        batch * row, numbers if stage_count(cell) > 1 else 0, cell_step, entries * numbers, prepared,
        prepared_count(cell) * batch * output, batch * mean_count(cell) if sequence.keep != 0 else 0,
    )  # fmt: skip


class SavedOffsets(NamedTuple):
    """Offsets into a tape or scratch of what the forward kernels write."""

    cell_states: int
    slots: int
    operand: int
    prepared: int
    means: int
    partial: int
    reused: int
    rounds: int
    end: int


@njit(**INLINE)
def saved_offsets(cell, sizes, sequence, zero):
    """After entries of h: other states' histories, slots and operands of some steps, the threads' rounds."""
    cell_states = _after(sequence.entries * sizes.batch * sizes.output, zero)
    slots = cell_states + _after((state_count(cell) - 1) * sizes.cell_stride, zero)
    operand = slots + _after(sizes.depth * sizes.slot_step, zero)
    prepared = operand + _after(sizes.depth * sizes.operand_step, zero)
    means = prepared + _after(sizes.prepared_depth * sizes.prepared_step, zero)
    rows = sizes.batch * mean_count(cell)
    partial = means + _after(max(rows, sizes.steps * sizes.means_step), zero)
    reused = partial + _after(sequence.unit_parts * rows * sizes.lanes, zero)
    rounds = reused + _after(reused_count(cell) * sizes.batch * sizes.padded, zero)
    end = rounds + 8 * rounds_numbers(sequence.unit_parts)
    return SavedOffsets(cell_states, slots, operand, prepared, means, partial, reused, rounds, end)


class BackwardOffsets(NamedTuple):
    """Offsets into scratch of what the backward pass works on."""

    descriptor: int
    carried: int
    zeros: int
    doperand: int
    dprepared: int
    dmeans: int
    partial: int
    reused: int
    sums: int
    dx: int
    workspace: int
    share: int  # of the workspace, a thread's
    end: int


@njit(**INLINE)
def backward_offsets(cell, sizes, team, zero):
    """Carried gradients, a row of zeros, sums for biases and peepholes, padded dx, and what products need.

    Each of a `lstm_numba.engines.cpu.passes.Team` has sums, and each of its workers a workspace, of its own.
    """
    rows, inner = sizes.batch * sizes.padded, sizes.steps * sizes.batch
    carried = aligned(8 * DESCRIPTOR_SIZE)
    zeros = carried + _after(state_count(cell) * rows, zero)
    doperand = zeros + _after(sizes.padded, zero)
    dprepared = doperand + _after(rows, zero)
    dmeans = dprepared + _after(prepared_count(cell) * rows, zero)
    partial = dmeans + _after(sizes.batch * mean_count(cell), zero)
    reused = partial + _after(team.parts * sizes.batch * mean_count(cell) * sizes.lanes, zero)
    sums = reused + _after(dreused_count(cell) * rows, zero)
    dx = sums + _after(team.parts * (slot_count(cell) + peephole_count(cell)) * sizes.padded, zero)
    workspace = dx + _after(inner * whole_vectors(sizes.inputs, sizes.lanes), zero)
    numbers = workspace_numbers(inner, sizes.lanes) + operand_numbers(inner, sizes.inputs, sizes.lanes)
    numbers += stage_count(cell) * operand_numbers(inner, sizes.hidden, sizes.lanes)
    share = _after(numbers, zero)
    return BackwardOffsets(
        0,
        carried,
        zeros,
        doperand,
        dprepared,
        dmeans,
        partial,
        reused,
        sums,
        dx,
        workspace,
        share,
        workspace + team.workers * share,
    )
