"""The optimisers' updates on the device, number by number as in `lstm_numba.engines.cpu.updates`.

One launch updates all parameters. Gradients are scaled by a factor that lies on the device, ``totals[at]``:
the host need not wait for the norm from which it follows. Where the factor is NaN, because loss or norm are
not finite, an update changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_numba.engines import update_rules
from lstm_numba.engines.cuda.driver import cuda
from lstm_numba.engines.cuda.grid_stride import strides
from lstm_numba.engines.cuda.launch import launch_over, launch_over_box
from lstm_numba.engines.cuda.memory import DeviceArray, flat
from lstm_numba.engines.cuda.multi_tensor import array_of, tables
from lstm_numba.engines.cuda.options import DEVICE, KERNEL
from lstm_numba.engines.sparse import SparseRows

# A table has the parameters in its first column, their gradients in the second, then their state. Factor and
# numbers are cast once a thread to the precision of the parameters. The numbers are a tuple, or an array on
# the device into which the next step's can be put: a graph repeats its launches as they are.


_momentum = cuda.jit(**DEVICE)(update_rules.momentum)
_adam = cuda.jit(**DEVICE)(update_rules.adam)
_rmsprop = cuda.jit(**DEVICE)(update_rules.rmsprop)


@cuda.jit(**KERNEL)
def sgd_kernel(table, totals, at, numbers):
    """``p -= rate * factor * g``; the rate is float64, as on the CPU, where the product is rounded once."""
    step = table.like.dtype.type(numbers[0] * totals[at])
    if not math.isnan(step):
        for n in range(table.count):
            p, g = array_of(table, 0, n), array_of(table, 1, n)
            for i in strides(cuda.grid(1), p.size, cuda.gridsize(1)):
                p[i] -= step * g[i]


@cuda.jit(**KERNEL)
def sgd_rows_kernel(p, indices, values, width, totals, at, numbers):
    """The same for some rows of a table of tokens; `p` and `values` are flat, of rows of `width` numbers."""
    step = p.dtype.type(numbers[0] * totals[at])
    if not math.isnan(step):
        (x, y), (across, down) = cuda.grid(2), cuda.gridsize(2)
        for n in strides(y, indices.size, down):
            if indices[n] >= 0:
                for k in strides(x, width, across):
                    p[indices[n] * width + k] -= step * values[n * width + k]


@cuda.jit(**KERNEL)
def momentum_kernel(table, totals, at, numbers, nesterov, moving):
    """See `update_rules.momentum`; where nothing is `moving`, there is no velocity to keep."""
    number = table.like.dtype.type
    scale, rest = number(totals[at]), number(0)
    rate, weight_decay, momentum = number(numbers[0]), number(numbers[1]), number(numbers[2])
    if not math.isnan(scale):
        for n in range(table.count):
            p, g, velocity = array_of(table, 0, n), array_of(table, 1, n), array_of(table, 2, n)
            for i in strides(cuda.grid(1), p.size, cuda.gridsize(1)):
                v = velocity[i] if moving else rest
                p[i], v = _momentum(p[i], g[i], v, rate, scale, weight_decay, momentum, nesterov)
                if moving:
                    velocity[i] = v


@cuda.jit(**KERNEL)
def adam_kernel(table, totals, at, numbers):
    """See `lstm_numba.engines.update_rules.adam`."""
    number = table.like.dtype.type
    scale, l2, keep = number(totals[at]), number(numbers[0]), number(numbers[1])
    beta1, rest1, beta2, rest2 = (
        number(numbers[2]),
        number(numbers[3]),
        number(numbers[4]),
        number(numbers[5]),
    )
    rate, correction, eps = number(numbers[6]), number(numbers[7]), number(numbers[8])
    if not math.isnan(scale):
        for n in range(table.count):
            p, g = array_of(table, 0, n), array_of(table, 1, n)
            mean, square = array_of(table, 2, n), array_of(table, 3, n)
            for i in strides(cuda.grid(1), p.size, cuda.gridsize(1)):
                p[i], mean[i], square[i] = _adam(
                    p[i], g[i], mean[i], square[i],
                    scale, l2, keep, beta1, rest1, beta2, rest2, rate, correction, eps,
                )  # fmt: skip


@cuda.jit(**KERNEL)
def rmsprop_kernel(table, totals, at, numbers):
    """See `lstm_numba.engines.update_rules.rmsprop`."""
    number = table.like.dtype.type
    scale, rate, weight_decay = number(totals[at]), number(numbers[0]), number(numbers[1])
    alpha, rest, eps, momentum = (
        number(numbers[2]),
        number(numbers[3]),
        number(numbers[4]),
        number(numbers[5]),
    )
    if not math.isnan(scale):
        for n in range(table.count):
            p, g = array_of(table, 0, n), array_of(table, 1, n)
            square, velocity = array_of(table, 2, n), array_of(table, 3, n)
            for i in strides(cuda.grid(1), p.size, cuda.gridsize(1)):
                p[i], square[i], velocity[i] = _rmsprop(
                    p[i], g[i], square[i], velocity[i], rate, scale, weight_decay, alpha, rest, eps, momentum
                )


Arrays = Sequence[DeviceArray]
#: A tuple of floats, or a device array (n,) of float64.
Numbers = Any


def _given(numbers: Numbers) -> Any:
    """Numbers as a kernel's argument."""
    return tuple(map(np.float64, numbers)) if isinstance(numbers, tuple) else numbers


