"""A sequence backward, for any cell: back-propagation through time over what the forward pass kept.

The same tiles as forward, two vectors of units wide. A step first takes the later step's slot gradients
back through the recurrent weights, then the state gradients through the cell's equations. The slots are
overwritten by their gradients, from which the weights' gradients follow as one product over all steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numba.extending import overload

from lstm_numba.engines.cpu.cpu_features import tile_rows
from lstm_numba.engines.cpu.layout import (
    FULL,
    finish_means,
    load_states,
    load_vectors,
    neighbours,
    partial_at,
    row_means,
    serpentine,
    share_rows,
    share_units,
    tile_count,
    tile_of,
    tile_range,
    time_of,
    units_of,
)
from lstm_numba.engines.cpu.microkernel import tile_product
from lstm_numba.engines.cpu.offsets import whole_vectors
from lstm_numba.engines.cpu.options import CALLEE, INLINE
from lstm_numba.engines.cpu.panel_packing import BACK_VECTORS
from lstm_numba.engines.cpu.rounds import finish_part, next_part
from lstm_numba.engines.cpu.specialize import (
    cell_backward,
    cell_dmeans,
    cell_operand_backward,
    cell_prepare_backward,
    dreused_count,
    first_dreused,
    has_biases,
    input_count,
    later_rounds,
    level_range,
    load_cell_states,
    load_dreused,
    load_means,
    load_slots,
    load_vector,
    mean_count,
    peephole_count,
    prefetch_slots,
    prepared_count,
    projected_count,
    slot_count,
    stage_first,
    stage_width,
    zero_means,
    zero_slots,
)
from lstm_numba.engines.cpu.vector import accumulate_vectors, add_valid, pointer_address, store_vectors
from lstm_numba.engines.cpu.weights import product_sizes

BACK_ROWS = tile_rows(BACK_VECTORS)
#: Numbers in a part of a panel of input weights: with the rows beside them it stays in the level-2 cache.
PANEL_NUMBERS = 1 << 17


@njit(**INLINE)
def _accumulate(cell, gradients, sizes, part, unit, first, values):
    """Add a row to this thread's sums: those for the slots' biases, and after them those for peepholes."""
    row = part * (slot_count(cell) + peephole_count(cell)) + first
    accumulate_vectors(gradients.sums, row * sizes.padded + unit, sizes.padded, values)


@njit(**INLINE)
def _slots_at(cell, sizes, t, row, unit):
    """Where the slots of a time, row and unit begin."""
    return t * sizes.slot_step + row * slot_count(cell) * sizes.padded + unit


@njit(**INLINE)
def _reused_at(cell, sizes, row, unit):
    """Where the numbers are that equations of a step hand on to others."""
    return row * dreused_count(cell) * sizes.padded + unit


@njit(**INLINE)
def _row(cell, arrays, gradients, sizes, t, row):
    """A row's means and their gradients: what its units have in common."""
    means = row_means(cell, arrays, sizes, t, row)
    return means, load_means(cell, gradients.dmeans, row * mean_count(cell))


@njit(**INLINE)
def _incoming(cell, weights, arrays, gradients, sizes, t, row, unit, common):
    """What the cell's backward equations read, one vector of units of each, in a row of which `_row` told."""
    at = _slots_at(cell, sizes, t, row, unit)
    before, after = neighbours(sizes, t)
    dh_at = row * sizes.padded + unit
    dy_at = (t * sizes.batch + row) * gradients.dy_row + unit
    # Beyond the units of h there is no gradient of it, whatever the equations say.
    valid = sizes.output - unit if projected_count(cell) > 0 else FULL
    dh = load_vector(cell, gradients.dh, dh_at, 0, valid)[0]
    dy = load_vector(cell, gradients.dy, dy_at, 0, sizes.output - unit)[0]
    dcell_states = load_cell_states(cell, gradients.dcell_states, dh_at, gradients.state, FULL)
    previous = load_states(cell, arrays, sizes, before, row, unit)
    states = load_states(cell, arrays, sizes, after, row, unit)
    slots = load_slots(cell, arrays.slots, at, sizes.padded, FULL)
    vectors = load_vectors(cell, weights, arrays, sizes, t, row, unit, common[0])
    reused = load_dreused(cell, gradients.reused, _reused_at(cell, sizes, row, unit), sizes.padded, FULL)
    return slots, previous, states, vectors + reused, (dh + dy, *dcell_states, *common[1])


