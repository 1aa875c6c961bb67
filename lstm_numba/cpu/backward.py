"""A sequence backward, for any cell: back-propagation through time over what the forward pass kept.

The same tiles as forward, two vectors of units wide. A step first takes the later step's slot gradients
back through the recurrent weights, then the state gradients through the cell's equations. The slots are
overwritten by their gradients, from which the weights' gradients follow as one product over all steps.
"""

from __future__ import annotations

from typing import Any

from numba import njit, prange
from numba.extending import overload

from lstm_numba.cpu.dispatch import (
    cell_backward,
    cell_message_backward,
    load_memory,
    load_peephole,
    load_slots,
    load_vector,
    slot_count,
    stage_first,
    stage_width,
    zero_slots,
)
from lstm_numba.cpu.layout import (
    FULL,
    load_states,
    neighbours,
    share_rows,
    share_units,
    tile_count,
    tile_of,
    time_of,
)
from lstm_numba.cpu.options import INLINE, PARALLEL, SERIAL
from lstm_numba.cpu.packing import BACK_VECTORS
from lstm_numba.cpu.simd import accumulate_vectors, store_vectors
from lstm_numba.cpu.target import tile_rows
from lstm_numba.cpu.tile import tile_product

BACK_ROWS = tile_rows(BACK_VECTORS)


@njit(**INLINE)
def _accumulate(cell, gradients, sizes, part, unit, dslots, dpeephole):
    """Add a row to this thread's sums for biases and peepholes."""
    slots = len(dslots)
    at = part * (slots + len(dpeephole)) * sizes.padded + unit
    accumulate_vectors(gradients.sums, at, sizes.padded, dslots)
    accumulate_vectors(gradients.sums, at + slots * sizes.padded, sizes.padded, dpeephole)


@njit(**INLINE)
def _cell_gradients(cell, weights, arrays, gradients, sizes, t, part, row, unit, final):
    """The cell's backward equations on one vector of units."""
    at = t * sizes.slot_step + row * slot_count(cell) * sizes.padded + unit
    if t >= arrays.lengths[row]:
        # The state was carried along: so is its gradient, and nothing reaches the weights.
        store_vectors(arrays.slots, at, sizes.padded, zero_slots(cell), FULL)
        return
    before, after = neighbours(sizes, t)
    dh_at = row * gradients.row + unit
    dy_at = (t * sizes.batch + row) * gradients.dy_row + unit
    dh = load_vector(cell, gradients.dh, dh_at, 0, FULL)[0]
    dy = load_vector(cell, gradients.dy, dy_at, 0, sizes.hidden - unit)[0]
    dmemory = load_memory(cell, gradients.dmemory, dh_at, gradients.state, FULL)
    previous = load_states(cell, arrays, sizes, before, row, unit)
    states = load_states(cell, arrays, sizes, after, row, unit)
    slots = load_slots(cell, arrays.slots, at, sizes.padded, FULL)
    peephole = load_peephole(cell, weights.peephole, unit, sizes.padded, FULL)
    gradient = (dh + dy, *dmemory)
    dslots, dprevious, dpeephole = cell_backward(cell, slots, previous, states, peephole, gradient)
    store_vectors(arrays.slots, at, sizes.padded, dslots, FULL)
    store_vectors(gradients.dh, dh_at, 0, dprevious[:1], FULL)
    store_vectors(gradients.dmemory, dh_at, gradients.state, dprevious[1:], FULL)
    if final:
        _accumulate(cell, gradients, sizes, part, unit, dslots, dpeephole)


@njit(**INLINE)
def _message_gradients(cell, arrays, gradients, sizes, t, part, row, unit):
    """The backward equations of the message on one vector of units."""
    if t >= arrays.lengths[row]:
        return
    before, _ = neighbours(sizes, t)
    at = t * sizes.slot_step + row * slot_count(cell) * sizes.padded + unit
    dh_at = row * gradients.row + unit
    previous = load_states(cell, arrays, sizes, before, row, unit)
    slots = load_slots(cell, arrays.slots, at, sizes.padded, FULL)
    dmessage = load_vector(cell, gradients.dmessage, dh_at, 0, FULL)[0]
    dslots, dprevious = cell_message_backward(cell, slots, previous, dmessage)
    store_vectors(arrays.slots, at, sizes.padded, dslots, FULL)
    accumulate_vectors(gradients.dh, dh_at, 0, dprevious)
    _accumulate(cell, gradients, sizes, part, unit, dslots, ())


