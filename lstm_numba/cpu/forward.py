"""A sequence forward, for any cell.

Work is cut into tiles: a few rows of the batch times one vector of hidden units. A step computes a
tile's products and at once its gate equations, while its numbers are in the nearest cache. Threads share
either the rows, each running all steps on its own, or the units, meeting after every product.
"""

from __future__ import annotations

from typing import Any

from numba import njit, prange
from numba.extending import overload

from lstm_numba.cpu.dispatch import (
    cell_forward,
    cell_message,
    clear_hidden_slots,
    gate_product,
    load_biased_slots,
    load_peephole,
    slot_count,
    tile_height,
)
from lstm_numba.cpu.layout import FULL, load_states, neighbours, split, store_states
from lstm_numba.cpu.options import INLINE, PARALLEL, SERIAL
from lstm_numba.cpu.simd import store_vectors


@njit(**INLINE)
def _cell_equations(cell, weights, arrays, sizes, t, row, unit, at):
    """The cell's equations on one vector of units."""
    before, after = neighbours(sizes, t)
    previous = load_states(cell, arrays, sizes, before, row, unit)
    if t < arrays.lengths[row]:
        slots = load_biased_slots(cell, arrays.slots, at, weights.bias, unit, sizes.padded)
        peephole = load_peephole(cell, weights.peephole, unit, sizes.padded, FULL)
        kept, states = cell_forward(cell, slots, previous, peephole)
        store_vectors(arrays.slots, at, sizes.padded, kept, FULL)
        store_states(arrays, sizes, after, row, unit, states)
    else:
        store_states(arrays, sizes, after, row, unit, previous)


@njit(**INLINE)
def _message_equations(cell, weights, arrays, sizes, t, row, unit, at):
    """The operand of the second product on one vector of units; zero past a sequence's end."""
    before, _ = neighbours(sizes, t)
    target = (t - sizes.origin) * sizes.message_step + row * sizes.hidden + unit
    if t < arrays.lengths[row]:
        previous = load_states(cell, arrays, sizes, before, row, unit)
        slots = load_biased_slots(cell, arrays.slots, at, weights.bias, unit, sizes.padded)
        message = cell_message(cell, slots, previous)
        store_vectors(arrays.message, target, 0, (message,), sizes.hidden - unit)
    else:
        store_vectors(arrays.message, target, 0, (0.0,), sizes.hidden - unit)


def _equations_after_first(cell: Any, weights: Any, arrays: Any, sizes: Any, t: Any, row: Any, unit: Any, at: Any) -> Any:
    """What follows the first product: the cell's equations, or the message that the second one needs."""
    raise NotImplementedError


@overload(_equations_after_first, INLINE)
def _(cell, weights, arrays, sizes, t, row, unit, at):
    if len(cell.instance_class.stages) == 1:
        return lambda cell, weights, arrays, sizes, t, row, unit, at: _cell_equations(
            cell, weights, arrays, sizes, t, row, unit, at
        )
    return lambda cell, weights, arrays, sizes, t, row, unit, at: _message_equations(
        cell, weights, arrays, sizes, t, row, unit, at
    )


@njit(**INLINE)
def _place(cell, sizes, t, row, unit):
    """Where the slots of a row and unit begin, and numbers from one row to the next."""
    slot_row = slot_count(cell) * sizes.padded
    return (t - sizes.origin) * sizes.slot_step + row * slot_row + unit, slot_row