def _run(
    kernel: Any, columns: Sequence[Arrays], totals: DeviceArray, at: int, numbers: Numbers, *flags: bool
) -> None:
    """Launch over tables of arrays."""
    for table, size in tables(*columns):
        launch_over(kernel, size, table, totals, at, _given(numbers), *map(int, flags))


def sgd(params: Arrays, grads: Sequence[Any], totals: DeviceArray, at: int, numbers: Numbers) -> None:
    """``p -= rate * factor * g``

    Parameters
    ----------
    params : list of device arrays, C-contiguous
        Changed in place.
    grads : list of device arrays or SparseRows
        Of their shapes and dtypes, C-contiguous. Sparse ones touch their own rows only.
    totals : device array (n,), float64
        ``totals[at]`` is the gradients' factor; NaN leaves everything as it is.
    at : int
    numbers : tuple of float, or device array of float64
        The rate.
    """
    dense = [pair for pair in zip(params, grads, strict=True) if not isinstance(pair[1], SparseRows)]
    if dense:
        _run(sgd_kernel, list(zip(*dense, strict=True)), totals, at, numbers)
    for p, g in zip(params, grads, strict=True):
        if isinstance(g, SparseRows):
            operands = (flat(p), g.indices, flat(g.values), g.shape[1])
            launch_over_box(sgd_rows_kernel, g.values.shape, *operands, totals, at, _given(numbers))


def with_momentum(
    params: Arrays,
    grads: Arrays,
    velocities: Arrays | None,
    totals: DeviceArray,
    at: int,
    numbers: Numbers,
    nesterov: bool,
) -> None:
    """SGD with momentum, weight decay or both: see `sgd` and `lstm_numba.optim.optimizers.SGD`.

    The numbers are rate, weight decay and momentum.
    """
    columns = (params, grads, grads if velocities is None else velocities)
    _run(momentum_kernel, columns, totals, at, numbers, nesterov, velocities is not None)


def adam(
    params: Arrays,
    grads: Arrays,
    means: Arrays,
    squares: Arrays,
    totals: DeviceArray,
    at: int,
    numbers: Numbers,
) -> None:
    """Adam and AdamW; the numbers are those of `update_rules.adam`, the rest as in `sgd`."""
    _run(adam_kernel, (params, grads, means, squares), totals, at, numbers)


def rmsprop(
    params: Arrays,
    grads: Arrays,
    squares: Arrays,
    velocities: Arrays,
    totals: DeviceArray,
    at: int,
    numbers: Numbers,
) -> None:
    """RMSprop; the numbers are those of `lstm_numba.engines.cpu.updates.rmsprop`, the rest as in `sgd`."""
    _run(rmsprop_kernel, (params, grads, squares, velocities), totals, at, numbers)
