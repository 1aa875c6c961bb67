"""The arrays of one sequence through one layer, and how kernels address them.

``slots`` is (time, batch, slot, padded unit), ``h`` is (time + 1, batch, unit), ``cell_states`` (the other
states) is (state, depth, batch, unit), ``operand`` and ``prepared`` are (time, batch, unit); the kernels
know them by address. The history of a state has one entry more than there are steps. A reversed sequence
fills it from the end, so the output is ``history[1:]``, in reverse ``history[:-1]``. Rows whose sequence
has ended, or in reverse has not begun, carry their state along unchanged.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import njit

from lstm_numba.engines.cpu.options import INLINE
from lstm_numba.engines.cpu.specialize import (
    load_cell_states,
    load_extras,
    load_means,
    load_peephole,
    load_vector,
    mean_count,
)
from lstm_numba.engines.cpu.vector import lane_sum, store_vectors

#: As a number of valid lanes: all of them.
FULL = 1 << 30


class Sizes(NamedTuple):
    """Sizes of one sequence and layer, and strides between the steps of its arrays."""

    steps: int
    batch: int
    inputs: int
    hidden: int
    output: int  # units of h
    padded: int  # hidden units in whole vectors
    lanes: int
    reverse: int
    chunks: int  # into which a thread that has rows to itself cuts them, to keep a step's in its cache
    block: int  # steps whose input products are computed at once; one: within the step
    depth: int  # times that `slots` and `operand` hold; time t is entry t modulo this
    slot_step: int  # numbers from one time of `slots` to the next
    operand_step: int
    cell_step: int
    cell_stride: int  # numbers from one of `cell_states` to the next
    prepared_depth: int  # times that `prepared` holds
    prepared_step: int  # numbers from one to the next
    means_step: int  # numbers from one time of `means` to the next


class Weights(NamedTuple):
    """Packed weights, and the tiles (`lstm_numba.engines.cpu.microkernel.tile_address`) of the products with
    them.

    See `lstm_numba.engines.cpu.panel_packing`. An array that a kernel does not use is empty.
    """

    input: Any
    first: Any
    second: Any
    bias: Any
    peephole: Any
    input_tile: int
    first_tile: int
    second_tile: int
    clear_tile: int  # for the slots that the input does not feed
    wide_tile: int  # of `BACK_VECTORS` vectors
    narrow_tile: int  # of one vector


class Arrays(NamedTuple):
    """What a sequence reads and leaves behind."""

    x: Any
    slots: Any
    h: Any
    cell_states: Any
    operand: Any
    prepared: Any  # operands of the first product, where it is not h
    extras: Any  # see `lstm_numba.engines.cpu.records.Sequence`
    means: Any  # (time, row, mean)
    partial: Any  # sums for them: (part of the units, row, mean, lane)
    reused: Any  # what equations of a step hand on to others: (row, number, padded unit)
    lengths: Any
    rounds: Any  # of threads that share the units; see `lstm_numba.engines.cpu.rounds`


class Gradients(NamedTuple):
    """What the backward pass works on; rows of gradients of states and inputs are padded to whole vectors."""

    dh: Any
    dcell_states: Any
    doperand: Any
    dprepared: Any
    dmeans: Any  # (row, mean)
    partial: Any  # sums for them, as those of the means
    reused: Any  # as that of the forward pass
    sums: Any  # (part, slots + peepholes, padded)
    dy: Any
    dx: Any
    dy_row: int
    state: int  # numbers from one state of dcell_states to the next


class Share(NamedTuple):
    """One thread's part of a step: rows [top, bottom), and of their tiles one of `pieces` equal pieces."""

    part: int
    top: int
    bottom: int
    piece: int
    pieces: int


@njit(**INLINE)
def split(count, parts, part):
    """First and one past the last of `count` things in `part` of `parts` nearly equal parts."""
    return part * count // parts, (part + 1) * count // parts


@njit(**INLINE)
def share_rows(sizes, parts, part, chunks, chunk):
    """One of the chunks of a part's share of the rows, with all units."""
    top, bottom = split(sizes.batch, parts * chunks, part * chunks + chunk)
    return Share(part, top, bottom, 0, 1)


@njit(**INLINE)
def share_all(sizes):
    """All rows and units, as one thread's part."""
    return Share(0, 0, sizes.batch, 0, 1)


@njit(**INLINE)
def share_units(sizes, parts, part):
    """A share of the units, with all rows."""
    return Share(part, 0, sizes.batch, part, parts)


