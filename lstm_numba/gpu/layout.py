"""How a sequence lies in the device's memory, and how blocks of threads share it.

Arrays are flat. A tile is a few rows of the batch times the units of one row of threads; a block has several
such rows of threads, each with its own part of a product's depth. Blocks along x share the units, blocks
along y the rows of the batch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lstm_numba.gpu.dispatch import load_memory, load_one, slot_count
from lstm_numba.gpu.driver import cuda, overload
from lstm_numba.gpu.options import DEVICE


class Sizes(NamedTuple):
    """Numbers that a sequence's kernels need.

    Attributes
    ----------
    steps, batch, hidden : int
    reverse : int
        1 where time runs backwards.
    memory_step : int
        From one step's memory to the next one's; 0 where only the last is kept.
    memory_state : int
        From one memory state to the next.
    dy_row, dy_at : int
        Numbers from one row of the output's gradient to the next, and where the first begins.
    """

    steps: Any
    batch: Any
    hidden: Any
    reverse: Any
    memory_step: Any
    memory_state: Any
    dy_row: Any = 0
    dy_at: Any = 0


class Arrays(NamedTuple):
    """What the forward pass reads and writes; flat device arrays.

    Attributes
    ----------
    slots : (T * B * S * H,)
        Pre-activations without the recurrent product, biases included; afterwards what the cell keeps.
    h : ((T + 1) * B * H,)
        All values of h, the initial one first; in reverse last.
    memory : (states - 1, T + 1 or 1, B, H)
        The other states, likewise.
    message : (B * H * T or 0,)
        Operands of the second product.
    weights : (H * G * H,)
        ``weight_hh`` transposed.
    peephole : (P * H,)
    lengths : (B,), int64
    """

    slots: Any
    h: Any
    memory: Any
    message: Any
    weights: Any
    peephole: Any
    lengths: Any


class Gradients(NamedTuple):
    """What the backward pass reads and writes besides; flat device arrays.

    Attributes
    ----------
    dy : (T * B, dy_row)
    dstates : (states * B * H,)
        Gradients of the states, from the final to the initial ones.
    dpeephole : (P * B * H,)
        Sums over time.
    weights : (G * H * H,)
        ``weight_hh``.
    """

    dy: Any
    dstates: Any
    dpeephole: Any
    weights: Any


class Alone(NamedTuple):
    """A block has all units: its threads need wait for nobody else."""


class Together(NamedTuple):
    """Blocks share the units: all threads of the grid meet. The launch must be cooperative."""


@cuda.jit(**DEVICE)
def _meet_block():
    cuda.syncthreads()


@cuda.jit(**DEVICE)
def _meet_grid():
    cuda.cg.this_grid().sync()


def meet(team: Any) -> None:
    """Wait until all threads that share rows are here; what they wrote can be read then."""
    (_meet_grid if isinstance(team, Together) else _meet_block)()


@overload(meet)
def _(team):
    if team.instance_class is Together:
        return lambda team: _meet_grid()
    return lambda team: _meet_block()


@cuda.jit(**DEVICE)
def time_of(sizes, step):
    """Time of the forward pass's step number `step`."""
    return sizes.steps - 1 - step if sizes.reverse else step


@cuda.jit(**DEVICE)
def neighbours(sizes, t):
    """Entries of the history before and after time t."""
    return (t + 1, t) if sizes.reverse else (t, t + 1)


@cuda.jit(**DEVICE)
def tiles(count, size):
    """Tiles of a size that cover a count."""
    return (count + size - 1) // size


@cuda.jit(**DEVICE)
def previous_states(cell, sizes, arrays, t, at):
    """The states before time t; `at` is the row's and unit's place in a state."""
    before, _ = neighbours(sizes, t)
    h = load_one(cell, arrays.h, before * sizes.batch * sizes.hidden + at, 0)
    return h + load_memory(cell, arrays.memory, before * sizes.memory_step + at, sizes.memory_state)


@cuda.jit(**DEVICE)
def slots_at(cell, sizes, t, row, unit):
    """Place of a row's and unit's first slot at time t; the others follow H apart."""
    return (t * sizes.batch + row) * slot_count(cell) * sizes.hidden + unit
