"""Weights laid out as the register tiles read them.

A panel holds the weights of one vector of hidden units, for all slots that a product feeds: row k is
the slots' registers side by side. So one pass over the rows of a panel leaves every pre-activation of
those units in registers, and the gate equations follow while they are in the nearest cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange

from lstm_numba.cpu.arrays import address, aligned_empty, aligned_zeros
from lstm_numba.cpu.layout import split
from lstm_numba.cpu.options import INLINE, PARALLEL, SERIAL
from lstm_numba.cpu.simd import pointer_to
from lstm_numba.cpu.target import lanes, round_up
from lstm_numba.cpu.transpose import run_copier, transpose_square

#: Width, in vectors, of the tiles of the product that takes gradients back through the recurrent weights.
BACK_VECTORS = 2

_copy_panel_row = run_copier(lambda dtype: BACK_VECTORS * lanes(dtype.name))


class _Job(NamedTuple):
    """What a packing kernel is to do, as numbers; followed by the gates."""

    weight: int
    packed: int
    columns: int
    hidden: int
    lane: int
    slots: int


GATES = len(_Job._fields)


@njit(**INLINE)
def _unpack(job):
    return _Job(job[0], job[1], job[2], job[3], job[4], job[5])


@njit(**SERIAL)
def gates_kernel(job, zero, first, last):
    """Panel p, row k, slot s, lane l  <-  weight[gates[s] * hidden + p * lane + l, k]; zero past `hidden`."""
    _, _, depth, hidden, lane, slots = _unpack(job)
    weight, packed = pointer_to(job[0], zero), pointer_to(job[1], zero)
    for panel in range(first, last):
        units = min(lane, hidden - panel * lane)
        whole = depth // lane * lane if units == lane else 0
        for s in range(slots):
            source = (job[GATES + s] * hidden + panel * lane) * depth
            target = (panel * depth * slots + s) * lane
            for k in range(0, whole, lane):
                transpose_square(weight, source + k, depth, packed, target + k * slots * lane, slots * lane)
            for k in range(whole, depth):
                for unit in range(units):
                    packed[target + k * slots * lane + unit] = weight[source + unit * depth + k]
                for unit in range(units, lane):
                    packed[target + k * slots * lane + unit] = zero


@njit(**SERIAL)
def transposed_kernel(job, zero, first, last):
    """Panel p, row (s, unit), column n  <-  weight[gates[s] * hidden + unit, p * width + n]; zero outside.

    Units are padded to whole vectors. The width is `BACK_VECTORS` vectors, or what is left of the columns
    in whole vectors.
    """
    _, _, columns, hidden, lane, slots = _unpack(job)
    weight, packed = pointer_to(job[0], zero), pointer_to(job[1], zero)
    padded = -(-hidden // lane) * lane
    whole = BACK_VECTORS * lane
    for panel in range(first, last):
        left = panel * whole
        width = min(whole, -(-(columns - left) // lane) * lane)
        inside = min(width, columns - left)
        for s in range(slots):
            for unit in range(padded):
                target = left * slots * padded + (s * padded + unit) * width
                source = (job[GATES + s] * hidden + unit) * columns + left
                if unit < hidden and inside == whole:
                    _copy_panel_row(weight, source, packed, target)
                else:
                    count = inside if unit < hidden else 0
                    for n in range(count):
                        packed[target + n] = weight[source + n]
                    for n in range(count, width):
                        packed[target + n] = zero


@njit(**PARALLEL)
def _gates_parallel(job, zero, panels, parts):
    for part in prange(parts):
        first, last = split(panels, parts, np.int64(part))
        gates_kernel(job, zero, first, last)


@njit(**PARALLEL)
def _transposed_parallel(job, zero, panels, parts):
    for part in prange(parts):
        first, last = split(panels, parts, np.int64(part))
        transposed_kernel(job, zero, first, last)


def padded_size(hidden: int, dtype: Any) -> int:
    """Hidden units rounded up to whole vectors."""
    return round_up(hidden, lanes(dtype))


def pack_gates(
    weight: np.ndarray[Any, Any], gates: tuple[int, ...], hidden: int, parts: int = 1
) -> np.ndarray[Any, Any]:
    """Pack rows of gates for the forward products.

    Parameters
    ----------
    weight : ndarray, shape (len(cell.gates) * hidden, K)
    gates : tuple of int
        The gates that feed the product's slots, in the slots' order.
    hidden : int
    parts : int
        Threads to share the work.

    Returns
    -------
    ndarray, 1-D
    """
    panels = padded_size(hidden, weight.dtype) // lanes(weight.dtype)
    size = padded_size(hidden, weight.dtype) * len(gates) * weight.shape[1]
    return _pack((gates_kernel, _gates_parallel), weight, gates, hidden, size, panels, parts)


def pack_transposed(
    weight: np.ndarray[Any, Any], gates: tuple[int, ...], hidden: int, parts: int = 1
) -> np.ndarray[Any, Any]:
    """Pack rows of gates for the product of slot gradients with them, (slots, units) to columns.

    Parameters and result as for `pack_gates`.
    """
    columns = padded_size(weight.shape[1], weight.dtype)
    panels = -(-columns // (BACK_VECTORS * lanes(weight.dtype)))
    size = columns * len(gates) * padded_size(hidden, weight.dtype)
    return _pack((transposed_kernel, _transposed_parallel), weight, gates, hidden, size, panels, parts)


def _pack(
    kernels: tuple[Any, Any],
    weight: np.ndarray[Any, Any],
    gates: tuple[int, ...],
    hidden: int,
    size: int,
    panels: int,
    parts: int,
) -> np.ndarray[Any, Any]:
    packed = aligned_empty((size,), weight.dtype)
    weight = np.ascontiguousarray(weight)
    head = _Job(address(weight), address(packed), weight.shape[1], hidden, lanes(weight.dtype), len(gates))
    job = np.array((*head, *gates), np.int64)
    zero = weight.dtype.type(0)
    if parts == 1:
        kernels[0](job, zero, 0, panels)
    else:
        kernels[1](job, zero, panels, parts)
    return packed


def slot_bias(
    cell: Any, params: dict[str, np.ndarray[Any, Any]], hidden: int, dtype: Any
) -> np.ndarray[Any, Any]:
    """Both biases summed where they meet, per slot and padded: 1-D, len(cell.slots) * padded."""
    bias = aligned_zeros((len(cell.slots), padded_size(hidden, dtype)), dtype)
    if "bias_ih" in params:
        gates = params["bias_ih"].reshape(-1, hidden)
        bias[: len(cell.input_gates), :hidden] = gates[list(cell.input_gates)]
        gates = params["bias_hh"].reshape(-1, hidden)
        for stage in cell.stages:
            bias[stage.first : stage.first + len(stage.gates), :hidden] += gates[list(stage.gates)]
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
