"""The optimizers' updates on the device, elementwise as in `lstm_numba.engines.cpu.updates`.

One launch updates all parameters. Gradients are scaled by a factor in device memory, ``totals[index]``, so
that the host need not wait for the norm that it depends on. Where the factor is NaN, because loss or norm are
not finite, an update changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_numba.engines import update_rules
from lstm_numba.engines.cuda.device_array import flat
from lstm_numba.engines.cuda.driver import cuda
from lstm_numba.engines.cuda.grid_stride import stride_range
from lstm_numba.engines.cuda.launch import launch_over, launch_over_box
from lstm_numba.engines.cuda.memory import DeviceArray
from lstm_numba.engines.cuda.multi_tensor import array_of, tables
from lstm_numba.engines.cuda.options import DEVICE, KERNEL
from lstm_numba.engines.sparse import SparseRows

# A table has the parameters in its first column, their gradients in the second, then their state. Factor and
# hyperparameters (`hyper`) are float64, and cast once a thread to the precision of the parameters. The latter
# are a tuple, or a device array that is overwritten for the next step: a graph repeats launches unchanged.


_momentum = cuda.jit(**DEVICE)(update_rules.momentum)
_adam = cuda.jit(**DEVICE)(update_rules.adam)
_rmsprop = cuda.jit(**DEVICE)(update_rules.rmsprop)


@cuda.jit(**KERNEL)
def sgd_kernel(table, totals, index, hyper):
    """``p -= rate * factor * g``; the rate is float64, as on the CPU, where the product is rounded once."""
    step = table.like.dtype.type(hyper[0] * totals[index])
    if not math.isnan(step):
        for n in range(table.count):
            p, g = array_of(table, 0, n), array_of(table, 1, n)
            for i in stride_range(cuda.grid(1), p.size, cuda.gridsize(1)):
                p[i] -= step * g[i]


@cuda.jit(**KERNEL)
def sgd_rows_kernel(p, indices, values, width, totals, index, hyper):
    """The same for some rows of a matrix; `p` and `values` are flat, with rows of `width` elements."""
    step = p.dtype.type(hyper[0] * totals[index])
    if not math.isnan(step):
        (x, y), (x_step, y_step) = cuda.grid(2), cuda.gridsize(2)
        for n in stride_range(y, indices.size, y_step):
            if indices[n] >= 0:
                for k in stride_range(x, width, x_step):
                    p[indices[n] * width + k] -= step * values[n * width + k]


@cuda.jit(**KERNEL)
def momentum_kernel(table, totals, index, hyper, nesterov, moving):
    """See `update_rules.momentum`; if not `moving`, there is no momentum and no velocity to store."""
    cast = table.like.dtype.type
    scale, rest = cast(totals[index]), cast(0)
    rate, weight_decay, momentum = (
        cast(hyper[0]),
        cast(hyper[1]),
        cast(hyper[2]),
    )
    if not math.isnan(scale):
        for n in range(table.count):
            p, g, velocity = array_of(table, 0, n), array_of(table, 1, n), array_of(table, 2, n)
            for i in stride_range(cuda.grid(1), p.size, cuda.gridsize(1)):
                v = velocity[i] if moving else rest
                p[i], v = _momentum(p[i], g[i], v, rate, scale, weight_decay, momentum, nesterov)
                if moving:
                    velocity[i] = v


@cuda.jit(**KERNEL)
def adam_kernel(table, totals, index, hyper):
    """See `lstm_numba.engines.update_rules.adam`."""
    cast = table.like.dtype.type
    scale, l2, keep = cast(totals[index]), cast(hyper[0]), cast(hyper[1])
    beta1, rest1, beta2, rest2 = (
        cast(hyper[2]),
        cast(hyper[3]),
        cast(hyper[4]),
        cast(hyper[5]),
    )
    rate, correction, eps = cast(hyper[6]), cast(hyper[7]), cast(hyper[8])
    if not math.isnan(scale):
        for n in range(table.count):
            p, g = array_of(table, 0, n), array_of(table, 1, n)
            mean, square = array_of(table, 2, n), array_of(table, 3, n)
            for i in stride_range(cuda.grid(1), p.size, cuda.gridsize(1)):
                p[i], mean[i], square[i] = _adam(
                    p[i], g[i], mean[i], square[i],
                    scale, l2, keep, beta1, rest1, beta2, rest2, rate, correction, eps,
                )  # fmt: skip


@cuda.jit(**KERNEL)
def rmsprop_kernel(table, totals, index, hyper):
    """See `lstm_numba.engines.update_rules.rmsprop`."""
    cast = table.like.dtype.type
    scale, rate, weight_decay = cast(totals[index]), cast(hyper[0]), cast(hyper[1])
    alpha, rest, eps, momentum = (
        cast(hyper[2]),
        cast(hyper[3]),
        cast(hyper[4]),
        cast(hyper[5]),
    )
    if not math.isnan(scale):
        for n in range(table.count):
            p, g = array_of(table, 0, n), array_of(table, 1, n)
            square, velocity = array_of(table, 2, n), array_of(table, 3, n)
            for i in stride_range(cuda.grid(1), p.size, cuda.gridsize(1)):
                p[i], square[i], velocity[i] = _rmsprop(
                    p[i], g[i], square[i], velocity[i], rate, scale, weight_decay, alpha, rest, eps, momentum
                )


Arrays = Sequence[DeviceArray]
#: A tuple of floats, or a device array (n,) of float64.
Hyperparameters = Any


def _as_argument(hyperparameters: Hyperparameters) -> Any:
    """Hyperparameters as a kernel's argument."""
    return tuple(map(np.float64, hyperparameters)) if isinstance(hyperparameters, tuple) else hyperparameters


