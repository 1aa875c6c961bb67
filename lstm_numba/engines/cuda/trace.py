"""Gates, candidates and states of all steps on the device, from what a forward pass saved."""

from __future__ import annotations

import math

from lstm_numba.engines.cuda.device_array import flat
from lstm_numba.engines.cuda.driver import cuda
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.launch import launch_over_box
from lstm_numba.engines.cuda.layout import load_entry, load_vectors, neighbours, previous_states, slots_offset
from lstm_numba.engines.cuda.memory import DeviceArray, empty
from lstm_numba.engines.cuda.options import DEVICE, KERNEL
from lstm_numba.engines.cuda.scalar import store_scalars
from lstm_numba.engines.cuda.sequence import Saved, write_output
from lstm_numba.engines.cuda.specialize import cell_values, load_slots, traced_count


@cuda.jit(**DEVICE)
def _store_values(cell, sizes, arrays, t, row, unit, target, offset, stride):
    """The values of a step, row and unit."""
    _, after = neighbours(sizes, t)
    values = cell_values(
        cell,
        load_slots(cell, arrays.slots, slots_offset(cell, sizes, t, row, unit), sizes.hidden),
        previous_states(cell, sizes, arrays, t, row, unit),
        load_entry(cell, sizes, arrays, after, row, unit),
        load_vectors(cell, sizes, arrays, t, row, unit),
    )
    store_scalars(target, offset, stride, values)


@cuda.jit(**KERNEL)
def _values(cell, sizes, arrays, target, stride, zero):
    """All values (values, T, B, H), `stride` numbers from one to the next; zero after a sequence's end."""
    (x, y, z), (x_step, y_step, z_step) = cuda.grid(3), cuda.gridsize(3)
    for t in stride_range(z, sizes.steps, z_step):
        for row in stride_range(y, sizes.batch, y_step):
            for unit in stride_range(x, sizes.hidden, x_step):
                offset = (t * sizes.batch + row) * sizes.hidden + unit
                if t < arrays.lengths[row]:
                    _store_values(cell, sizes, arrays, t, row, unit, target, offset, stride)
                else:
                    for n in range(traced_count(cell)):
                        target[offset + n * stride] = zero


def traced(saved: Saved) -> dict[str, DeviceArray]:
    """The cell's ``traced`` values and its states after each step, each (T, B, H), h of its own units."""
    cell, arrays, sizes = saved.cell, saved.arrays, saved.sizes
    shape, dtype = (sizes.steps, sizes.batch, sizes.hidden), arrays.h.dtype
    found = {}
    if cell.traced:
        values = empty((len(cell.traced), *shape), dtype)
        launch_over_box(_values, shape, cell, sizes, arrays, flat(values), math.prod(shape), dtype.type(0))
        found = {name: values[n] for n, name in enumerate(cell.traced)}
    for n, name in enumerate(cell.states):
        units, history = (sizes.hidden, arrays.cell_states) if n else (sizes.output, arrays.h)
        first = 0 if sizes.reverse else sizes.batch * units  # the entry after a step
        start = first + (n - 1) * sizes.cell_stride if n else first
        found[name] = empty((*shape[:2], units), dtype)
        write_output(history, start, arrays.lengths, found[name], 0, units)
    return found
