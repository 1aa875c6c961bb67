"""A sequence forward, for any cell.

Work is cut into tiles: a few rows of the batch times one vector of hidden units. A step computes a
tile's products and at once its gate equations, while its numbers are in the nearest cache. The products
with the input are part of the step where all weights fit the cache, else they go ahead of it by a block
of steps, so that weights that come from far are used often. Threads share either the rows, each running
all steps on its own, or the units, with a barrier after every product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.extending import overload

from lstm_numba.engines.cpu.layout import (
    FULL,
    Share,
    finish_means,
    first_block,
    load_states,
    load_vectors,
    neighbours,
    partial_at,
    prepared_at,
    row_means,
    serpentine,
    share_rows,
    share_units,
    store_states,
    tile_count,
    tile_of,
    tile_range,
    time_of,
    units_of,
)
from lstm_numba.engines.cpu.options import CALLEE, INLINE
from lstm_numba.engines.cpu.rounds import finish_part, next_part
from lstm_numba.engines.cpu.specialize import (
    cell_forward,
    cell_means,
    cell_operand,
    cell_prepare,
    clear_hidden_slots,
    first_reused,
    flat_tile,
    gate_product,
    later_rounds,
    level_range,
    load_biased_slots,
    load_reused,
    recurrent_count,
    reused_count,
    slot_count,
    tall_tile,
    zero_means,
)
from lstm_numba.engines.cpu.vector import add_valid, store_vectors

#: Recurrent weights of more numbers than this come from memory at every step.
FAR_WEIGHTS = 1 << 22


@njit(**INLINE)
def _tile_height(cell, sizes):
    """Rows of a tile at most."""
    far = recurrent_count(cell) * sizes.hidden * sizes.hidden > FAR_WEIGHTS
    return flat_tile(cell) if far else tall_tile(cell)


@njit(**INLINE)
def _reused_at(cell, sizes, row, unit):
    """Where the numbers are that equations of a step hand on to others."""
    return row * reused_count(cell) * sizes.padded + unit


@njit(**INLINE)
def _load_forward(cell, weights, arrays, sizes, t, row, unit, at, means):
    """What the cell's forward equations read, one vector of units of each."""
    before, _ = neighbours(sizes, t)
    slots = load_biased_slots(cell, arrays.slots, at, weights.bias, unit, sizes.padded)
    previous = load_states(cell, arrays, sizes, before, row, unit)
    vectors = load_vectors(cell, weights, arrays, sizes, t, row, unit, means)
    reused = load_reused(cell, arrays.reused, _reused_at(cell, sizes, row, unit), sizes.padded, FULL)
    return slots, previous, vectors + reused


@njit(**INLINE)
def cell_equations(cell, weights, arrays, sizes, t, row, unit, at, means):
    """The cell's equations on one vector of units, in a row of these means."""
    before, after = neighbours(sizes, t)
    if t < arrays.lengths[row]:
        slots, previous, vectors = _load_forward(cell, weights, arrays, sizes, t, row, unit, at, means)
        kept, states = cell_forward(cell, slots, previous, vectors)
        store_vectors(arrays.slots, at, sizes.padded, kept, FULL)
        store_states(arrays, sizes, after, row, unit, states)
        prepare_next(cell, weights, arrays, sizes, t, row, unit, states)
    else:
        previous = load_states(cell, arrays, sizes, before, row, unit)
        store_states(arrays, sizes, after, row, unit, previous)
        prepare_next(cell, weights, arrays, sizes, t, row, unit, previous)


@njit(**INLINE)
def _prepare(cell, weights, arrays, sizes, t, row, unit, previous):
    """The operand of the first product of time t on one vector of units; zero past a sequence's end."""
    at, valid = prepared_at(sizes, t) + row * sizes.output + unit, sizes.output - unit
    if t < arrays.lengths[row]:
        means = row_means(cell, arrays, sizes, t, row)
        vectors = load_vectors(cell, weights, arrays, sizes, t, row, unit, means)
        store_vectors(arrays.prepared, at, 0, (cell_prepare(cell, previous, vectors),), valid)
    else:
        store_vectors(arrays.prepared, at, 0, (0.0,), valid)


def prepare_next(
    cell: Any, weights: Any, arrays: Any, sizes: Any, t: Any, row: Any, unit: Any, states: Any
) -> Any:
    """The operand of the next step's first product, where the cell prepares it."""
    raise NotImplementedError


@overload(prepare_next, INLINE)
def _(cell, weights, arrays, sizes, t, row, unit, states):
    if not cell.instance_class.prepared:
        return lambda cell, weights, arrays, sizes, t, row, unit, states: None

    def run(cell, weights, arrays, sizes, t, row, unit, states):
        following = t - 1 if sizes.reverse else t + 1
        if 0 <= following < sizes.steps:
            _prepare(cell, weights, arrays, sizes, following, row, unit, states)

    return run


