"""Gates, candidates and states of all steps, where a forward pass kept them."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_numba.engines.cpu.blocking import padded
from lstm_numba.engines.cpu.memory import address
from lstm_numba.engines.cpu.passes import kept_offsets
from lstm_numba.engines.cpu.sequence import Saved

Array = np.ndarray[Any, Any]


def traced(saved: Saved, lengths: Array | None) -> dict[str, Array]:
    """Views of what a forward pass of a cell kept whose slots hold its ``traced`` values; uses it up.

    Parameters
    ----------
    saved : Saved
    lengths : ndarray of int64, shape (B,), or None

    Returns
    -------
    dict of str to ndarray, shape (T, B, H)
        These values, and the states after each step. Zero beyond a sequence's end.
    """
    cell, layer, sequence = saved.cell, saved.layer, saved.sequence
    h, memory = saved.alive[1], saved.alive[2]
    shape, dtype = (sequence.steps, layer.batch, layer.hidden), h.dtype
    offsets = kept_offsets(cell, layer, sequence, dtype.type(0))
    first = sequence.rest - address(memory)

    def kept(shape: tuple[int, ...], offset: int) -> Array:
        return np.ndarray(shape, dtype, memory, first + offset)

    slots = kept((*shape[:2], len(cell.slots), padded(layer.hidden, dtype)), offsets.slots)
    values = [slots[:, :, place, : layer.hidden] for place in cell.traced_slots]
    others = kept((len(cell.states) - 1, shape[0] + 1, *shape[1:]), offsets.cell_states)
    after = slice(0, -1) if sequence.reverse else slice(1, None)
    states = [history[after] for history in (h, *others)]
    found = dict(zip((*cell.traced, *cell.states), (*values, *states), strict=True))
    for row, end in enumerate(() if lengths is None else lengths.tolist()):
        for array in found.values():
            array[end:, row] = 0
    return found