@njit(**INLINE)
def _product_back(cell, number, arrays, sizes, t, row, rows, packed, panel, target, gradients, add):
    """Slot gradients of time t times the recurrent weights of a stage: one tile of a state's gradient.

    For the second stage, of the message's gradient.
    """
    slot_row = slot_count(cell) * sizes.padded
    source = t * sizes.slot_step + row * slot_row + stage_first(cell, number) * sizes.padded
    depth = stage_width(cell, number) * sizes.padded
    width = BACK_VECTORS * sizes.lanes
    tile_product(
        BACK_VECTORS, rows, arrays.slots, source, slot_row, 1, packed, panel * depth * width, depth,
        target, row * gradients.row + panel * width, gradients.row, sizes.lanes, add,
    )  # fmt: skip


@njit(**INLINE)
def _panel_end(sizes, panel):
    """One past the last unit of a panel, or the end of the padded units."""
    return min((panel + 1) * BACK_VECTORS * sizes.lanes, sizes.padded)


@njit(**SERIAL)
def _first_stage_back(cell, weights, arrays, gradients, sizes, step, share, final):
    """Gradients at one step, on one thread's share.

    The last step has no later one to take gradients back from. Step -1 lies before the first and has no
    equations: what arrives there is the initial state's gradient.
    """
    t = time_of(sizes, step)
    later = time_of(sizes, step + 1)
    for panel in range(share.first, share.last):
        begin = panel * BACK_VECTORS * sizes.lanes
        for tile in range(tile_count(share, BACK_ROWS)):
            row, rows = tile_of(share, BACK_ROWS, tile)
            if step + 1 < sizes.steps:
                _product_back(
                    cell,
                    0,
                    arrays,
                    sizes,
                    later,
                    row,
                    rows,
                    weights.first,
                    panel,
                    gradients.dh,
                    gradients,
                    True,
                )
            if step >= 0:
                for unit in range(begin, _panel_end(sizes, panel), sizes.lanes):
                    for r in range(row, row + rows):
                        _cell_gradients(
                            cell, weights, arrays, gradients, sizes, t, share.part, r, unit, final
                        )


@njit(**SERIAL)
def _second_stage_back_tiles(cell, weights, arrays, gradients, sizes, step, share):
    t = time_of(sizes, step)
    for panel in range(share.first, share.last):
        begin = panel * BACK_VECTORS * sizes.lanes
        for tile in range(tile_count(share, BACK_ROWS)):
            row, rows = tile_of(share, BACK_ROWS, tile)
            _product_back(
                cell,
                1,
                arrays,
                sizes,
                t,
                row,
                rows,
                weights.second,
                panel,
                gradients.dmessage,
                gradients,
                False,
            )
            for unit in range(begin, _panel_end(sizes, panel), sizes.lanes):
                for r in range(row, row + rows):
                    _message_gradients(cell, arrays, gradients, sizes, t, share.part, r, unit)


def _second_stage_back(
    cell: Any, weights: Any, arrays: Any, gradients: Any, sizes: Any, step: Any, share: Any
) -> Any:
    """Gradients of the second stage; nothing for a cell of one stage."""
    raise NotImplementedError


@overload(_second_stage_back)
def _(cell, weights, arrays, gradients, sizes, step, share):
    if len(cell.instance_class.stages) == 1:
        return lambda cell, weights, arrays, gradients, sizes, step, share: None

    def run(cell, weights, arrays, gradients, sizes, step, share):
        _second_stage_back_tiles(cell, weights, arrays, gradients, sizes, step, share)

    return run


@njit(**PARALLEL)
def backward_by_rows(cell, weights, arrays, gradients, sizes, parts, two_stages):
    """All steps backward; each thread takes its share of the rows through all of them."""
    panels = -(-sizes.padded // (BACK_VECTORS * sizes.lanes))
    for part in prange(parts):
        share = share_rows(sizes, panels, parts, part)
        for step in range(sizes.steps - 1, -2, -1):
            _first_stage_back(cell, weights, arrays, gradients, sizes, step, share, not two_stages)
            if step >= 0:
                _second_stage_back(cell, weights, arrays, gradients, sizes, step, share)


@njit(**PARALLEL)
def backward_by_units(cell, weights, arrays, gradients, sizes, parts, two_stages):
    """All steps backward; in each, every thread takes its share of the hidden units."""
    panels = -(-sizes.padded // (BACK_VECTORS * sizes.lanes))
    for step in range(sizes.steps - 1, -2, -1):
        for part in prange(parts):
            share = share_units(sizes, panels, parts, part)
            _first_stage_back(cell, weights, arrays, gradients, sizes, step, share, not two_stages)
        if two_stages and step >= 0:
            for part in prange(parts):
                share = share_units(sizes, panels, parts, part)
                _second_stage_back(cell, weights, arrays, gradients, sizes, step, share)
