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
from lstm_numba.cpu.layout import FULL, load_states, neighbours, split
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
    dslots, dprevious, dpeephole = cell_backward(cell, slots, previous, states, peephole, (dh + dy,) + dmemory)
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
def _product_back(cell, slots, at, first, width, packed, panel, rows, target, target_at, sizes, row_stride, add):
    """Slot gradients times recurrent weights: one tile of a state's (or the message's) gradient."""
    depth = width * sizes.padded
    panel_width = BACK_VECTORS * sizes.lanes
    tile_product(
        BACK_VECTORS, rows, slots, at + first * sizes.padded, slot_count(cell) * sizes.padded, 1,
        packed, panel * depth * panel_width, depth, target, target_at, row_stride, sizes.lanes, add,
    )  # fmt: skip


@njit(**SERIAL)
def _first_stage_back(cell, weights, arrays, gradients, sizes, step, part, top, bottom, first_panel, last_panel, final):
    """Gradients at one step, rows [top, bottom) and panels [first, last).

    Step ``steps`` lies after the last one and has nothing to take back; step -1 lies before the first and
    has no equations: what arrives there is the initial state's gradient.
    """
    t = sizes.steps - 1 - step if sizes.reverse else step
    later = t - 1 if sizes.reverse else t + 1
    tiles = -(-(bottom - top) // BACK_ROWS)
    for panel in range(first_panel, last_panel):
        for tile in range(tiles):
            begin, end = split(bottom - top, tiles, tile)
            row = top + begin
            rows = end - begin
            begin_unit = panel * BACK_VECTORS * sizes.lanes
            if step + 1 < sizes.steps:
                at = later * sizes.slot_step + row * slot_count(cell) * sizes.padded
                _product_back(
                    cell, arrays.slots, at, stage_first(cell, 0), stage_width(cell, 0), weights.first, panel, rows,
                    gradients.dh, row * gradients.row + begin_unit, sizes, gradients.row, True,
                )  # fmt: skip
            if step >= 0:
                for unit in range(begin_unit, min(begin_unit + BACK_VECTORS * sizes.lanes, sizes.padded), sizes.lanes):
                    for r in range(row, row + rows):
                        _cell_gradients(cell, weights, arrays, gradients, sizes, t, part, r, unit, final)


@njit(**SERIAL)
def _second_stage_back_tiles(cell, weights, arrays, gradients, sizes, step, part, top, bottom, first_panel, last_panel):
    t = sizes.steps - 1 - step if sizes.reverse else step
    tiles = -(-(bottom - top) // BACK_ROWS)
    for panel in range(first_panel, last_panel):
        for tile in range(tiles):
            begin, end = split(bottom - top, tiles, tile)
            row = top + begin
            rows = end - begin
            begin_unit = panel * BACK_VECTORS * sizes.lanes
            at = t * sizes.slot_step + row * slot_count(cell) * sizes.padded
            _product_back(
                cell, arrays.slots, at, stage_first(cell, 1), stage_width(cell, 1), weights.second, panel, rows,
                gradients.dmessage, row * gradients.row + begin_unit, sizes, gradients.row, False,
            )  # fmt: skip
            for unit in range(begin_unit, min(begin_unit + BACK_VECTORS * sizes.lanes, sizes.padded), sizes.lanes):
                for r in range(row, row + rows):
                    _message_gradients(cell, arrays, gradients, sizes, t, part, r, unit)


def _second_stage_back(cell: Any, weights: Any, arrays: Any, gradients: Any, sizes: Any, step: Any, part: Any,
                       top: Any, bottom: Any, first_panel: Any, last_panel: Any) -> Any:  # fmt: skip
    """Gradients of the second stage; nothing for a cell of one stage."""
    raise NotImplementedError


@overload(_second_stage_back)
def _(cell, weights, arrays, gradients, sizes, step, part, top, bottom, first_panel, last_panel):
    if len(cell.instance_class.stages) == 1:
        return (
            lambda cell, weights, arrays, gradients, sizes, step, part, top, bottom, first_panel, last_panel: None
        )
    return (
        lambda cell, weights, arrays, gradients, sizes, step, part, top, bottom, first_panel, last_panel: (
            _second_stage_back_tiles(
                cell, weights, arrays, gradients, sizes, step, part, top, bottom, first_panel, last_panel
            )
        )
    )


@njit(**PARALLEL)
def backward_by_rows(cell, weights, arrays, gradients, sizes, parts, two_stages):
    """All steps backward; each thread takes its share of the rows through all of them."""
    panels = -(-sizes.padded // (BACK_VECTORS * sizes.lanes))
    for part in prange(parts):
        top, bottom = split(sizes.batch, parts, part)
        for step in range(sizes.steps - 1, -1, -1):
            _first_stage_back(
                cell, weights, arrays, gradients, sizes, step, part, top, bottom, 0, panels, not two_stages
            )
            _second_stage_back(cell, weights, arrays, gradients, sizes, step, part, top, bottom, 0, panels)
        _first_stage_back(cell, weights, arrays, gradients, sizes, -1, part, top, bottom, 0, panels, False)


@njit(**PARALLEL)
def backward_by_units(cell, weights, arrays, gradients, sizes, parts, two_stages):
    """All steps backward; in each, every thread takes its share of the hidden units."""
    panels = -(-sizes.padded // (BACK_VECTORS * sizes.lanes))
    for step in range(sizes.steps - 1, -2, -1):
        for part in prange(parts):
            first, last = split(panels, parts, part)
            _first_stage_back(
                cell, weights, arrays, gradients, sizes, step, part, 0, sizes.batch, first, last, not two_stages
            )
        if two_stages and step >= 0:
            for part in prange(parts):
                first, last = split(panels, parts, part)
                _second_stage_back(
                    cell, weights, arrays, gradients, sizes, step, part, 0, sizes.batch, first, last
                )
