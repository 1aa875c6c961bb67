"""Sums in memory that the ranks of a machine share: each adds a part of all arrays, where they are.

Nothing is copied: a rank computes its array where the others read it, adds one part of all arrays, and reads
the sum where all have written it. Between machines each rank sums its part with those that have the same part
there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from mpi4py import MPI

from lstm_numba.ranks.base import Array, Sum
from lstm_numba.ranks.shares import part_of

#: Bytes that are added at a time, so that what is read again is still in a processor's cache.
_BLOCK = 1 << 17


class SharedSum(Sum):
    """A sum of arrays of one size, again and again.

    Parameters
    ----------
    node, across : mpi4py.MPI.Intracomm
        The ranks of this machine; those of all machines that have the same number there.
    arrays : list of ndarray
        Of one shape and dtype in the machine's shared memory: that of each rank, and one for the sum. They
        are contiguous.
    """

    def __init__(self, node: Any, across: Any, arrays: list[Array]) -> None:
        *given, total = arrays
        self._own = self.own = given[node.rank]
        self.result = total
        # Of its own: several sums may be under way, and each rank goes on with them in another order.
        self._node, self._across = node.Dup(), across.Dup()
        part = part_of(total.size, node.rank, node.size)
        self._parts = [array.reshape(-1)[part.rows] for array in given]
        self._total = total.reshape(-1)[part.rows]
        self._step: Iterator[bool] = iter(())

    def begin(self, array: Array) -> Callable[[], bool]:
        """See `Sum.begin`."""
        if array.ctypes.data != self._own.ctypes.data:
            self._own[...] = array
        self._step = self._steps(self._node.Ibarrier())
        return lambda: next(self._step)

    def _steps(self, written: Any) -> Iterator[bool]:
        """The work in pieces: True after the last one."""
        # Nobody reads the last sum any more who has written the next array.
        while not written.Test():
            yield False
        block = max(1, _BLOCK // self._total.itemsize)
        for first in range(0, self._total.size, block):
            rows = slice(first, first + block)
            np.add(self._parts[0][rows], self._parts[1][rows], out=self._total[rows])
            for part in self._parts[2:]:
                self._total[rows] += part[rows]
        if self._across.size > 1:
            reduced = self._across.Iallreduce(MPI.IN_PLACE, self._total)
            while not reduced.Test():
                yield False
        added = self._node.Ibarrier()
        while not added.Test():
            yield False
        while True:
            yield True
