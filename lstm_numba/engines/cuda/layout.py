"""How a sequence lies in the device's memory, and how blocks of threads share it.

Arrays are flat. A tile is a few rows of the batch times the units of one row of threads; a block has several
such rows of threads, each with its own part of a product's depth. Blocks along x share the units, blocks
along y the rows of the batch: those that have the same rows, a team, wait for each other.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lstm_numba.engines.cuda.driver import cuda, intrinsic, ir, make_signature, overload, types
from lstm_numba.engines.cuda.options import DEVICE
from lstm_numba.engines.cuda.scalar import line_of
from lstm_numba.engines.cuda.specialize import load_cell_states, load_one, slot_count


class Sizes(NamedTuple):
    """Numbers that a sequence's kernels need.

    Attributes
    ----------
    steps, batch, hidden : int
    reverse : int
        1 where time runs backwards.
    cell_step : int
        From one step's cell states to the next one's; 0 where only the last is kept.
    cell_stride : int
        From one cell state to the next.
    across, down, depth : int
        Tiles side by side and one below the other, and the depth of a part of a product; a graphics processor
        divides slowly.
    place : int
        Where this layer's and direction's states begin in stacked ones.
    dy_row, dy_at : int
        Numbers from one row of the output's gradient to the next, and where the first begins.
    """

    steps: Any
    batch: Any
    hidden: Any
    reverse: Any
    cell_step: Any
    cell_stride: Any
    across: Any
    down: Any
    depth: Any
    place: Any
    dy_row: Any = 0
    dy_at: Any = 0


class Arrays(NamedTuple):
    """What the forward pass reads and writes; flat device arrays.

    Attributes
    ----------
    slots : (T * B * S * H,)
        Products with the input weights, where a slot has one; afterwards what the cell keeps.
    h : ((T + 1) * B * H,)
        All values of h, the initial one first; in reverse last.
    cell_states : (states - 1, T + 1 or 1, B, H)
        The other states, likewise.
    message : (B * H * T or 0,)
        Operands of the second product.
    weights : (H * G * H,)
        ``weight_hh`` transposed.
    peephole : (P * H,)
    lengths : (B,), int64
    bias_ih, bias_hh : (G * H,), or (0,) where there are none
    initial, final : tuples of (layers * directions * B * H,)
        Stacked states; initial ones of size 0 stand for zeros.
    counters : int32
        Of blocks that wait for each other.
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


class Gradients(NamedTuple):
    """What the backward pass reads and writes besides; flat device arrays.

    Attributes
    ----------
    dy : (T * B, dy_row), or (0,) for zeros
    dstates : (states * B * H,)
        Gradients of the states, from the final to the initial ones.
    dpeephole : (P * B * H,)
        Sums over time.
    weights : (G * H * H,)
        ``weight_hh``.
    final, initial : tuples of (layers * directions * B * H,)
        Stacked gradients of the final states, of size 0 for zeros, and where those of the initial ones go.
    """

    dy: Any
    dstates: Any
    dpeephole: Any
    weights: Any
    final: Any
    initial: Any


class Alone(NamedTuple):
    """A block has all units: its threads need wait for nobody else."""


class Together(NamedTuple):
    """Blocks share the units and wait for each other: all must be on the device, the launch cooperative."""


#: Numbers from one team's counters to the next one's: a cache line.
TEAM = 32


def _asm(builder: Any, kind: Any, text: str, constraints: str, *args: Any) -> Any:
    function = ir.FunctionType(kind, [arg.type for arg in args])
    return builder.call(ir.InlineAsm(function, text, constraints, side_effect=True), args)