@njit(**INLINE)
def _cell_gradients(cell, weights, arrays, gradients, sizes, t, part, row, unit, common, final):
    """The cell's backward equations on one vector of units."""
    at = _slots_at(cell, sizes, t, row, unit)
    if t >= arrays.lengths[row]:
        # The state was carried along: so is its gradient, and nothing reaches the weights.
        store_vectors(arrays.slots, at, sizes.padded, zero_slots(cell), FULL)
        return
    dh_at = row * sizes.padded + unit
    slots, previous, states, vectors, gradient = _incoming(
        cell, weights, arrays, gradients, sizes, t, row, unit, common
    )
    dslots, dprevious, dpeephole = cell_backward(cell, slots, previous, states, vectors, gradient)
    store_vectors(arrays.slots, at, sizes.padded, dslots, FULL)
    store_vectors(gradients.dh, dh_at, 0, dprevious[:1], FULL)
    store_vectors(gradients.dcell_states, dh_at, gradients.state, dprevious[1:], FULL)
    if mean_count(cell) == 0:
        prefetch_slots(cell, arrays.slots, _slots_at(cell, sizes, t, row + 1, unit), sizes.padded)
    if final and has_biases(cell):
        _accumulate(cell, gradients, sizes, part, unit, 0, dslots)
    _accumulate(cell, gradients, sizes, part, unit, slot_count(cell), dpeephole)


def _prepared_gradients(
    cell: Any, weights: Any, arrays: Any, gradients: Any, sizes: Any, t: Any, row: Any, unit: Any
) -> Any:
    """The backward equations of the prepared operand of time t on one vector of units, if there is one."""
    raise NotImplementedError


@overload(_prepared_gradients, INLINE)
def _(cell, weights, arrays, gradients, sizes, t, row, unit):
    if not cell.instance_class.prepared:
        return lambda cell, weights, arrays, gradients, sizes, t, row, unit: None

    def run(cell, weights, arrays, gradients, sizes, t, row, unit):
        if t < arrays.lengths[row]:
            before, _ = neighbours(sizes, t)
            at = row * sizes.padded + unit
            previous = load_states(cell, arrays, sizes, before, row, unit)
            means = row_means(cell, arrays, sizes, t, row)
            vectors = load_vectors(cell, weights, arrays, sizes, t, row, unit, means)
            gradient = load_vector(cell, gradients.dprepared, at, 0, sizes.output - unit)[0]
            dprevious = cell_prepare_backward(cell, previous, vectors, gradient)
            accumulate_vectors(gradients.dh, at, 0, dprevious[:1])
            accumulate_vectors(gradients.dcell_states, at, gradients.state, dprevious[1:])

    return run


@njit(**INLINE)
def _operand_gradients(cell, weights, arrays, gradients, sizes, t, part, row, unit):
    """The backward equations of the operand on one vector of units."""
    if t >= arrays.lengths[row]:
        return
    before, _ = neighbours(sizes, t)
    at = _slots_at(cell, sizes, t, row, unit)
    dh_at = row * sizes.padded + unit
    previous = load_states(cell, arrays, sizes, before, row, unit)
    slots = load_slots(cell, arrays.slots, at, sizes.padded, FULL)
    doperand = load_vector(cell, gradients.doperand, dh_at, 0, FULL)[0]
    vectors = load_vectors(cell, weights, arrays, sizes, t, row, unit, ())
    dslots, dprevious = cell_operand_backward(cell, slots, previous, vectors, doperand)
    store_vectors(arrays.slots, at, sizes.padded, dslots, FULL)
    accumulate_vectors(gradients.dh, dh_at, 0, dprevious[:1])
    accumulate_vectors(gradients.dcell_states, dh_at, gradients.state, dprevious[1:])
    _accumulate(cell, gradients, sizes, part, unit, 0, dslots)


