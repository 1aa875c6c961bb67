"""The arrays of one sequence through one layer, how kernels address them, and how blocks share the work.

Arrays are flat. A tile is a few rows of the batch times one hidden unit for each thread along x; a block has
several rows of threads, and each computes one part of a product's depth. Blocks along x of the grid share the
hidden units, blocks along y the rows of the batch: the blocks of one row of the grid wait for each other.
Blocks along z have a model each where there are many.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lstm_numba.engines.cuda.driver import cuda, intrinsic, ir, make_signature, overload, types
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.options import DEVICE
from lstm_numba.engines.cuda.scalar import assembly, indexer, load_each, store_each, store_scalars
from lstm_numba.engines.cuda.specialize import (
    feeds_projected,
    is_projected,
    load_cell_states,
    load_extras,
    load_means,
    load_peephole,
    load_scalar,
    reads_projected,
    slot_count,
    tile_rows,
    zero_scalar,
)


class Sizes(NamedTuple):
    """Sizes of one sequence and layer, and strides and offsets in its arrays.

    Attributes
    ----------
    steps, batch, hidden : int
    output : int
        Units of h: `hidden`, or fewer where it is projected.
    reverse : int
        1 where time runs backwards.
    cell_step : int
        Stride from one step's cell states to the next one's; 0 where only the last are kept.
    cell_stride : int
        Stride from one cell state to the next.
    unit_tiles, row_tiles : int
        Tiles along the hidden units and along the batch.
    part_depth, output_part : int
        Depth of one part of a product of depth `hidden`, and of depth `output`; given, because a GPU divides
        slowly.
    state_offset, output_offset : int
        Offset of this layer's and direction's states in the stacked ones, and of h.
    dy_row, dy_offset : int
        Stride from one row of the output's gradient to the next, and offset of the first.
    """

    steps: Any
    batch: Any
    hidden: Any
    output: Any
    reverse: Any
    cell_step: Any
    cell_stride: Any
    unit_tiles: Any
    row_tiles: Any
    part_depth: Any
    output_part: Any
    state_offset: Any
    output_offset: Any
    dy_row: Any = 0
    dy_offset: Any = 0


class Arrays(NamedTuple):
    """What the forward pass reads and writes; flat device arrays. P units of h, as many as H or fewer.

    Attributes
    ----------
    slots : (T * B * S * H,)
        Products with the input weights, where a slot has one; afterwards what is saved for backward.
    h : ((T + 1) * B * P,)
        All values of h, the initial one first; in reverse last.
    cell_states : (states - 1, T + 1 or 1, B, H)
        The other states, likewise.
    operand : (T * B * H or 0,)
        Operands of the second recurrent product.
    weights : tuple of flat arrays
        ``weight_hh`` transposed, (P * G * H,), and likewise the second stage's weights where it has its own:
        the first is the first stage's, the last that of the second.
    peephole : (vectors * H,)
    lengths : (B,), int64
    bias_ih, bias_hh : (G * H,), or (0,) where there are none
    initial, final : tuples of (layers * directions * B * H,), of P units for the first
        Stacked states; initial ones of size 0 stand for zeros.
    counters : int32
        Of the barriers between blocks; zero before and after.
    prepared : tuple of (T * B * P,)
        Operands of the first recurrent product, in the order of time, of a cell that prepares them.
    extras : tuple of arrays
        Of `lstm_numba.cells.protocol.Cell.extras`.
    extra_strides : tuple of (int, int, int)
        Their strides from step to step and from row to row, 0 where all have the same value, and their units.
    means : tuple of flat arrays
        Of a cell with M means over a row's units: those of all steps, (T * B * M,), the sums that they are
        made of, (B * M * unit_tiles,), and what equations of a step hand on to others, (B * numbers * H,).
    """

    slots: Any
    h: Any
    cell_states: Any
    operand: Any
    weights: Any
    peephole: Any
    lengths: Any
    bias_ih: Any
    bias_hh: Any
    initial: Any
    final: Any
    counters: Any
    prepared: Any = ()
    extras: Any = ()
    extra_strides: Any = ()
    means: Any = ()


class Gradients(NamedTuple):
    """What the backward pass reads and writes in addition; flat device arrays.

    Attributes
    ----------
    dy : (T * B, dy_row), or (0,) for zeros
    dstates : (states * B * H,)
        Gradients of the states, from the final to the initial ones; of h zero beyond its units.
    dpeephole : (vectors * B * H,)
        Sums over time.
    weights : tuple of flat arrays
        Likewise, not transposed.
    final, initial : tuples of (layers * directions * B * H,), of P units for the first
        Stacked gradients of the final states, of size 0 for zeros; and of the initial ones, to be written.
    dmeans : tuple of flat arrays
        Gradients of the means of a step, (B * M,), and what equations of a step hand on to others.
    """

    dy: Any
    dstates: Any
    dpeephole: Any
    weights: Any
    final: Any
    initial: Any
    dmeans: Any = ()


# -- the barrier between steps -------------------------------------------------------------------------


class SingleBlock(NamedTuple):
    """A block computes all hidden units of its rows: its own barrier is enough."""


class BlockOfModel(NamedTuple):
    """The same of many models, each of which has blocks of its own, along z of the grid."""


class CooperativeGrid(NamedTuple):
    """The blocks of a row of the grid share the hidden units, and wait for each other."""


#: Stride from the counters of one row of the grid to the next row's: a cache line.
COUNTER_STRIDE = 32


@intrinsic
def _emit_arrive(typingctx: Any, counters: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = builder.ptrtoint(indexer(context, builder, sig.args[0], args[0])(args[1]), ir.IntType(64))
        assembly(builder, ir.VoidType(), "red.release.gpu.global.add.u32 [$0], 1;", "l,~{memory}", address)
        return context.get_dummy_value()

    return make_signature(types.void, counters, types.int64), codegen


@intrinsic
def _emit_arrivals(typingctx: Any, counters: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = builder.ptrtoint(indexer(context, builder, sig.args[0], args[0])(args[1]), ir.IntType(64))
        text = "ld.acquire.gpu.global.u32 $0, [$1];"
        return assembly(builder, ir.IntType(32), text, "=r,l,~{memory}", address)

    return make_signature(types.int32, counters, types.int64), codegen


def _arrive(counters: Any, index: Any) -> None:
    """Count one arrival, with release semantics."""
    cuda.atomic.add(counters, index, 1)


def _arrivals(counters: Any, index: Any) -> Any:
    """Arrivals so far, with acquire semantics."""
    cuda.nanosleep(0)  # lets the simulator switch to another thread
    return counters[index]


@overload(_arrive)
def _(counters, index):
    return lambda counters, index: _emit_arrive(counters, index)


@overload(_arrivals)
def _(counters, index):
    return lambda counters, index: _emit_arrivals(counters, index)


@cuda.jit(**DEVICE)
def _wait_block(counters, count):
    cuda.syncthreads()


@cuda.jit(**DEVICE)
def _wait_grid(counters, count):
    cuda.syncthreads()
    if cuda.threadIdx.x == 0 and cuda.threadIdx.y == 0:
        index = cuda.blockIdx.y * COUNTER_STRIDE
        _arrive(counters, index)
        while _arrivals(counters, index) < count * cuda.gridDim.x:
            pass
    cuda.syncthreads()


@cuda.jit(**DEVICE)
def _leave_block(counters):
    pass


@cuda.jit(**DEVICE)
def _leave_grid(counters):
    if cuda.threadIdx.x == 0 and cuda.threadIdx.y == 0:
        index = cuda.blockIdx.y * COUNTER_STRIDE
        if cuda.atomic.add(counters, index + 1, 1) == cuda.gridDim.x - 1:
            counters[index] = 0
            counters[index + 1] = 0


def _wait(mode: Any) -> Any:
    return _wait_grid if mode is CooperativeGrid else _wait_block


def _leave(mode: Any) -> Any:
    return _leave_grid if mode is CooperativeGrid else _leave_block


def barrier_wait(mode: Any, counters: Any, count: Any) -> None:
    """Wait for all threads that compute the same rows; afterwards what they wrote before can be read.

    This is barrier number `count` of the launch, from 1 on.
    """
    _wait(type(mode))(counters, count)


def barrier_leave(mode: Any, counters: Any) -> None:
    """After the last barrier of a launch: the last block resets the counters to zero."""
    _leave(type(mode))(counters)


@overload(barrier_wait)
def _(mode, counters, count):
    wait = _wait(mode.instance_class)
    return lambda mode, counters, count: wait(counters, count)


@overload(barrier_leave)
def _(mode, counters):
    leave = _leave(mode.instance_class)
    return lambda mode, counters: leave(counters)


# -- addresses -----------------------------------------------------------------------------------------


def for_each_unit(action: Any) -> Any:
    """Make a device function that runs an action for each row and unit of this thread's tiles.

    Parameters
    ----------
    action : device function
        Called as ``action(cell, sizes, arrays, row, unit)``.

    Returns
    -------
    device function
        Called by all threads as ``function(cell, tile, sizes, arrays)``.
    """

    @cuda.jit(**DEVICE)
    def run(cell, tile, sizes, arrays):
        height = tile_rows(tile)
        for unit_tile in stride_range(cuda.blockIdx.x, sizes.unit_tiles, cuda.gridDim.x):
            unit = unit_tile * cuda.blockDim.x + cuda.threadIdx.x
            for row_tile in stride_range(cuda.blockIdx.y, sizes.row_tiles, cuda.gridDim.y):
                for r in stride_range(cuda.threadIdx.y, height, cuda.blockDim.y):
                    row = row_tile * height + r
                    if unit < sizes.hidden and row < sizes.batch:
                        action(cell, sizes, arrays, row, unit)

    return run


@cuda.jit(**DEVICE)
def time_of(sizes, step):
    """The time that a step of the forward pass is at."""
    return sizes.steps - 1 - step if sizes.reverse else step


@cuda.jit(**DEVICE)
def neighbours(sizes, t):
    """History entries before and after the step at time t."""
    return (t + 1, t) if sizes.reverse else (t, t + 1)


@cuda.jit(**DEVICE)
def output_units(cell, sizes):
    """Units of h."""
    return sizes.output if is_projected(cell) else sizes.hidden


@cuda.jit(**DEVICE)
def has_output(cell, sizes, unit):
    """Whether h has a unit: all but where it is projected."""
    return not is_projected(cell) or unit < sizes.output


@cuda.jit(**DEVICE)
def stage_depth(cell, stage, sizes):
    """Units of the operand of a stage's product, and the depth of one part of it."""
    if reads_projected(cell, stage):
        return sizes.output, sizes.output_part
    return sizes.hidden, sizes.part_depth


