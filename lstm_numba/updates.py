"""The optimisers' updates as kernels; see `lstm_numba.optimizers` for what they mean.

Every number is updated alone and rounds as written, so the bits are the same for any number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from lstm_numba.cpu.options import EXACT, EXACT_PARALLEL

Array = npt.NDArray[Any]

#: Numbers that a thread updates at a time. A parameter of no more is updated by the calling thread: waking
#: the others takes longer.
_CHUNK = 1 << 14


@njit(**EXACT)
def sgd(p, g, first, last, rate):  # type: ignore[no-untyped-def]
    """``p -= rate * g``"""
    for i in range(first, last):
        p[i] -= rate * g[i]


@njit(**EXACT)
def sgd_rows(p, indices, values, first, last, rate):  # type: ignore[no-untyped-def]
    """The same for rows of a table."""
    for k in range(first, last):
        row = p[indices[k]]
        for j in range(row.shape[0]):
            row[j] -= rate * values[k, j]


@njit(**EXACT)
def with_momentum(  # type: ignore[no-untyped-def]
    p, g, velocity, first, last, rate, scale, weight_decay, momentum, nesterov
):
    """``v = momentum * v + d``; ``p`` goes along v, or, after Nesterov, along ``d + momentum * v``."""
    for i in range(first, last):
        d = scale * g[i] + weight_decay * p[i]
        v = momentum * velocity[i] + d
        velocity[i] = v
        if nesterov:
            p[i] -= rate * (d + momentum * v)
        else:
            p[i] -= rate * v


@njit(**EXACT)
def adam(  # type: ignore[no-untyped-def]
    p, g, mean, square, first, last, scale, l2, keep, beta1, rest1, beta2, rest2, rate, correction, eps
):
    """`keep` shrinks p (AdamW), `l2` adds to its gradient (Adam); `rate`, `correction` undo the bias."""
    for i in range(first, last):
        d = scale * g[i] + l2 * p[i]
        m = beta1 * mean[i] + rest1 * d
        v = beta2 * square[i] + rest2 * (d * d)
        mean[i] = m
        square[i] = v
        p[i] = keep * p[i] - rate * (m / (np.sqrt(v) * correction + eps))


@njit(**EXACT)
def rmsprop(  # type: ignore[no-untyped-def]
    p, g, square, velocity, first, last, rate, scale, weight_decay, alpha, rest, eps, momentum
):
    """``d`` over the root of its mean square, through momentum."""
    for i in range(first, last):
        d = scale * g[i] + weight_decay * p[i]
        s = alpha * square[i] + rest * (d * d)
        square[i] = s
        v = momentum * velocity[i] + d / (np.sqrt(s) + eps)
        velocity[i] = v
        p[i] -= rate * v


# The same in parallel, one chunk after the other. Numba keeps no function that is passed another one in its
# disk cache, so the loop over chunks is written out for each.


@njit(**EXACT_PARALLEL)
def sgd_parallel(p, g, size, rate):  # type: ignore[no-untyped-def]
    for chunk in prange((size + _CHUNK - 1) // _CHUNK):
        sgd(p, g, chunk * _CHUNK, min((chunk + 1) * _CHUNK, size), rate)


@njit(**EXACT_PARALLEL)
def sgd_rows_parallel(p, indices, values, size, rate):  # type: ignore[no-untyped-def]
    for k in prange(size):
        sgd_rows(p, indices, values, k, k + 1, rate)


@njit(**EXACT_PARALLEL)
def with_momentum_parallel(  # type: ignore[no-untyped-def]
    p, g, velocity, size, rate, scale, weight_decay, momentum, nesterov
):
    for chunk in prange((size + _CHUNK - 1) // _CHUNK):
        first, last = chunk * _CHUNK, min((chunk + 1) * _CHUNK, size)
        with_momentum(p, g, velocity, first, last, rate, scale, weight_decay, momentum, nesterov)


@njit(**EXACT_PARALLEL)
def adam_parallel(  # type: ignore[no-untyped-def]
    p, g, mean, square, size, scale, l2, keep, beta1, rest1, beta2, rest2, rate, correction, eps
):
    for chunk in prange((size + _CHUNK - 1) // _CHUNK):
        first, last = chunk * _CHUNK, min((chunk + 1) * _CHUNK, size)
        adam(
            p, g, mean, square, first, last,
            scale, l2, keep, beta1, rest1, beta2, rest2, rate, correction, eps,
        )  # fmt: skip


@njit(**EXACT_PARALLEL)
def rmsprop_parallel(  # type: ignore[no-untyped-def]
    p, g, square, velocity, size, rate, scale, weight_decay, alpha, rest, eps, momentum
):
    for chunk in prange((size + _CHUNK - 1) // _CHUNK):
        first, last = chunk * _CHUNK, min((chunk + 1) * _CHUNK, size)
        rmsprop(p, g, square, velocity, first, last, rate, scale, weight_decay, alpha, rest, eps, momentum)


def sweep(serial: Any, parallel: Any, arrays: tuple[Array, ...], size: int, *numbers: Any) -> None:
    """Run an update over flat arrays, on one thread or on all; the bits are the same."""
    if arrays[0].size <= _CHUNK:
        serial(*arrays, 0, size, *numbers)
    else:
        parallel(*arrays, size, *numbers)