def prepare_first(cell: Any, weights: Any, arrays: Any, sizes: Any) -> Any:
    """The same of the first step, for all rows and units."""
    raise NotImplementedError


@overload(prepare_first, INLINE)
def _(cell, weights, arrays, sizes):
    if not cell.instance_class.prepared:
        return lambda cell, weights, arrays, sizes: None

    def run(cell, weights, arrays, sizes):
        t = time_of(sizes, 0)
        before, _ = neighbours(sizes, t)
        for row in range(sizes.batch):
            for unit in range(0, sizes.hidden, sizes.lanes):
                previous = load_states(cell, arrays, sizes, before, row, unit)
                _prepare(cell, weights, arrays, sizes, t, row, unit, previous)

    return run


def first_operand(cell: Any, arrays: Any, sizes: Any, t: Any) -> Any:
    """Where the operands of the first product of time t are: array, and offset of the first row."""
    raise NotImplementedError


@overload(first_operand, INLINE)
def _(cell, arrays, sizes, t):
    if cell.instance_class.prepared:
        return lambda cell, arrays, sizes, t: (arrays.prepared, prepared_at(sizes, t))
    return lambda cell, arrays, sizes, t: (
        arrays.h,
        neighbours(sizes, t)[0] * sizes.batch * sizes.output,
    )


@njit(**INLINE)
def _operand_equations(cell, weights, arrays, sizes, t, row, unit, at, means):
    """The operand of the second product on one vector of units; zero past a sequence's end."""
    target = t % sizes.depth * sizes.operand_step + row * sizes.hidden + unit
    if t < arrays.lengths[row]:
        slots, previous, vectors = _load_forward(cell, weights, arrays, sizes, t, row, unit, at, means)
        operand = cell_operand(cell, slots, previous, vectors)
        store_vectors(arrays.operand, target, 0, (operand,), sizes.hidden - unit)
    else:
        store_vectors(arrays.operand, target, 0, (0.0,), sizes.hidden - unit)


def equations_after_first(
    cell: Any, weights: Any, arrays: Any, sizes: Any, t: Any, row: Any, unit: Any, at: Any
) -> Any:
    """What follows the first product: the cell's equations, or the operand of the second one; of a cell with
    means nothing, they need all units.
    """
    raise NotImplementedError


@overload(equations_after_first, INLINE)
def _(cell, weights, arrays, sizes, t, row, unit, at):
    equations = cell_equations if len(cell.instance_class.stages) == 1 else _operand_equations
    if cell.instance_class.mean_levels:
        return lambda cell, weights, arrays, sizes, t, row, unit, at: None

    def run(cell, weights, arrays, sizes, t, row, unit, at):
        equations(cell, weights, arrays, sizes, t, row, unit, at, ())

    return run


@njit(**INLINE)
def _place(cell, sizes, t, row, unit):
    """Where the slots of a row and unit begin, and numbers from one row to the next."""
    slot_row = slot_count(cell) * sizes.padded
    return t % sizes.depth * sizes.slot_step + row * slot_row + unit, slot_row


@njit(**INLINE)
def _input_product(cell, weights, arrays, sizes, t, panel, row, rows):
    """Input product of one tile; its rows may go on into the steps after time t."""
    at, slot_row = _place(cell, sizes, t, row, panel * sizes.lanes)
    gate_product(
        cell, -1, weights.input_tile, rows, arrays.x, (t * sizes.batch + row) * sizes.inputs, sizes.inputs,
        weights.input, panel, sizes.inputs, sizes.lanes, arrays.slots, at, slot_row, sizes.padded, False,
    )  # fmt: skip


