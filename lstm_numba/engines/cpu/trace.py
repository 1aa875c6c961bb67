"""Gates, candidates and states of all steps, from what a forward pass kept.

What the cell's slots hold after a step is looked at where it lies; what they do not hold is computed from
them by the cell's `values`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from lstm_numba.engines.cpu.blocking import cell_class, padded
from lstm_numba.engines.cpu.forward import slots_place
from lstm_numba.engines.cpu.function_pointers import once
from lstm_numba.engines.cpu.layout import FULL, load_states, load_vectors, neighbours, row_means, split
from lstm_numba.engines.cpu.memory import address, allocate
from lstm_numba.engines.cpu.options import INLINE
from lstm_numba.engines.cpu.passes import forward_arrays, forward_weights, kept_offsets
from lstm_numba.engines.cpu.records import Layer, Sequence, numbers, read_record
from lstm_numba.engines.cpu.sequence import Saved
from lstm_numba.engines.cpu.specialize import cell_values, load_slots, traced_count
from lstm_numba.engines.cpu.thread_team import Phases, compile_task, run_task
from lstm_numba.engines.cpu.vector import pointer_to, store_vectors

Array = np.ndarray[Any, Any]


class TraceJob(NamedTuple):
    """Values of all steps of a sequence.

    Attributes
    ----------
    layer : Layer
        With the packed weights of the forward pass.
    sequence : Sequence
    values : int
        Address for them, (T, B, values, padded units).
    parts : int
        Threads that share the steps.
    """

    layer: Layer
    sequence: Sequence
    values: int
    parts: int


@njit(**INLINE)
def _step_values(cell, weights, arrays, sizes, t, row, target):
    """The values of a step and row."""
    before, after = neighbours(sizes, t)
    means = row_means(cell, arrays, sizes, t, row)
    start = (t * sizes.batch + row) * traced_count(cell) * sizes.padded
    for unit in range(0, sizes.hidden, sizes.lanes):
        at, _ = slots_place(cell, sizes, t, row, unit)
        slots = load_slots(cell, arrays.slots, at, sizes.padded, FULL)
        previous = load_states(cell, arrays, sizes, before, row, unit)
        states = load_states(cell, arrays, sizes, after, row, unit)
        vectors = load_vectors(cell, weights, arrays, sizes, t, row, unit, means)
        values = cell_values(cell, slots, previous, states, vectors)
        store_vectors(target, start + unit, sizes.padded, values, FULL)


@once
def _task(kind: Any, dtype: Any) -> int:
    """Address of the task that computes the values."""
    cell, zero = kind(), dtype.type(0)

    def values(job, phase, part):
        record = read_record(TraceJob, job, 0)
        sizes, arrays = forward_arrays(cell, record.layer, record.sequence, zero)
        weights, target = forward_weights(cell, record.layer, zero), pointer_to(record.values, zero)
        begin, end = split(sizes.steps, record.parts, part)
        for t in range(begin, end):
            for row in range(sizes.batch):
                if t < arrays.lengths[row]:
                    _step_values(cell, weights, arrays, sizes, t, row, target)

    return compile_task(values)


def traced(saved: Saved, lengths: Array | None) -> dict[str, Array]:
    """Values of a forward pass, which kept them for this alone; uses up what it kept.

    Parameters
    ----------
    saved : Saved
    lengths : ndarray of int64, shape (B,), or None

    Returns
    -------
    dict of str to ndarray, shape (T, B, H)
        The cell's ``traced`` values and its states after each step. Zero beyond a sequence's end.
    """
    cell, layer, sequence = saved.cell, saved.layer, saved.sequence
    h, memory = saved.alive[1], saved.alive[2]
    shape, dtype = (sequence.steps, layer.batch, layer.hidden), h.dtype
    offsets = kept_offsets(cell, layer, sequence, dtype.type(0))
    first = sequence.rest - address(memory)
    wide = padded(layer.hidden, dtype)

    def kept(shape: tuple[int, ...], offset: int) -> Array:
        return np.ndarray(shape, dtype, memory, first + offset)

    slots = kept((*shape[:2], len(cell.slots), wide), offsets.slots)[..., : layer.hidden]
    found = {n: slots[:, :, k] for n, k in zip(cell.traced, cell.traced_slots, strict=True)}
    if -1 in cell.traced_slots:
        computed = _computed(saved, wide)[..., : layer.hidden]
        found |= {n: computed[:, :, k] for k, n in enumerate(cell.traced) if cell.traced_slots[k] < 0}
    others = kept((len(cell.states) - 1, shape[0] + 1, *shape[1:]), offsets.cell_states)
    histories = (h, *others)
    after = slice(0, -1) if sequence.reverse else slice(1, None)
    found |= {name: values[after] for name, values in zip(cell.states, histories, strict=True)}
    for row, end in enumerate(() if lengths is None else lengths.tolist()):
        for values in found.values():
            values[end:, row] = 0
    return found


def _computed(saved: Saved, wide: int) -> Array:
    """All the cell's values, (T, B, values, padded units)."""
    cell, parts = saved.cell, saved.team.parts
    x, h = saved.alive[:2]
    values, where = allocate((*x.shape[:2], len(cell.traced), wide), h.dtype)
    job = numbers(TraceJob(saved.layer, saved.sequence, where, parts))
    run_task(_task(cell_class(cell), h.dtype), job.buffer_info()[0], Phases(work=parts))
    return values