@cuda.jit(**DEVICE)
def stage_units(cell, stage, sizes):
    """Units that a stage feeds, and how many are one part of the depth of the backward product."""
    if feeds_projected(cell, stage):
        return sizes.output, sizes.output_part
    return sizes.hidden, sizes.part_depth


@cuda.jit(**DEVICE)
def load_output(cell, sizes, array, start, row, unit):
    """One unit of a row of a matrix like h, which begins at `start`; zero for a unit that h has not."""
    if has_output(cell, sizes, unit):
        return load_scalar(cell, array, start + (row * output_units(cell, sizes) + unit), 0)
    return zero_scalar(cell, array)


@cuda.jit(**DEVICE)
def store_output(cell, sizes, array, start, row, unit, values):
    """The inverse of `load_output`."""
    if has_output(cell, sizes, unit):
        store_scalars(array, start + (row * output_units(cell, sizes) + unit), 0, values)


@cuda.jit(**DEVICE)
def load_entry(cell, sizes, arrays, entry, row, unit):
    """All states of a history entry."""
    offset = row * sizes.hidden + unit
    h = load_output(cell, sizes, arrays.h, entry * sizes.batch * output_units(cell, sizes), row, unit)
    return h + load_cell_states(cell, arrays.cell_states, entry * sizes.cell_step + offset, sizes.cell_stride)