@njit(**INLINE)
def tile_count(share, height):
    """Number of tiles that a share's rows are cut into, none higher than `height`."""
    return -(-(share.bottom - share.top) // height)


@njit(**INLINE)
def tile_range(share, panels, tiles):
    """First and one past the last of a share's tiles, counted panel by panel, `tiles` in each."""
    return split(panels * tiles, share.pieces, share.piece)


@njit(**INLINE)
def serpentine(first, last, n, step):
    """The n-th of tiles [first, last), in every other step counted from the end.

    What a step read last is still in the cache when the next one reads it first: of weights a little too
    large for a cache a part is found there, where going round and round would find nothing.
    """
    return n if step % 2 == 0 else first + last - 1 - n


@njit(**INLINE)
def tile_of(share, tiles, tile):
    """First row and number of rows of a tile."""
    begin, end = split(share.bottom - share.top, tiles, tile)
    return share.top + begin, end - begin


@njit(**INLINE)
def time_of(sizes, step):
    """The time that a step is at."""
    return sizes.steps - 1 - step if sizes.reverse else step


@njit(**INLINE)
def first_block(sizes):
    """First step of the first block, or the step at which it would begin if it were whole.

    The times of a block are adjacent in `slots`: blocks end at multiples of their length in time.
    """
    return -(-sizes.steps % sizes.block) if sizes.reverse else 0


@njit(**INLINE)
def neighbours(sizes, t):
    """History entries before and after the step at time t."""
    if sizes.reverse:
        return t + 1, t
    return t, t + 1


@njit(**INLINE)
def load_states(cell, arrays, sizes, entry, row, unit):
    """One vector of every state, as a tuple."""
    valid = sizes.hidden - unit
    at = (entry * sizes.batch + row) * sizes.output + unit
    h = load_vector(cell, arrays.h, at, 0, sizes.output - unit)
    at = entry * sizes.cell_step + row * sizes.hidden + unit
    return h + load_cell_states(cell, arrays.cell_states, at, sizes.cell_stride, valid)


@njit(**INLINE)
def row_means(cell, arrays, sizes, t, row):
    """The means of a row, one vector of each: what its units have in common."""
    return load_means(cell, arrays.means, t * sizes.means_step + row * mean_count(cell))


@njit(**INLINE)
def load_vectors(cell, weights, arrays, sizes, t, row, unit, means):
    """One vector of every per-unit vector, of every extra and of every mean, as a tuple."""
    peephole = load_peephole(cell, weights.peephole, unit, sizes.padded, FULL)
    return peephole + load_extras(cell, arrays.slots, arrays.extras, t, row, unit) + means


@njit(**INLINE)
def units_of(first, last, tiles, tile, width):
    """Units of a row tile that belong to tiles [first, last), counted panel by panel of `width` units: first
    and one past the last.
    """
    return -((tile - first) // tiles) * width, -((tile - last) // tiles) * width


@njit(**INLINE)
def partial_at(cell, sizes, part, row, mean):
    """Where the sum of a part, row and mean is."""
    return ((part * sizes.batch + row) * mean_count(cell) + mean) * sizes.lanes


@njit(**INLINE)
def finish_means(cell, partial, target, start, sizes, share, first, last):
    """Means [first, last) of a share's rows from the sums of all pieces, to (row, mean) from `start` on."""
    portion = 1.0 / sizes.hidden
    for row in range(share.top, share.bottom):
        for mean in range(first, last):
            total = lane_sum(load_vector(cell, partial, partial_at(cell, sizes, 0, row, mean), 0, FULL)[0])
            for part in range(1, share.pieces):
                at = partial_at(cell, sizes, part, row, mean)
                total += lane_sum(load_vector(cell, partial, at, 0, FULL)[0])
            target[start + row * mean_count(cell) + mean] = total * portion


@njit(**INLINE)
def prepared_at(sizes, t):
    """Where the prepared operands of a time begin."""
    return t % sizes.prepared_depth * sizes.prepared_step


@njit(**INLINE)
def store_states(arrays, sizes, entry, row, unit, states):
    """The inverse of `load_states`."""
    valid = sizes.hidden - unit
    at = (entry * sizes.batch + row) * sizes.output + unit
    store_vectors(arrays.h, at, 0, states[:1], sizes.output - unit)
    at = entry * sizes.cell_step + row * sizes.hidden + unit
    store_vectors(arrays.cell_states, at, sizes.cell_stride, states[1:], valid)
