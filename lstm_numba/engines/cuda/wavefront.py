"""Whether stacked layers run as a wavefront, by the estimate of persistent kernels' times."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_numba.engines.cuda import branches
from lstm_numba.engines.cuda.driver import device_limits
from lstm_numba.engines.cuda.launch import limits
from lstm_numba.engines.cuda.persistent_layout import Problem, layouts
from lstm_numba.engines.cuda.plans import kernel_wanted, unsuited

#: Chunks of time that are tried, and steps that one has at least.
_CHUNKS = (2, 4, 8, 16, 32)
_STEPS = 8

#: µs of the host for a chunk of one layer: transposes, products, the sequence itself, events.
_HOST = 60.0

#: What a wavefront has to save of the estimated time.
_LEAST = 0.85


def chunks(cell: Any, layers: int, steps: int, shape: tuple[int, int, int], dtype: Any) -> int:
    """Chunks of time in which so many layers run side by side; 1 where one after the other is as fast.

    With C chunks and L layers the last layer is done after C + L - 1 of C parts of a layer's time, which each
    layer takes on its share of the device.

    Parameters
    ----------
    cell : Cell
    layers, steps : int
    shape : tuple of int
        Rows of the batch, hidden units, units of h.
    dtype : dtype
    """
    if unsuited(cell) or kernel_wanted() == "general" or not branches.wanted():
        return 1
    problem = Problem(cell.stages, cell.projected, np.dtype(dtype).itemsize, False, *shape)
    device, threads = device_limits(), limits().lanes * limits().parts
    fewer = device._replace(multiprocessors=max(1, device.multiprocessors // layers))
    whole, shared = layouts(problem, device, threads), layouts(problem, fewer, threads)
    if not whole or not shared:
        return 1
    best, least = 1, _LEAST * layers * steps * whole[0].us
    for count in (count for count in _CHUNKS if count * _STEPS <= steps):
        on_device = (count + layers - 1) / count * steps * shared[0].us
        us = max(on_device, count * layers * _HOST)
        if us < least:
            best, least = count, us
    return best