@njit(**INLINE)
def _panels(units, lanes):
    """Number of panels that cover some padded units."""
    return -(-units // (BACK_VECTORS * lanes))


@njit(**INLINE)
def _panel_product(
    weights, rows, a, a_at, a_row, packed, panel, first, depth, whole, lanes, units, c, c_at, c_row, add
):  # fmt: skip
    """Numbers [first, first + depth) of a few rows times their part of a panel of transposed weights.

    Panels are two vectors wide but for the last of an odd number of vectors. C has `units` columns; what is
    beyond them is left as it is.
    """
    left = panel * BACK_VECTORS * lanes
    at = left * whole
    if left >= units:
        return
    if left + BACK_VECTORS * lanes <= units:
        tile_product(
            weights.wide_tile, rows, a, a_at + first, a_row, 1, packed,
            at + first * BACK_VECTORS * lanes, depth, c, c_at + left, c_row, lanes, add,
        )  # fmt: skip
    else:
        tile_product(
            weights.narrow_tile, rows, a, a_at + first, a_row, 1, packed, at + first * lanes, depth,
            c, c_at + left, c_row, lanes, add,
        )  # fmt: skip


@njit(**INLINE)
def _product_back(cell, number, weights, arrays, sizes, t, row, rows, packed, panel, target, add):
    """Slot gradients of time t times the recurrent weights of a stage: one tile of a state's gradient.

    For the second stage, of the operand's gradient.
    """
    slot_row = slot_count(cell) * sizes.padded
    source = t * sizes.slot_step + row * slot_row + stage_first(cell, number) * sizes.padded
    units, columns = product_sizes(1 + number, sizes.inputs, sizes.hidden, sizes.output)
    depth = stage_width(cell, number) * whole_vectors(units, sizes.lanes)
    _panel_product(
        weights, rows, arrays.slots, source, slot_row, packed, panel, 0, depth, depth, sizes.lanes,
        whole_vectors(columns, sizes.lanes), target, row * sizes.padded, sizes.padded, add,
    )  # fmt: skip


@njit(**INLINE)
def _units_of(sizes, first, last, tiles, tile):
    """Units of a row tile that belong to tiles [first, last) of a share: first and one past the last."""
    begin, end = units_of(first, last, tiles, tile, BACK_VECTORS * sizes.lanes)
    return begin, min(end, sizes.padded)


@njit(**CALLEE)
def _products_back(cell, weights, arrays, gradients, sizes, step, share):
    """What the later step's slot gradients give the states after a step, on one thread's share.

    The last step has no later one. Step -1 is before the first: what arrives there is the initial state's
    gradient.
    """
    tiles = tile_count(share, BACK_ROWS)
    first, last = tile_range(share, _panels(sizes.padded, sizes.lanes), tiles)
    if step + 1 < sizes.steps:
        t = time_of(sizes, step + 1)
        prepared = prepared_count(cell) > 0
        target = gradients.dprepared if prepared else gradients.dh
        for n in range(first, last):
            index = serpentine(first, last, n, t)
            row, rows = tile_of(share, tiles, index % tiles)
            _product_back(
                cell, 0, weights, arrays, sizes, t, row, rows, weights.first, index // tiles, target,
                not prepared,
            )  # fmt: skip
        if prepared:
            for tile in range(tiles):
                begin, end = _units_of(sizes, first, last, tiles, tile)
                row, rows = tile_of(share, tiles, tile)
                for r in range(row, row + rows):
                    for unit in range(begin, end, sizes.lanes):
                        _prepared_gradients(cell, weights, arrays, gradients, sizes, t, r, unit)


@njit(**CALLEE)
def _equations_back(cell, weights, arrays, gradients, sizes, step, share, final):
    """The cell's backward equations of a step, on one thread's share.

    They read much from far and go along rows, where the processor foresees the next address; doing them tile
    by tile took 5 % longer.
    """
    tiles = tile_count(share, BACK_ROWS)
    first, last = tile_range(share, _panels(sizes.padded, sizes.lanes), tiles)
    t = time_of(sizes, step)
    for tile in range(tiles):
        begin, end = _units_of(sizes, first, last, tiles, tile)
        row, rows = tile_of(share, tiles, tile)
        for r in range(row, row + rows):
            common = _row(cell, arrays, gradients, sizes, t, r)
            for unit in range(begin, end, sizes.lanes):
                _cell_gradients(
                    cell, weights, arrays, gradients, sizes, t, share.part, r, unit, common, final
                )


@njit(**INLINE)
def _contributions(cell, level, weights, arrays, gradients, sizes, t, row, begin, end):
    """What units [begin, end) of a row contribute to the gradients of a group of means."""
    sums = zero_means(cell, level, gradients.partial)
    if t < arrays.lengths[row]:
        common = _row(cell, arrays, gradients, sizes, t, row)
        for unit in range(begin, end, sizes.lanes):
            if level_range(cell, level)[1] == mean_count(cell):  # of the groups the first one backward
                prefetch_slots(cell, arrays.slots, _slots_at(cell, sizes, t, row + 1, unit), sizes.padded)
            slots, previous, states, vectors, gradient = _incoming(
                cell, weights, arrays, gradients, sizes, t, row, unit, common
            )
            values, reused = cell_dmeans(cell, level, slots, previous, states, vectors, gradient)
            target = _reused_at(cell, sizes, row, unit) + first_dreused(cell, level) * sizes.padded
            store_vectors(gradients.reused, target, sizes.padded, reused, FULL)
            sums = add_valid(sums, values, sizes.hidden - unit)
    return sums


@njit(**INLINE)
def _sum_means_back(cell, level, weights, arrays, gradients, sizes, t, share):
    """A share's sums for the gradients of the means of a group."""
    tiles = tile_count(share, BACK_ROWS)
    first, last = tile_range(share, _panels(sizes.padded, sizes.lanes), tiles)
    begin_mean, _ = level_range(cell, level)
    for tile in range(tiles):
        begin, end = _units_of(sizes, first, last, tiles, tile)
        row, rows = tile_of(share, tiles, tile)
        for r in range(row, row + rows):
            sums = _contributions(cell, level, weights, arrays, gradients, sizes, t, r, begin, end)
            place = partial_at(cell, sizes, share.piece, r, begin_mean)
            store_vectors(gradients.partial, place, sizes.lanes, sums, FULL)


@njit(**INLINE)
def _finish_means_back(cell, level, gradients, sizes, share):
    """The gradients of the means of a group on a share's rows, from all sums."""
    first, last = level_range(cell, level)
    finish_means(cell, gradients.partial, gradients.dmeans, 0, sizes, share, first, last)


def _equations_or_means(
    cell: Any, weights: Any, arrays: Any, gradients: Any, sizes: Any, step: Any, share: Any
) -> Any:
    """What follows the product of a step: the cell's backward equations, or of a cell with means, as the
    equations need all units, a share's sums for the gradients of the last group.
    """
    raise NotImplementedError


@overload(_equations_or_means, INLINE)
def _(cell, weights, arrays, gradients, sizes, step, share):
    final = len(cell.instance_class.stages) == 1
    last = len(cell.instance_class.mean_levels) - 1
    if last < 0:
        return lambda cell, weights, arrays, gradients, sizes, step, share: _equations_back(
            cell, weights, arrays, gradients, sizes, step, share, final
        )
    return lambda cell, weights, arrays, gradients, sizes, step, share: _sum_means_back(
        cell, last, weights, arrays, gradients, sizes, time_of(sizes, step), share
    )


def _after_means_back(
    cell: Any, group: Any, level: Any, weights: Any, arrays: Any, gradients: Any, sizes: Any, step: Any,
    share: Any,
) -> Any:  # fmt: skip
    """What follows the sums for the gradients of the means of a group, `level`, when all threads have theirs:
    these gradients, and with them the sums of the group before, or the cell's backward equations. It is
    `group`, a literal, or an earlier one.
    """
    raise NotImplementedError


@overload(_after_means_back, CALLEE, prefer_literal=True)
def _(cell, group, level, weights, arrays, gradients, sizes, step, share):
    this = group.literal_value
    before = this - 1

    def search(cell, group, level, weights, arrays, gradients, sizes, step, share):
        if level == this:
            _finish_means_back(cell, this, gradients, sizes, share)
            _sum_means_back(cell, before, weights, arrays, gradients, sizes, time_of(sizes, step), share)
        else:
            _after_means_back(cell, before, level, weights, arrays, gradients, sizes, step, share)

    def first(cell, group, level, weights, arrays, gradients, sizes, step, share):
        _finish_means_back(cell, 0, gradients, sizes, share)
        _equations_back(cell, weights, arrays, gradients, sizes, step, share, True)

    return search if this > 0 else first


@njit(**CALLEE)
def _second_stage_back_tiles(cell, weights, arrays, gradients, sizes, step, share):
    t = time_of(sizes, step)
    tiles = tile_count(share, BACK_ROWS)
    first, last = tile_range(share, _panels(sizes.padded, sizes.lanes), tiles)
    for n in range(first, last):
        index = serpentine(first, last, n, t)
        row, rows = tile_of(share, tiles, index % tiles)
        _product_back(
            cell, 1, weights, arrays, sizes, t, row, rows, weights.second, index // tiles,
            gradients.doperand, False,
        )  # fmt: skip
    for tile in range(tiles):
        begin, end = _units_of(sizes, first, last, tiles, tile)
        row, rows = tile_of(share, tiles, tile)
        for r in range(row, row + rows):
            for unit in range(begin, end, sizes.lanes):
                _operand_gradients(cell, weights, arrays, gradients, sizes, t, share.part, r, unit)


@njit(**INLINE)
def _first_round_back(cell, weights, arrays, gradients, sizes, step, share):
    """What the later step gives this one, and what follows from it; nothing before the first step, at -1."""
    _products_back(cell, weights, arrays, gradients, sizes, step, share)
    if step >= 0:
        _equations_or_means(cell, weights, arrays, gradients, sizes, step, share)


def _later_round_back(
    cell: Any, number: Any, weights: Any, arrays: Any, gradients: Any, sizes: Any, step: Any, share: Any
) -> Any:
    """One of the rounds of a step after the first, `later_rounds`."""
    raise NotImplementedError


@overload(_later_round_back)
def _(cell, number, weights, arrays, gradients, sizes, step, share):
    if len(cell.instance_class.stages) > 1:
        return lambda cell, number, weights, arrays, gradients, sizes, step, share: _second_stage_back_tiles(
            cell, weights, arrays, gradients, sizes, step, share
        )
    last = len(cell.instance_class.mean_levels) - 1
    if last >= 0:
        return lambda cell, number, weights, arrays, gradients, sizes, step, share: _after_means_back(
            cell, last, last - number, weights, arrays, gradients, sizes, step, share
        )
    return lambda cell, number, weights, arrays, gradients, sizes, step, share: None


@njit(**CALLEE)
def _input_gradients(cell, weights, arrays, gradients, sizes, share):
    """Slot gradients of all steps times the input weights, on one thread's share.

    The inner dimension is cut, between slots, where a panel would outgrow the cache.
    """
    if pointer_address(gradients.dx) == 0:
        return
    slot_row = slot_count(cell) * sizes.padded
    whole = input_count(cell) * sizes.padded
    depth = max(1, PANEL_NUMBERS // (BACK_VECTORS * sizes.lanes * sizes.padded)) * sizes.padded
    units = -(-sizes.inputs // sizes.lanes) * sizes.lanes
    tiles = tile_count(share, BACK_ROWS)
    begin, end = tile_range(share, _panels(units, sizes.lanes), tiles)
    for panel in range(begin // tiles, -(-end // tiles)):
        for first in range(0, whole, depth):
            numbers = min(depth, whole - first)
            for t in range(sizes.steps):
                for tile in range(max(0, begin - panel * tiles), min(tiles, end - panel * tiles)):
                    row, rows = tile_of(share, tiles, tile)
                    _panel_product(
                        weights, rows, arrays.slots, t * sizes.slot_step + row * slot_row, slot_row,
                        weights.input, panel, first, numbers, whole, sizes.lanes, units,
                        gradients.dx, (t * sizes.batch + row) * units, units, first > 0,
                    )  # fmt: skip


@njit(**INLINE)
def backward_by_batch(cell, weights, arrays, gradients, sizes, parts, part):
    """All steps of one of the parts of the rows."""
    for chunk in range(sizes.chunks):
        share = share_rows(sizes, parts, part, sizes.chunks, chunk)
        for step in range(sizes.steps - 1, -2, -1):
            _first_round_back(cell, weights, arrays, gradients, sizes, step, share)
            for number in range(later_rounds(cell) if step >= 0 else 0):
                _later_round_back(cell, number, weights, arrays, gradients, sizes, step, share)
        _input_gradients(cell, weights, arrays, gradients, sizes, share)


@njit(**INLINE)
def backward_by_units(cell, weights, arrays, gradients, sizes, parts, part):
    """All steps, whose units threads share in so many parts; `part` is this thread's."""
    rounds, number, expected = arrays.rounds, np.int64(0), np.int64(0)
    for step in range(sizes.steps - 1, -3, -1):
        for later in range(1 + (later_rounds(cell) if step >= 0 else 0)):
            number, expected = number + 1, expected + parts
            piece = next_part(rounds, parts, part, number, expected)
            while piece >= 0:
                share = share_units(sizes, parts, piece)
                if step == -2:
                    _input_gradients(cell, weights, arrays, gradients, sizes, share)
                elif later == 0:
                    _first_round_back(cell, weights, arrays, gradients, sizes, step, share)
                else:
                    _later_round_back(cell, later - 1, weights, arrays, gradients, sizes, step, share)
                finish_part(rounds, expected)
                piece = next_part(rounds, parts, part, number, expected)