@intrinsic
def _emit_arrive(typingctx: Any, counters: Any, at: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.ptrtoint(line_of(context, builder, sig.args[0], args[0])(args[1]), ir.IntType(64))
        _asm(builder, ir.VoidType(), "red.release.gpu.global.add.u32 [$0], 1;", "l,~{memory}", place)
        return context.get_dummy_value()

    return make_signature(types.void, counters, types.int64), codegen


@intrinsic
def _emit_arrived(typingctx: Any, counters: Any, at: Any) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.ptrtoint(line_of(context, builder, sig.args[0], args[0])(args[1]), ir.IntType(64))
        text = "ld.acquire.gpu.global.u32 $0, [$1];"
        return _asm(builder, ir.IntType(32), text, "=r,l,~{memory}", place)

    return make_signature(types.int32, counters, types.int64), codegen


def _arrive(counters: Any, at: Any) -> None:
    """Count one more; whoever sees it sees what was written before."""
    cuda.atomic.add(counters, at, 1)


def _arrived(counters: Any, at: Any) -> Any:
    """How many were counted."""
    cuda.nanosleep(0)  # the simulator's threads go on one after the other
    return counters[at]


@overload(_arrive)
def _(counters, at):
    return lambda counters, at: _emit_arrive(counters, at)


@overload(_arrived)
def _(counters, at):
    return lambda counters, at: _emit_arrived(counters, at)


@cuda.jit(**DEVICE)
def _meet_block(counters, turn):
    cuda.syncthreads()


@cuda.jit(**DEVICE)
def _meet_team(counters, turn):
    cuda.syncthreads()
    if cuda.threadIdx.x == 0 and cuda.threadIdx.y == 0:
        at = cuda.blockIdx.y * TEAM
        _arrive(counters, at)
        while _arrived(counters, at) < turn * cuda.gridDim.x:
            pass
    cuda.syncthreads()


@cuda.jit(**DEVICE)
def _leave_block(counters):
    pass


@cuda.jit(**DEVICE)
def _leave_team(counters):
    if cuda.threadIdx.x == 0 and cuda.threadIdx.y == 0:
        at = cuda.blockIdx.y * TEAM
        if cuda.atomic.add(counters, at + 1, 1) == cuda.gridDim.x - 1:
            counters[at] = 0
            counters[at + 1] = 0


def _of_team(block: Any, team: Any) -> Any:
    """Choose between what a block does alone and what it does with its team."""
    return lambda kind: team if kind is Together else block


_meeting, _leaving = _of_team(_meet_block, _meet_team), _of_team(_leave_block, _leave_team)


def meet(team: Any, counters: Any, turn: Any) -> None:
    """Wait until all threads that share rows are here; what they wrote can be read then.

    It is the `turn`-th time in this launch, from 1 on.
    """
    _meeting(type(team))(counters, turn)


def leave(team: Any, counters: Any) -> None:
    """Meet no more in this launch; the last to leave puts the counters back to zero."""
    _leaving(type(team))(counters)


@overload(meet)
def _(team, counters, turn):
    wait = _meeting(team.instance_class)
    return lambda team, counters, turn: wait(counters, turn)


@overload(leave)
def _(team, counters):
    end = _leaving(team.instance_class)
    return lambda team, counters: end(counters)


@cuda.jit(**DEVICE)
def time_of(sizes, step):
    """Time of the forward pass's step number `step`."""
    return sizes.steps - 1 - step if sizes.reverse else step


@cuda.jit(**DEVICE)
def neighbours(sizes, t):
    """Entries of the history before and after time t."""
    return (t + 1, t) if sizes.reverse else (t, t + 1)


@cuda.jit(**DEVICE)
def previous_states(cell, sizes, arrays, t, at):
    """The states before time t; `at` is the row's and unit's place in a state."""
    before, _ = neighbours(sizes, t)
    h = load_one(cell, arrays.h, before * sizes.batch * sizes.hidden + at, 0)
    return h + load_cell_states(cell, arrays.cell_states, before * sizes.cell_step + at, sizes.cell_stride)


@cuda.jit(**DEVICE)
def slots_at(cell, sizes, t, row, unit):
    """Place of a row's and unit's first slot at time t; the others follow H apart."""
    return (t * sizes.batch + row) * slot_count(cell) * sizes.hidden + unit
