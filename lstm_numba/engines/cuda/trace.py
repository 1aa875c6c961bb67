"""Gates, candidates and states of all steps on the device, from what a forward pass saved."""

from __future__ import annotations

from lstm_numba.engines.cuda.memory import DeviceArray, empty
from lstm_numba.engines.cuda.outputs import write_output
from lstm_numba.engines.cuda.sequence import Saved


def traced(saved: Saved) -> dict[str, DeviceArray]:
    """The ``traced`` values of a cell whose slots hold them, and its states after each step.

    Each is (T, B, H), h of its own units; zero after a sequence's end.
    """
    cell, arrays, sizes = saved.cell, saved.arrays, saved.sizes
    found, row = {}, len(cell.slots) * sizes.hidden
    for name, place in zip(cell.traced, cell.traced_slots, strict=True):
        found[name] = empty((sizes.steps, sizes.batch, sizes.hidden), arrays.h.dtype)
        write_output(arrays.slots, place * sizes.hidden, arrays.lengths, found[name], 0, sizes.hidden, row)
    for n, name in enumerate(cell.states):
        units, history = (sizes.hidden, arrays.cell_states) if n else (sizes.output, arrays.h)
        first = 0 if sizes.reverse else sizes.batch * units  # the entry after a step
        start = first + (n - 1) * sizes.cell_stride if n else first
        found[name] = empty((sizes.steps, sizes.batch, units), arrays.h.dtype)
        write_output(history, start, arrays.lengths, found[name], 0, units)
    return found
