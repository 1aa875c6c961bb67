"""The optimizers' updates as kernels; see `lstm_numba.optim.optimizers` for what they mean.

Every number is updated alone and rounds as written, so the bits are the same for any number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from numba import njit

from lstm_numba.engines import update_rules
from lstm_numba.engines.cpu.options import EXACT, EXACT_INLINE
from lstm_numba.engines.cpu.shared_loop import share, shared_loop

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


# The same chunk by chunk, shared by threads. Numba keeps no function that is passed another one in its disk
# cache, so each is written out.


@njit(**EXACT)
def _chunks(p):
    return (p.shape[0] + _CHUNK - 1) // _CHUNK


@njit(**EXACT)
def _part(array, chunk):
    return array[chunk * _CHUNK : (chunk + 1) * _CHUNK]


@njit(**EXACT)
def _sgd_chunk(chunk, p, g, rate):
    sgd(_part(p, chunk), _part(g, chunk), rate)


@njit(**EXACT)
def sgd_shared(where, threads, p, g, rate):
    """See `sgd`."""
    shared_loop(where, threads, _sgd_chunk, _chunks(p), (p, g, rate))


@njit(**EXACT)
def _sgd_row(k, p, indices, values, rate):
    sgd(p[indices[k]], values[k], rate)


@njit(**EXACT)
def sgd_rows_shared(where, threads, p, indices, values, rate):
    """See `sgd_rows`."""
    shared_loop(where, threads, _sgd_row, indices.shape[0], (p, indices, values, rate))


@njit(**EXACT)
def _with_momentum_chunk(chunk, p, g, velocity, rate, scale, weight_decay, momentum, nesterov):
    with_momentum(
        _part(p, chunk), _part(g, chunk), _part(velocity, chunk),
        rate, scale, weight_decay, momentum, nesterov,
    )  # fmt: skip


@njit(**EXACT)
def with_momentum_shared(where, threads, p, g, velocity, rate, scale, weight_decay, momentum, nesterov):
    """See `with_momentum`."""
    work = (p, g, velocity, rate, scale, weight_decay, momentum, nesterov)
    shared_loop(where, threads, _with_momentum_chunk, _chunks(p), work)


@njit(**EXACT)
def _adam_chunk(
    chunk, p, g, mean, square, scale, l2, keep, beta1, rest1, beta2, rest2, rate, correction, eps
):
    adam(
        _part(p, chunk), _part(g, chunk), _part(mean, chunk), _part(square, chunk),
        scale, l2, keep, beta1, rest1, beta2, rest2, rate, correction, eps,
    )  # fmt: skip


@njit(**EXACT)
def adam_shared(
    where, threads, p, g, mean, square, scale, l2, keep, beta1, rest1, beta2, rest2, rate, correction, eps
):
    """See `adam`."""
    work = (p, g, mean, square, scale, l2, keep, beta1, rest1, beta2, rest2, rate, correction, eps)
    shared_loop(where, threads, _adam_chunk, _chunks(p), work)


@njit(**EXACT)
def _rmsprop_chunk(chunk, p, g, square, velocity, rate, scale, weight_decay, alpha, rest, eps, momentum):
    rmsprop(
        _part(p, chunk), _part(g, chunk), _part(square, chunk), _part(velocity, chunk),
        rate, scale, weight_decay, alpha, rest, eps, momentum,
    )  # fmt: skip


@njit(**EXACT)
def rmsprop_shared(
    where, threads, p, g, square, velocity, rate, scale, weight_decay, alpha, rest, eps, momentum
):
    """See `rmsprop`."""
    work = (p, g, square, velocity, rate, scale, weight_decay, alpha, rest, eps, momentum)
    shared_loop(where, threads, _rmsprop_chunk, _chunks(p), work)


def sweep(serial: Any, shared: Any, arrays: tuple[Array, ...], *numbers: Any) -> None:
    """Run an update on one thread or on all, by the size of the last array; the bits are the same."""
    if arrays[-1].size <= _CHUNK:
        serial(*arrays, *numbers)
    else:
        share(shared, *arrays, *numbers)
