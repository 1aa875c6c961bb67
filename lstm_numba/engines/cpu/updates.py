"""The optimisers' updates as kernels; see `lstm_numba.optim.optimizers` for what they mean.

Every number is updated alone and rounds as written, so the bits are the same for any number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from numba import njit, prange

from lstm_numba.engines import update_rules
from lstm_numba.engines.cpu.options import EXACT, EXACT_INLINE, EXACT_PARALLEL
from lstm_numba.engines.cpu.threads import threaded

Array = npt.NDArray[Any]

#: Numbers that a thread updates at a time. A parameter of no more is updated by the calling thread: waking
#: the others takes longer.
_CHUNK = 1 << 14


# A loop from 0 to an array's own length is one that LLVM can vectorise: of any other index Numba has to allow
# that it is negative and counts from the end. So chunks are slices.


_momentum = njit(**EXACT_INLINE)(update_rules.momentum)
_adam = njit(**EXACT_INLINE)(update_rules.adam)
_rmsprop = njit(**EXACT_INLINE)(update_rules.rmsprop)


@njit(**EXACT)
def sgd(p, g, rate):
    """``p -= rate * g``"""
    for i in range(p.shape[0]):
        p[i] -= rate * g[i]


@njit(**EXACT)
def sgd_rows(p, indices, values, rate):
    """The same for some rows of a table."""
    for k in range(indices.shape[0]):
        sgd(p[indices[k]], values[k], rate)


@njit(**EXACT)
def with_momentum(p, g, velocity, rate, scale, weight_decay, momentum, nesterov):
    """See `lstm_numba.engines.update_rules.momentum`."""
    for i in range(p.shape[0]):
        p[i], velocity[i] = _momentum(p[i], g[i], velocity[i], rate, scale, weight_decay, momentum, nesterov)


@njit(**EXACT)
def adam(p, g, mean, square, scale, l2, keep, beta1, rest1, beta2, rest2, rate, correction, eps):
    """See `lstm_numba.engines.update_rules.adam`."""
    for i in range(p.shape[0]):
        p[i], mean[i], square[i] = _adam(
            p[i], g[i], mean[i], square[i],
            scale, l2, keep, beta1, rest1, beta2, rest2, rate, correction, eps,
        )  # fmt: skip


@njit(**EXACT)
def rmsprop(p, g, square, velocity, rate, scale, weight_decay, alpha, rest, eps, momentum):
    """See `lstm_numba.engines.update_rules.rmsprop`."""
    for i in range(p.shape[0]):
        p[i], square[i], velocity[i] = _rmsprop(
            p[i], g[i], square[i], velocity[i], rate, scale, weight_decay, alpha, rest, eps, momentum
        )


# The same in parallel, chunk by chunk. Numba keeps no function that is passed another one in its disk cache,
# so the loop over chunks is written out for each.


@threaded(**EXACT_PARALLEL)
def sgd_parallel(p, g, rate):
    """See `sgd`."""
    for chunk in prange((p.shape[0] + _CHUNK - 1) // _CHUNK):
        part = slice(chunk * _CHUNK, (chunk + 1) * _CHUNK)
        sgd(p[part], g[part], rate)


@threaded(**EXACT_PARALLEL)
def sgd_rows_parallel(p, indices, values, rate):
    """See `sgd_rows`."""
    for k in prange(indices.shape[0]):
        sgd(p[indices[k]], values[k], rate)


@threaded(**EXACT_PARALLEL)
def with_momentum_parallel(p, g, velocity, rate, scale, weight_decay, momentum, nesterov):
    """See `with_momentum`."""
    for chunk in prange((p.shape[0] + _CHUNK - 1) // _CHUNK):
        part = slice(chunk * _CHUNK, (chunk + 1) * _CHUNK)
        with_momentum(p[part], g[part], velocity[part], rate, scale, weight_decay, momentum, nesterov)


@threaded(**EXACT_PARALLEL)
def adam_parallel(p, g, mean, square, scale, l2, keep, beta1, rest1, beta2, rest2, rate, correction, eps):
    """See `adam`."""
    for chunk in prange((p.shape[0] + _CHUNK - 1) // _CHUNK):
        part = slice(chunk * _CHUNK, (chunk + 1) * _CHUNK)
        adam(
            p[part], g[part], mean[part], square[part],
            scale, l2, keep, beta1, rest1, beta2, rest2, rate, correction, eps,
        )  # fmt: skip


@threaded(**EXACT_PARALLEL)
def rmsprop_parallel(p, g, square, velocity, rate, scale, weight_decay, alpha, rest, eps, momentum):
    """See `rmsprop`."""
    for chunk in prange((p.shape[0] + _CHUNK - 1) // _CHUNK):
        part = slice(chunk * _CHUNK, (chunk + 1) * _CHUNK)
        rmsprop(
            p[part], g[part], square[part], velocity[part],
            rate, scale, weight_decay, alpha, rest, eps, momentum,
        )  # fmt: skip


def sweep(serial: Any, parallel: Any, arrays: tuple[Array, ...], *numbers: Any) -> None:
    """Run an update on one thread or on all, by the size of the last array; the bits are the same."""
    (serial if arrays[-1].size <= _CHUNK else parallel)(*arrays, *numbers)