@cuda.jit(**DEVICE)
def store_entry(cell, sizes, arrays, entry, row, unit, states):
    """The inverse of `load_entry`."""
    offset = row * sizes.hidden + unit
    start = entry * sizes.batch * output_units(cell, sizes)
    store_output(cell, sizes, arrays.h, start, row, unit, states[:1])
    store_scalars(arrays.cell_states, entry * sizes.cell_step + offset, sizes.cell_stride, states[1:])


@cuda.jit(**DEVICE)
def previous_states(cell, sizes, arrays, t, row, unit):
    """The states before the step at time t."""
    before, _ = neighbours(sizes, t)
    return load_entry(cell, sizes, arrays, before, row, unit)


@cuda.jit(**DEVICE)
def _stack_offset(cell, sizes):
    """Offset of h in its stack."""
    return sizes.output_offset if is_projected(cell) else sizes.state_offset


@cuda.jit(**DEVICE)
def load_stacked(cell, sizes, stacks, row, unit):
    """All states of stacked ones; zero for a unit that h has not."""
    h = load_output(cell, sizes, stacks[0], _stack_offset(cell, sizes), row, unit)
    return h + load_each(stacks[1:], sizes.state_offset + (row * sizes.hidden + unit))


@cuda.jit(**DEVICE)
def store_stacked(cell, sizes, stacks, row, unit, states):
    """The inverse of `load_stacked`."""
    store_output(cell, sizes, stacks[0], _stack_offset(cell, sizes), row, unit, states[:1])
    store_each(stacks[1:], sizes.state_offset + (row * sizes.hidden + unit), states[1:])


@cuda.jit(**DEVICE)
def time_from(sizes, entry):
    """The time of the step that begins at a history entry; outside of the sequence for the last entry."""
    return entry - sizes.reverse


@cuda.jit(**DEVICE)
def load_vectors(cell, sizes, arrays, t, row, unit):
    """The cell's per-unit vectors, its extras at time t, and the row's means."""
    vectors = load_peephole(cell, arrays.peephole, unit, sizes.hidden)
    extras = load_extras(cell, arrays.extras, arrays.extra_strides, t, row, unit)
    return vectors + extras + load_means(cell, arrays.means, t * sizes.batch + row)


@cuda.jit(**DEVICE)
def slots_offset(cell, sizes, t, row, unit):
    """Offset of a row's and unit's first slot at time t; the others follow at a stride of H."""
    return (t * sizes.batch + row) * slot_count(cell) * sizes.hidden + unit