@njit(**SERIAL)
def _first_stage(cell, weights, arrays, sizes, x, t, top, bottom, first_panel, last_panel):
    """First (mostly only) stage of one step, rows [top, bottom) and panels of units [first, last)."""
    before, _ = neighbours(sizes, t)
    tiles = -(-(bottom - top) // tile_height(cell))
    for panel in range(first_panel, last_panel):
        unit = panel * sizes.lanes
        for tile in range(tiles):
            begin, end = split(bottom - top, tiles, tile)
            row = top + begin
            rows = end - begin
            at, slot_row = _place(cell, sizes, t, row, unit)
            if sizes.project:
                gate_product(
                    cell, -1, rows, x, (t * sizes.batch + row) * sizes.inputs, sizes.inputs, weights.input,
                    panel, sizes.inputs, sizes.lanes, arrays.slots, at, slot_row, sizes.padded, False,
                )  # fmt: skip
            clear_hidden_slots(cell, rows, arrays.slots, at, slot_row, sizes.padded)
            gate_product(
                cell, 0, rows, arrays.h, (before * sizes.batch + row) * sizes.hidden, sizes.hidden,
                weights.first, panel, sizes.hidden, sizes.lanes, arrays.slots, at, slot_row, sizes.padded, True,
            )  # fmt: skip
            for r in range(rows):
                _equations_after_first(
                    cell, weights, arrays, sizes, t, row + r, unit, at + r * slot_row
                )


@njit(**SERIAL)
def _second_stage_tiles(cell, weights, arrays, sizes, t, top, bottom, first_panel, last_panel):
    tiles = -(-(bottom - top) // tile_height(cell))
    for panel in range(first_panel, last_panel):
        unit = panel * sizes.lanes
        for tile in range(tiles):
            begin, end = split(bottom - top, tiles, tile)
            row = top + begin
            rows = end - begin
            at, slot_row = _place(cell, sizes, t, row, unit)
            source = (t - sizes.origin) * sizes.message_step + row * sizes.hidden
            gate_product(
                cell, 1, rows, arrays.message, source, sizes.hidden, weights.second, panel,
                sizes.hidden, sizes.lanes, arrays.slots, at, slot_row, sizes.padded, True,
            )  # fmt: skip
            for r in range(rows):
                _cell_equations(cell, weights, arrays, sizes, t, row + r, unit, at + r * slot_row)


def _second_stage(cell: Any, weights: Any, arrays: Any, sizes: Any, t: Any, top: Any, bottom: Any,
                  first_panel: Any, last_panel: Any) -> Any:  # fmt: skip
    """Second stage of one step; nothing for a cell of one stage."""
    raise NotImplementedError


@overload(_second_stage)
def _(cell, weights, arrays, sizes, t, top, bottom, first_panel, last_panel):
    if len(cell.instance_class.stages) == 1:
        return lambda cell, weights, arrays, sizes, t, top, bottom, first_panel, last_panel: None
    return lambda cell, weights, arrays, sizes, t, top, bottom, first_panel, last_panel: _second_stage_tiles(
        cell, weights, arrays, sizes, t, top, bottom, first_panel, last_panel
    )


@njit(**PARALLEL)
def forward_by_rows(cell, weights, arrays, sizes, x, start, stop, parts):
    """Steps [start, stop) of a sequence; each thread takes its share of the rows through all of them."""
    panels = sizes.padded // sizes.lanes
    for part in prange(parts):
        top, bottom = split(sizes.batch, parts, part)
        for step in range(start, stop):
            t = sizes.steps - 1 - step if sizes.reverse else step
            _first_stage(cell, weights, arrays, sizes, x, t, top, bottom, 0, panels)
            _second_stage(cell, weights, arrays, sizes, t, top, bottom, 0, panels)


@njit(**PARALLEL)
def forward_by_units(cell, weights, arrays, sizes, x, start, stop, parts, two_stages):
    """Steps [start, stop) of a sequence; in each, every thread takes its share of the hidden units.

    Each thread reads only its own part of the recurrent weights, which for large layers would not fit
    one core's cache.
    """
    panels = sizes.padded // sizes.lanes
    for step in range(start, stop):
        t = sizes.steps - 1 - step if sizes.reverse else step
        for part in prange(parts):
            first, last = split(panels, parts, part)
            _first_stage(cell, weights, arrays, sizes, x, t, 0, sizes.batch, first, last)
        if two_stages:
            for part in prange(parts):
                first, last = split(panels, parts, part)
                _second_stage(cell, weights, arrays, sizes, t, 0, sizes.batch, first, last)
