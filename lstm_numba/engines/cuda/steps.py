"""Copies between arrays on the device whose steps are at other times."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lstm_numba.engines.base import Steps
from lstm_numba.engines.cuda.device_array import span
from lstm_numba.engines.cuda.driver import cuda, current_device
from lstm_numba.engines.cuda.grid_stride import models_and_depth, stride_range
from lstm_numba.engines.cuda.launch import launch_over_models
from lstm_numba.engines.cuda.memory import DeviceArray, synchronize, upload
from lstm_numba.engines.cuda.options import DEVICE, KERNEL


class Strided(NamedTuple):
    """Steps of many models: all memory from the first element on, and strides in elements."""

    data: Any
    model: Any
    step: Any
    row: Any


@cuda.jit(**DEVICE)
def place(steps, model, step, row):
    """Index of a row's first element."""
    return model * steps.model + step * steps.step + row * steps.row


@cuda.jit(**KERNEL)
def copy_steps_kernel(source, begin, out, column, table, models, batch, width, bits):
    """Columns of each step of `out` from the step of `source` that the table has for it, of each model."""
    (x, y), (x_step, y_step) = cuda.grid(2), cuda.gridsize(2)
    model, model_step, z, z_step = models_and_depth(bits)
    for n in stride_range(model, models, model_step):
        for s in stride_range(z, table.size, z_step):
            for b in stride_range(y, batch, y_step):
                here, there = place(out, n, s, b) + column, place(source, n, table[s], b) + begin
                for k in stride_range(x, width, x_step):
                    out.data[here + k] = source.data[there + k]


@cuda.jit(**KERNEL)
def add_steps_kernel(source, begin, out, column, table, models, batch, width, bits):
    """To columns of each step t of `out` the sum of the steps of `source` from table[t] to table[t + 1]."""
    (x, y), (x_step, y_step) = cuda.grid(2), cuda.gridsize(2)
    model, model_step, z, z_step = models_and_depth(bits)
    for n in stride_range(model, models, model_step):
        for t in stride_range(z, table.size - 1, z_step):
            for b in stride_range(y, batch, y_step):
                here = place(out, n, t, b) + column
                for k in stride_range(x, width, x_step):
                    total = out.data[here + k]
                    for s in stride_range(table[t], table[t + 1], 1):
                        total += source.data[place(source, n, s, b) + begin + k]
                    out.data[here + k] = total


def copy_steps(
    source: DeviceArray, begin: int, out: DeviceArray, column: int, width: int, steps: Steps
) -> None:
    """See `Engine.copy_steps`."""
    _launch(copy_steps_kernel, source, begin, out, column, width, _table(steps, _steps_of(out), None))


def add_steps(
    source: DeviceArray, begin: int, out: DeviceArray, column: int, width: int, steps: Steps
) -> None:
    """See `Engine.add_steps`."""
    table = _table(steps, _steps_of(source), _steps_of(out))
    _launch(add_steps_kernel, source, begin, out, column, width, table)


def _steps_of(array: DeviceArray) -> int:
    return int(array.shape[array.ndim - 3])


def _strided(array: DeviceArray) -> Strided:
    strides = tuple(stride // array.dtype.itemsize for stride in array.strides[:-1])
    return Strided(span(array), *(0,) * (3 - len(strides)), *strides)


def _launch(
    kernel: Callable[..., Any],
    source: DeviceArray,
    begin: int,
    out: DeviceArray,
    column: int,
    width: int,
    table: DeviceArray,
) -> None:
    *models, steps, batch, _ = out.shape
    launch_over_models(
        kernel, (*models, steps, batch, width), _strided(source), begin, _strided(out), column, table,
        math.prod(models), batch, width,
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
