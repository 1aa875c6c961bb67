"""The optimisers' updates on the device, number by number as in `lstm_numba.updates`.

Gradients are scaled by a factor that lies on the device, ``totals[at]``: the host need not wait for the norm
from which it follows. Where the factor is NaN, because loss or norm are not finite, an update changes
nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lstm_numba import rules
from lstm_numba.gpu.driver import cuda
from lstm_numba.gpu.launch import launch_over
from lstm_numba.gpu.memory import DeviceArray, flat
from lstm_numba.gpu.options import DEVICE, KERNEL

# The factor is float64 and is cast once a thread; everything else has the precision of the parameters.


_momentum = cuda.jit(**DEVICE)(rules.momentum)
_adam = cuda.jit(**DEVICE)(rules.adam)
_rmsprop = cuda.jit(**DEVICE)(rules.rmsprop)


@cuda.jit(**KERNEL)
def sgd_kernel(p, g, totals, at, rate):
    """``p -= rate * factor * g``; `rate` is float64, as on the CPU, where the product is rounded once."""
    step = p.dtype.type(rate * totals[at])
    if not math.isnan(step):
        for i in range(cuda.grid(1), p.size, cuda.gridsize(1)):
            p[i] -= step * g[i]


@cuda.jit(**KERNEL)
def sgd_rows_kernel(p, indices, values, totals, at, rate):
    """The same for some rows of a table; `p` and `values` are flat."""
    step = p.dtype.type(rate * totals[at])
    if not math.isnan(step):
        width = values.size // indices.size
        for i in range(cuda.grid(1), values.size, cuda.gridsize(1)):
            p[indices[i // width] * width + i % width] -= step * values[i]


@cuda.jit(**KERNEL)
def momentum_kernel(p, g, velocity, totals, at, rate, weight_decay, momentum, nesterov):
    """See `lstm_numba.rules.momentum`."""
    scale = p.dtype.type(totals[at])
    if not math.isnan(scale):
        for i in range(cuda.grid(1), p.size, cuda.gridsize(1)):
            p[i], velocity[i] = _momentum(
                p[i], g[i], velocity[i], rate, scale, weight_decay, momentum, nesterov
            )


@cuda.jit(**KERNEL)
def adam_kernel(p, g, mean, square, totals, at, l2, keep, beta1, rest1, beta2, rest2, rate, correction, eps):
    """See `lstm_numba.rules.adam`."""
    scale = p.dtype.type(totals[at])
    if not math.isnan(scale):
        for i in range(cuda.grid(1), p.size, cuda.gridsize(1)):
            p[i], mean[i], square[i] = _adam(
                p[i], g[i], mean[i], square[i],
                scale, l2, keep, beta1, rest1, beta2, rest2, rate, correction, eps,
            )  # fmt: skip


@cuda.jit(**KERNEL)
def rmsprop_kernel(p, g, square, velocity, totals, at, rate, weight_decay, alpha, rest, eps, momentum):
    """See `lstm_numba.rules.rmsprop`."""
    scale = p.dtype.type(totals[at])
    if not math.isnan(scale):
        for i in range(cuda.grid(1), p.size, cuda.gridsize(1)):
            p[i], square[i], velocity[i] = _rmsprop(
                p[i], g[i], square[i], velocity[i], rate, scale, weight_decay, alpha, rest, eps, momentum
            )


def _run(kernel: Any, arrays: tuple[DeviceArray, ...], totals: DeviceArray, at: int, *numbers: Any) -> None:
    """Launch over flat arrays; numbers get the precision of the parameters."""
    number = arrays[0].dtype.type
    typed = (n if isinstance(n, int) else number(n) for n in numbers)
    launch_over(kernel, arrays[0].size, *(flat(array) for array in arrays), totals, at, *typed)


def sgd(p: DeviceArray, g: DeviceArray, totals: DeviceArray, at: int, rate: float) -> None:
    """``p -= rate * factor * g``

    Parameters
    ----------
    p, g : device arrays of one size and dtype, C-contiguous
        Parameter, changed in place, and gradient.
    totals : device array (n,), float64
        ``totals[at]`` is the gradient's factor; NaN leaves everything as it is.
    at : int
    rate : float
    """
    launch_over(sgd_kernel, p.size, flat(p), flat(g), totals, at, np.float64(rate))


def sgd_rows(
    p: DeviceArray, indices: DeviceArray, values: DeviceArray, totals: DeviceArray, at: int, rate: float
) -> None:
    """`sgd` for some rows of a table `p` (V, E): `indices` (n,), int64, each once, and `values` (n, E)."""
    launch_over(sgd_rows_kernel, values.size, flat(p), indices, flat(values), totals, at, np.float64(rate))


def with_momentum(
    p: DeviceArray,
    g: DeviceArray,
    velocity: DeviceArray,
    totals: DeviceArray,
    at: int,
    rate: float,
    weight_decay: float,
    momentum: float,
    nesterov: bool,
) -> None:
    """SGD with momentum, weight decay or both: see `sgd` and `lstm_numba.optimizers.SGD`."""
    numbers = (float(rate), float(weight_decay), float(momentum), int(nesterov))
    _run(momentum_kernel, (p, g, velocity), totals, at, *numbers)


def adam(
    p: DeviceArray,
    g: DeviceArray,
    mean: DeviceArray,
    square: DeviceArray,
    totals: DeviceArray,
    at: int,
    l2: float,
    keep: float,
    beta1: float,
    rest1: float,
    beta2: float,
    rest2: float,
    rate: float,
    correction: float,
    eps: float,
) -> None:
    """Adam and AdamW; the numbers are those of `lstm_numba.updates.adam`, the rest as in `sgd`."""
    numbers = (l2, keep, beta1, rest1, beta2, rest2, rate, correction, eps)
    _run(adam_kernel, (p, g, mean, square), totals, at, *(float(n) for n in numbers))


def rmsprop(
    p: DeviceArray,
    g: DeviceArray,
    square: DeviceArray,
    velocity: DeviceArray,
    totals: DeviceArray,
    at: int,
    rate: float,
    weight_decay: float,
    alpha: float,
    rest: float,
    eps: float,
    momentum: float,
) -> None:
    """RMSprop; the numbers are those of `lstm_numba.updates.rmsprop`, the rest as in `sgd`."""
    numbers = (rate, weight_decay, alpha, rest, eps, momentum)
    _run(rmsprop_kernel, (p, g, square, velocity), totals, at, *(float(n) for n in numbers))