@njit(**CALLEE)
def input_products(cell, weights, arrays, sizes, first, last, share):
    """Input products of steps [first, last), one panel of weights at a time, on one thread's share.

    To a thread that has all rows of a step they are just the beginning of the next step's: a tile is full
    however small the batch.
    """
    start = min(time_of(sizes, first), time_of(sizes, last - 1))
    if share.pieces > 1 or share.bottom - share.top == sizes.batch:
        share = Share(share.part, 0, sizes.batch * (last - first), share.piece, share.pieces)
        last = first + 1
    tiles = tile_count(share, _tile_height(cell, sizes))
    begin, end = tile_range(share, sizes.padded // sizes.lanes, tiles)
    for panel in range(begin // tiles, -(-end // tiles)):
        for t in range(start, start + last - first):
            for tile in range(max(0, begin - panel * tiles), min(tiles, end - panel * tiles)):
                row, rows = tile_of(share, tiles, tile)
                _input_product(cell, weights, arrays, sizes, t, panel, row, rows)


@njit(**CALLEE)
def first_stage(cell, weights, arrays, sizes, t, share):
    """First (mostly only) stage of one step, on one thread's share."""
    operand, start = first_operand(cell, arrays, sizes, t)
    tiles = tile_count(share, _tile_height(cell, sizes))
    begin, end = tile_range(share, sizes.padded // sizes.lanes, tiles)
    for n in range(begin, end):
        index = serpentine(begin, end, n, t)
        panel = index // tiles
        unit = panel * sizes.lanes
        row, rows = tile_of(share, tiles, index % tiles)
        at, slot_row = _place(cell, sizes, t, row, unit)
        if sizes.block == 1:
            _input_product(cell, weights, arrays, sizes, t, panel, row, rows)
        clear_hidden_slots(cell, weights.clear_tile, rows, arrays.slots, at, slot_row, sizes.padded)
        gate_product(
            cell, 0, weights.first_tile, rows, operand, start + row * sizes.output, sizes.output,
            weights.first, panel, sizes.output, sizes.lanes, arrays.slots, at, slot_row, sizes.padded, True,
        )  # fmt: skip
        for r in range(rows):
            equations_after_first(cell, weights, arrays, sizes, t, row + r, unit, at + r * slot_row)
    first_means(cell, weights, arrays, sizes, t, share)


@njit(**INLINE)
def _contributions(cell, level, weights, arrays, sizes, t, row, begin, end):
    """What units [begin, end) of a row contribute to the means of a group; they keep what is reused."""
    sums = zero_means(cell, level, arrays.partial)
    if t < arrays.lengths[row]:
        means = row_means(cell, arrays, sizes, t, row)
        for unit in range(begin, end, sizes.lanes):
            at, _ = _place(cell, sizes, t, row, unit)
            slots, previous, vectors = _load_forward(cell, weights, arrays, sizes, t, row, unit, at, means)
            values, reused = cell_means(cell, level, slots, previous, vectors)
            target = _reused_at(cell, sizes, row, unit) + first_reused(cell, level) * sizes.padded
            store_vectors(arrays.reused, target, sizes.padded, reused, FULL)
            sums = add_valid(sums, values, sizes.hidden - unit)
    return sums


@njit(**INLINE)
def _sum_means(cell, level, weights, arrays, sizes, t, share):
    """A share's sums for the means of a group."""
    tiles = tile_count(share, _tile_height(cell, sizes))
    begin, end = tile_range(share, sizes.padded // sizes.lanes, tiles)
    first, _ = level_range(cell, level)
    for tile in range(tiles):
        row, rows = tile_of(share, tiles, tile)
        left, right = units_of(begin, end, tiles, tile, sizes.lanes)
        for r in range(row, row + rows):
            sums = _contributions(cell, level, weights, arrays, sizes, t, r, left, right)
            place = partial_at(cell, sizes, share.piece, r, first)
            store_vectors(arrays.partial, place, sizes.lanes, sums, FULL)


@njit(**INLINE)
def _finish_means(cell, level, arrays, sizes, t, share):
    """The means of a group on a share's rows, from all sums."""
    first, last = level_range(cell, level)
    finish_means(cell, arrays.partial, arrays.means, t * sizes.means_step, sizes, share, first, last)


@njit(**INLINE)
def _all_equations(cell, weights, arrays, sizes, t, share):
    """The cell's equations on a share, when its means are known."""
    tiles = tile_count(share, _tile_height(cell, sizes))
    begin, end = tile_range(share, sizes.padded // sizes.lanes, tiles)
    for tile in range(tiles):
        row, rows = tile_of(share, tiles, tile)
        left, right = units_of(begin, end, tiles, tile, sizes.lanes)
        for r in range(row, row + rows):
            means = row_means(cell, arrays, sizes, t, r)
            for unit in range(left, right, sizes.lanes):
                at, _ = _place(cell, sizes, t, r, unit)
                cell_equations(cell, weights, arrays, sizes, t, r, unit, at, means)


def first_means(cell: Any, weights: Any, arrays: Any, sizes: Any, t: Any, share: Any) -> Any:
    """What follows the first product of a cell with means: a share's sums for those of the first group."""
    raise NotImplementedError


@overload(first_means, INLINE)
def _(cell, weights, arrays, sizes, t, share):
    if not cell.instance_class.mean_levels:
        return lambda cell, weights, arrays, sizes, t, share: None
    return lambda cell, weights, arrays, sizes, t, share: _sum_means(
        cell, 0, weights, arrays, sizes, t, share
    )


def _after_means(
    cell: Any, group: Any, level: Any, weights: Any, arrays: Any, sizes: Any, t: Any, share: Any
) -> Any:
    """What follows the sums for the means of a group, `level`, when all threads have theirs: the means, and
    with them the sums of the next group, or the cell's equations. It is `group`, a literal, or a later one.
    """
    raise NotImplementedError


@overload(_after_means, CALLEE, prefer_literal=True)
def _(cell, group, level, weights, arrays, sizes, t, share):
    this = group.literal_value
    following = this + 1

    def search(cell, group, level, weights, arrays, sizes, t, share):
        if level == this:
            _finish_means(cell, this, arrays, sizes, t, share)
            _sum_means(cell, following, weights, arrays, sizes, t, share)
        else:
            _after_means(cell, following, level, weights, arrays, sizes, t, share)

    def last(cell, group, level, weights, arrays, sizes, t, share):
        _finish_means(cell, this, arrays, sizes, t, share)
        _all_equations(cell, weights, arrays, sizes, t, share)

    return search if following < len(cell.instance_class.mean_levels) else last


@njit(**CALLEE)
def _second_stage_tiles(cell, weights, arrays, sizes, t, share):
    tiles = tile_count(share, _tile_height(cell, sizes))
    begin, end = tile_range(share, sizes.padded // sizes.lanes, tiles)
    for n in range(begin, end):
        index = serpentine(begin, end, n, t)
        panel = index // tiles
        unit = panel * sizes.lanes
        row, rows = tile_of(share, tiles, index % tiles)
        at, slot_row = _place(cell, sizes, t, row, unit)
        source = t % sizes.depth * sizes.operand_step + row * sizes.hidden
        if unit < sizes.output:
            gate_product(
                cell, 1, weights.second_tile, rows, arrays.operand, source, sizes.hidden, weights.second,
                panel, sizes.hidden, sizes.lanes, arrays.slots, at, slot_row, sizes.padded, True,
            )  # fmt: skip
        for r in range(rows):
            cell_equations(cell, weights, arrays, sizes, t, row + r, unit, at + r * slot_row, ())


def later_round(cell: Any, number: Any, weights: Any, arrays: Any, sizes: Any, t: Any, share: Any) -> Any:
    """One of `later_rounds`, counted from 0, on one thread's share."""
    raise NotImplementedError


@overload(later_round)
def _(cell, number, weights, arrays, sizes, t, share):
    if len(cell.instance_class.stages) > 1:
        return lambda cell, number, weights, arrays, sizes, t, share: _second_stage_tiles(
            cell, weights, arrays, sizes, t, share
        )
    if cell.instance_class.mean_levels:
        return lambda cell, number, weights, arrays, sizes, t, share: _after_means(
            cell, 0, number, weights, arrays, sizes, t, share
        )
    return lambda cell, number, weights, arrays, sizes, t, share: None


@njit(**INLINE)
def whole_step(cell, weights, arrays, sizes, t, share):
    """A step on a share of the rows."""
    first_stage(cell, weights, arrays, sizes, t, share)
    for number in range(later_rounds(cell)):
        later_round(cell, number, weights, arrays, sizes, t, share)


@njit(**INLINE)
def forward_by_batch(cell, weights, arrays, sizes, parts, part):
    """All steps of one of the parts of the rows."""
    for chunk in range(sizes.chunks):
        share = share_rows(sizes, parts, part, sizes.chunks, chunk)
        for begin in range(first_block(sizes), sizes.steps, sizes.block):
            first, last = max(0, begin), min(sizes.steps, begin + sizes.block)
            if sizes.block > 1:
                input_products(cell, weights, arrays, sizes, first, last, share)
            for step in range(first, last):
                t = time_of(sizes, step)
                whole_step(cell, weights, arrays, sizes, t, share)


@njit(**INLINE)
def forward_by_units(cell, weights, arrays, sizes, parts, part):
    """All steps, whose units threads share in so many parts; `part` is this thread's.

    Each reads mostly its own part of the recurrent weights, which for large layers would not fit one core's
    cache, and for a single sequence are most of what there is to do.
    """
    rounds, number, expected = arrays.rounds, np.int64(0), np.int64(0)
    for begin in range(first_block(sizes), sizes.steps, sizes.block):
        first, last = max(0, begin), min(sizes.steps, begin + sizes.block)
        if sizes.block > 1:
            number, expected = number + 1, expected + parts
            piece = next_part(rounds, parts, part, number, expected)
            while piece >= 0:
                input_products(cell, weights, arrays, sizes, first, last, share_units(sizes, parts, piece))
                finish_part(rounds, expected)
                piece = next_part(rounds, parts, part, number, expected)
        for step in range(first, last):
            t = time_of(sizes, step)
            for later in range(1 + later_rounds(cell)):
                number, expected = number + 1, expected + parts
                piece = next_part(rounds, parts, part, number, expected)
                while piece >= 0:
                    share = share_units(sizes, parts, piece)
                    if later == 0:
                        first_stage(cell, weights, arrays, sizes, t, share)
                    else:
                        later_round(cell, later - 1, weights, arrays, sizes, t, share)
                    finish_part(rounds, expected)
                    piece = next_part(rounds, parts, part, number, expected)
