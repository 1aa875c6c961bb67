"""Packed weights that are packed anew only when a parameter has changed.

Parameters are plain arrays that anybody may write to, so a change is noticed by a checksum of all their
numbers: reading them takes a fraction of the time of packing them.
"""

from __future__ import annotations

from operator import is_not
from typing import Any

import numba
import numpy as np
from numba import njit, prange

from lstm_numba.cpu.arrays import address
from lstm_numba.cpu.layout import split
from lstm_numba.cpu.options import EXACT, EXACT_PARALLEL
from lstm_numba.cpu.simd import pointer_to

Array = np.ndarray[Any, Any]

#: Bytes from which the threads share the reading.
_SHARED = 1 << 20
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying with it loses nothing
_LEFT, _RIGHT = np.uint64(29), np.uint64(35)


@njit(**EXACT)
def _stir(sum_, word):
    """Another word into a sum: one-to-one in either, so that a single changed word always shows.

    The rotation brings the upper bits, which a product moves nowhere, down to where it spreads them.
    """
    mixed = sum_ ^ word
    return ((mixed << _LEFT) | (mixed >> _RIGHT)) * _FACTOR


@njit(**EXACT)
def _checksum(start, count, seed):
    """Checksum of `count` words of 64 bits; eight sums, because one would wait for each product."""
    words = pointer_to(start, seed)
    one = np.uint64(1)
    a, b, c, d = seed, seed + one, seed ^ (one << _LEFT), seed - one
    e, f, g, h = ~a, ~b, ~c, ~d
    whole = count // 8 * 8
    for n in range(0, whole, 8):
        a = _stir(a, words[n])
        b = _stir(b, words[n + 1])
        c = _stir(c, words[n + 2])
        d = _stir(d, words[n + 3])
        e = _stir(e, words[n + 4])
        f = _stir(f, words[n + 5])
        g = _stir(g, words[n + 6])
        h = _stir(h, words[n + 7])
    for n in range(whole, count):
        a = _stir(a, words[n])
    for other in (b, c, d, e, f, g, h):
        a = _stir(a, other)
    return a


@njit(**EXACT)
def _checksums(job, seed, part, parts):
    """Checksum of one of the parts of all arrays; a job lists their addresses and bytes."""
    total = seed
    for n in range(job.size // 2):
        first, last = split(job[2 * n + 1] // 8, parts, part)
        total = _stir(total, _checksum(job[2 * n] + 8 * first, last - first, total))
        if part == 0 and job[2 * n + 1] % 8 > 0:  # a float32 is left over
            rest = pointer_to(job[2 * n] + job[2 * n + 1] // 8 * 8, np.uint32(0))
            total = _stir(total, np.uint64(rest[0]))
    return total


@njit(**EXACT_PARALLEL)
def _checksums_parallel(job, seed, sums, parts):
    for part in prange(parts):
        sums[part] = _checksums(job, seed, np.int64(part), parts)


class Prepared:
    """The packed weights of one layer and direction."""

    def __init__(self) -> None:
        self._arrays: list[Array] = []
        self._job = np.empty(0, np.int64)
        self._large = False
        self._plain = True
        self._sums: Any = None
        self._weights: Any = None

    def weights(self, params: dict[str, Array], pack: Any) -> Any:
        """Return what ``pack()`` returned for parameters with these numbers.

        Parameters
        ----------
        params : dict of str to ndarray
        pack : callable
        """
        arrays = list(params.values())
        if len(arrays) != len(self._arrays) or any(map(is_not, arrays, self._arrays)):
            self._arrays, self._weights = arrays, None
            self._job = np.array([n for a in arrays for n in (address(a), a.nbytes)], np.int64)
            self._large = sum(a.nbytes for a in arrays) > _SHARED
            self._plain = all(a.flags.c_contiguous for a in arrays)
        if not self._plain:  # the checksum reads from an array's first number straight on
            return pack()
        sums = self._checksum()
        if self._weights is None or sums != self._sums:
            self._weights, self._sums = pack(), sums
        return self._weights

    def _checksum(self) -> Any:
        parts = numba.get_num_threads() if self._large else 1
        if parts == 1:
            return _checksums(self._job, _FACTOR, 0, 1)
        sums = np.zeros(parts, np.uint64)
        _checksums_parallel(self._job, _FACTOR, sums, parts)
        return sums.tolist()
