"""Copies between arrays on the device whose steps are at other times."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_numba.engines.base import Steps
from lstm_numba.engines.cuda.device_array import flat
from lstm_numba.engines.cuda.driver import cuda, current_device
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.launch import launch_over_box
from lstm_numba.engines.cuda.memory import DeviceArray, synchronize, upload
from lstm_numba.engines.cuda.options import KERNEL


@cuda.jit(**KERNEL)
def copy_steps_kernel(source, source_row, begin, out, out_row, column, table, batch, width):
    """Columns of each step of `out` from the step of `source` that the table has for it."""
    (x, y, z), (x_step, y_step, z_step) = cuda.grid(3), cuda.gridsize(3)
    for s in stride_range(z, table.size, z_step):
        for b in stride_range(y, batch, y_step):
            here, there = (s * batch + b) * out_row + column, (table[s] * batch + b) * source_row + begin
            for k in stride_range(x, width, x_step):
                out[here + k] = source[there + k]


@cuda.jit(**KERNEL)
def add_steps_kernel(source, source_row, begin, out, out_row, column, table, batch, width):
    """To columns of each step t of `out` the sum of the steps of `source` from table[t] to table[t + 1]."""
    (x, y, z), (x_step, y_step, z_step) = cuda.grid(3), cuda.gridsize(3)
    for t in stride_range(z, table.size - 1, z_step):
        for b in stride_range(y, batch, y_step):
            here = (t * batch + b) * out_row + column
            for k in stride_range(x, width, x_step):
                total = out[here + k]
                for s in stride_range(table[t], table[t + 1], 1):
                    total += source[(s * batch + b) * source_row + begin + k]
                out[here + k] = total


def copy_steps(
    source: DeviceArray, begin: int, out: DeviceArray, column: int, width: int, steps: Steps
) -> None:
    """See `Engine.copy_steps`."""
    _launch(copy_steps_kernel, source, begin, out, column, width, _table(steps, len(out), None))


def add_steps(
    source: DeviceArray, begin: int, out: DeviceArray, column: int, width: int, steps: Steps
) -> None:
    """See `Engine.add_steps`."""
    _launch(add_steps_kernel, source, begin, out, column, width, _table(steps, len(source), len(out)))


def _launch(
    kernel: Callable[..., Any],
    source: DeviceArray,
    begin: int,
    out: DeviceArray,
    column: int,
    width: int,
    table: DeviceArray,
) -> None:
    steps, batch, out_row = out.shape
    launch_over_box(
        kernel, (steps, batch, width), flat(source), source.shape[2], begin, flat(out), out_row, column,
        table, batch, width,
    )  # fmt: skip


def _table(steps: Steps, count: int, targets: int | None) -> DeviceArray:
    return _uploaded(steps, count, targets, current_device())


@functools.cache  # kept: a graph may read it later
def _uploaded(steps: Steps, count: int, targets: int | None, device: int) -> DeviceArray:
    """The steps of `count` steps; with `targets` the first step of each of so many, and the end."""
    table = steps.of(count)
    if targets is not None:
        table = np.searchsorted(table, np.arange(targets + 1)).astype(np.int64)
    uploaded = upload(table)
    synchronize()  # the next call may be on another stream
    return uploaded
