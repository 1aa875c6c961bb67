"""Weights laid out as the register tiles read them.

A panel holds the weights of one vector of hidden units, for all slots that a product feeds: row k is
the slots' registers side by side. So one pass over the rows of a panel leaves every pre-activation of
those units in registers, and the gate equations follow while they are in the nearest cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from lstm_numba.cpu.arrays import aligned_empty, aligned_zeros
from lstm_numba.cpu.options import PARALLEL
from lstm_numba.cpu.target import lanes, round_up
from lstm_numba.cpu.transpose import run_copier, transpose_square

#: Width, in vectors, of the tiles of the product that takes gradients back through the recurrent weights.
BACK_VECTORS = 2

_copy_panel_row = run_copier(lambda dtype: BACK_VECTORS * lanes(dtype.name))


@njit(**PARALLEL)
def _pack_gates(weight, depth, gates, hidden, lane, packed):
    """Panel p, row k, slot s, lane l  <-  weight[gates[s] * hidden + p * lane + l, k]; zero past `hidden`."""
    slots = gates.size
    panels = -(-hidden // lane)
    for panel in prange(panels):
        units = min(lane, hidden - panel * lane)
        whole = depth // lane * lane if units == lane else 0
        for s in range(slots):
            source = (gates[s] * hidden + panel * lane) * depth
            target = (panel * depth * slots + s) * lane
            for k in range(0, whole, lane):
                transpose_square(weight, source + k, depth, packed, target + k * slots * lane, slots * lane)
            for k in range(whole, depth):
                for unit in range(units):
                    packed[target + k * slots * lane + unit] = weight[source + unit * depth + k]
                for unit in range(units, lane):
                    packed[target + k * slots * lane + unit] = 0


@njit(**PARALLEL)
def _pack_transposed(weight, gates, hidden, padded, width, packed):
    """Panel p, row (s, unit), column n  <-  weight[gates[s] * hidden + unit, p * width + n]; zero outside."""
    slots = gates.size
    panels = -(-hidden // width)
    for panel in prange(panels):
        base = panel * slots * padded * width
        columns = min(width, hidden - panel * width)
        for s in range(slots):
            for unit in range(padded):
                target = base + (s * padded + unit) * width
                source = (gates[s] * hidden + unit) * hidden + panel * width
                if unit < hidden and columns == width:
                    _copy_panel_row(weight, source, packed, target)
                elif unit < hidden:
                    for n in range(columns):
                        packed[target + n] = weight[source + n]
                    for n in range(columns, width):
                        packed[target + n] = 0
                else:
                    for n in range(width):
                        packed[target + n] = 0


def padded_size(hidden: int, dtype: Any) -> int:
    """Hidden units rounded up to whole vectors."""
    return round_up(hidden, lanes(dtype))


def pack_gates(weight: np.ndarray[Any, Any], gates: tuple[int, ...], hidden: int) -> np.ndarray[Any, Any]:
    """Pack rows of gates for the forward products.

    Parameters
    ----------
    weight : ndarray, shape (len(cell.gates) * hidden, K)
    gates : tuple of int
        The gates that feed the product's slots, in the slots' order.
    hidden : int

    Returns
    -------
    ndarray, 1-D
    """
    lane = lanes(weight.dtype)
    packed = aligned_empty((padded_size(hidden, weight.dtype) * len(gates) * weight.shape[1],), weight.dtype)
    flat = np.ascontiguousarray(weight).reshape(-1)
    _pack_gates(flat, weight.shape[1], np.array(gates, np.int64), hidden, lane, packed)
    return packed


def pack_transposed(
    weight: np.ndarray[Any, Any], gates: tuple[int, ...], hidden: int
) -> np.ndarray[Any, Any]:
    """Pack a recurrent weight for the product of slot gradients with it: (slots, units) to units."""
    width = BACK_VECTORS * lanes(weight.dtype)
    padded = padded_size(hidden, weight.dtype)
    packed = aligned_empty((round_up(hidden, width) * len(gates) * padded,), weight.dtype)
    _pack_transposed(
        np.ascontiguousarray(weight).reshape(-1), np.array(gates, np.int64), hidden, padded, width, packed
    )
    return packed


def pad_slots(weight: np.ndarray[Any, Any], gates: tuple[int, ...], hidden: int) -> np.ndarray[Any, Any]:
    """Rows of gates in the slots' order and padding: shape (len(gates) * padded, K)."""
    padded = padded_size(hidden, weight.dtype)
    if padded == hidden and gates == tuple(range(len(weight) // hidden)):
        return weight
    rows = np.zeros((len(gates), padded, weight.shape[1]), weight.dtype)
    for slot, gate in enumerate(gates):
        rows[slot, :hidden] = weight[gate * hidden : (gate + 1) * hidden]
    return rows.reshape(len(gates) * padded, weight.shape[1])


def unpad_slots(
    slots: np.ndarray[Any, Any], gates: tuple[int, ...], hidden: int, out: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """The inverse of `pad_slots`, written to (not added to) the gates' rows of `out`."""
    blocks = slots.reshape(len(gates), -1, *slots.shape[1:])
    for slot, gate in enumerate(gates):
        out[gate * hidden : (gate + 1) * hidden] = blocks[slot, :hidden]
    return out


def slot_bias(
    cell: Any, params: dict[str, np.ndarray[Any, Any]], hidden: int, dtype: Any
) -> np.ndarray[Any, Any]:
    """Both biases summed where they meet, per slot and padded: 1-D, len(cell.slots) * padded."""
    bias = aligned_zeros((len(cell.slots), padded_size(hidden, dtype)), dtype)
    if "bias_ih" in params:
        for slot, gate in enumerate(cell.input_gates):
            bias[slot, :hidden] += params["bias_ih"][gate * hidden : (gate + 1) * hidden]
        for stage in cell.stages:
            for slot, gate in enumerate(stage.gates, stage.first):
                bias[slot, :hidden] += params["bias_hh"][gate * hidden : (gate + 1) * hidden]
    flat: np.ndarray[Any, Any] = bias.reshape(-1)
    return flat


def padded_peephole(
    cell: Any, params: dict[str, np.ndarray[Any, Any]], hidden: int, dtype: Any
) -> np.ndarray[Any, Any]:
    """Peephole weights padded to whole vectors: 1-D, len(cell.peepholes) * padded (at least one)."""
    count = len(cell.peepholes)
    peephole = aligned_zeros((max(1, count), padded_size(hidden, dtype)), dtype)
    if count:
        peephole[:, :hidden] = params["weight_ph"].reshape(count, hidden)
    flat: np.ndarray[Any, Any] = peephole.reshape(-1)
    return flat