def _run(
    kernel: Any,
    columns: Sequence[Arrays],
    totals: DeviceArray,
    index: int,
    hyperparameters: Hyperparameters,
    *flags: bool,
) -> None:
    """Launch over tables of arrays."""
    for table, size in tables(*columns):
        launch_over(kernel, size, table, totals, index, _as_argument(hyperparameters), *map(int, flags))


def sgd(
    params: Arrays, grads: Sequence[Any], totals: DeviceArray, index: int, hyperparameters: Hyperparameters
) -> None:
    """``p -= rate * factor * g``

    Parameters
    ----------
    params : list of device arrays, C-contiguous
        Changed in place.
    grads : list of device arrays or SparseRows
        Of their shapes and dtypes, C-contiguous. Sparse ones change their own rows only.
    totals : device array (n,), float64
        ``totals[index]`` is the gradients' factor; NaN leaves everything unchanged.
    index : int
    hyperparameters : tuple of float, or device array of float64
        The learning rate.
    """
    dense = [pair for pair in zip(params, grads, strict=True) if not isinstance(pair[1], SparseRows)]
    if dense:
        _run(sgd_kernel, list(zip(*dense, strict=True)), totals, index, hyperparameters)
    for p, g in zip(params, grads, strict=True):
        if isinstance(g, SparseRows):
            operands = (flat(p), g.indices, flat(g.values), g.shape[1])
            launch_over_box(
                sgd_rows_kernel, g.values.shape, *operands, totals, index, _as_argument(hyperparameters)
            )


def with_momentum(
    params: Arrays,
    grads: Arrays,
    velocities: Arrays | None,
    totals: DeviceArray,
    index: int,
    hyperparameters: Hyperparameters,
    nesterov: bool,
) -> None:
    """SGD with momentum, weight decay or both: see `sgd` and `lstm_numba.optim.optimizers.SGD`.

    The hyperparameters are learning rate, weight decay and momentum.
    """
    columns = (params, grads, grads if velocities is None else velocities)
    _run(momentum_kernel, columns, totals, index, hyperparameters, nesterov, velocities is not None)


def adam(
    params: Arrays,
    grads: Arrays,
    means: Arrays,
    squares: Arrays,
    totals: DeviceArray,
    index: int,
    hyperparameters: Hyperparameters,
) -> None:
    """Adam and AdamW; the hyperparameters are those of `update_rules.adam`, the rest as in `sgd`."""
    _run(adam_kernel, (params, grads, means, squares), totals, index, hyperparameters)


def rmsprop(
    params: Arrays,
    grads: Arrays,
    squares: Arrays,
    velocities: Arrays,
    totals: DeviceArray,
    index: int,
    hyperparameters: Hyperparameters,
) -> None:
    """RMSprop; the hyperparameters are those of `update_rules.rmsprop`, the rest as in `sgd`."""
    _run(rmsprop_kernel, (params, grads, squares, velocities), totals, index, hyperparameters)
