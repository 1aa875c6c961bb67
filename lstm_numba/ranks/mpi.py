"""Ranks over mpi4py, which nothing imports but this module and `shared_sum.py`."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt
from mpi4py import MPI

from lstm_numba.ranks.base import Array, Ranks, Sum
from lstm_numba.ranks.lost import DeathWatch
from lstm_numba.ranks.shared_sum import SharedSum

T = TypeVar("T")

#: Bytes to whose multiples arrays in shared memory are aligned: a cache line, and the widest vector.
_ALIGNMENT = 64


class _MessageSum(Sum):
    """A sum that MPI takes with messages."""

    def __init__(self, ranks: Any) -> None:
        self._ranks = ranks

    def begin(self, array: Array) -> Callable[[], bool]:
        """See `Sum.begin`."""
        self.result = array
        test: Callable[[], bool] = self._ranks.Iallreduce(MPI.IN_PLACE, array).Test
        return test


class MpiRanks(Ranks):
    """The processes that a launcher started together.

    Sums rely on what the standard recommends strongly [1]_ and its implementations do: that a reduction of
    the same numbers gives the same bits again, and on all ranks; checkpoints compare the ranks.

    Parameters
    ----------
    machine : int, optional
        Take the ranks with the same number for those of a machine, instead of those that can share memory.

    References
    ----------
    .. [1] MPI: A Message-Passing Interface Standard, version 5.0, section 6.9.1, advice to implementors.
    """

    def __init__(self, machine: int | None = None) -> None:
        self._all = MPI.COMM_WORLD.Dup()  # whose messages no other library meets
        node = self._all.Split_type(MPI.COMM_TYPE_SHARED)
        self._node = node if machine is None else self._all.Split(machine)
        self.rank, self.size = self._all.rank, self._all.size
        self.local_rank, self.local_size = self._node.rank, self._node.size
        # Several ranks on each machine, and on each the same number: sums are taken in shared memory.
        sizes = {*self._all.allgather(self.local_size)}
        shared = len(sizes) == 1 and self.local_size > 1
        self._across = self._all.Split(self.local_rank) if shared else None
        self.concurrent = MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self.mpi_name = MPI.Get_library_version().split("\n")[0].strip(" \0")
        self._windows: list[Any] = []  # which own the memory of arrays
        self._aborting: Array | None = None  # by rank of the machine: it ends all, for a reason that it tells
        self._watch = DeathWatch({}, lambda rank: None)

    # -- sums ------------------------------------------------------------------------------------

    def sum(self, array: Array) -> Array:
        """See `Ranks.sum`."""
        self._all.Allreduce(MPI.IN_PLACE, array)
        return array

    def new_sum(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Sum:
        """See `Ranks.new_sum`."""
        if self._across is None:
            return _MessageSum(self._all)
        count, size = self.local_size + 1, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        step = -(-size // _ALIGNMENT) * _ALIGNMENT
        memory = self._memory(count * step)[1]
        arrays: list[Array] = [np.ndarray(shape, dtype, memory, k * step) for k in range(count)]
        return SharedSum(self._node, self._across, arrays)

    def gather(self, array: Array) -> Array:
        """See `Ranks.gather`."""
        found = np.empty((self.size, *array.shape), array.dtype)
        self._all.Allgather(np.ascontiguousarray(array), found)
        return found

    def gather_here(self, text: str) -> list[str]:
        """See `Ranks.gather_here`."""
        found: list[str] = self._node.allgather(text)
        return found

    def join(self, array: Array | None, axis: int = 0) -> Array:
        """See `Ranks.join`."""
        return np.concatenate([one for one in self._all.allgather(array) if one is not None], axis)

    # -- one for all -----------------------------------------------------------------------------

    def once(self, make: Callable[[], T]) -> T:
        """See `Ranks.once`."""
        found: T = self._all.bcast(make() if self.rank == 0 else None)
        return found

    def once_a_machine(self, make: Callable[[], T]) -> T:
        """See `Ranks.once_a_machine`."""
        node = self._node
        if node.size == 1:
            return make()
        # Written and read by processes of one training only: as mpi4py sends objects, but not copied.
        buffers: list[pickle.PickleBuffer] = []
        content = pickle.dumps(make(), 5, buffer_callback=buffers.append) if self.local_rank == 0 else b""
        parts: list[Any] = [content, *(buffer.raw() for buffer in buffers)]
        sizes: list[int] = node.bcast([memoryview(part).nbytes for part in parts])
        starts = np.cumsum([0, *(-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes)]).tolist()
        window, memory = self._memory(starts[-1])
        places = [memory[start : start + size] for start, size in zip(starts, sizes, strict=False)]
        window.Fence()
        if self.local_rank == 0:
            for place, part in zip(places, parts, strict=True):
                place[:] = part
        window.Fence()
        found: T = pickle.loads(places[0], buffers=[place.toreadonly() for place in places[1:]])
        return found

    def _memory(self, size: int) -> tuple[Any, memoryview]:
        """Memory of so many bytes that all ranks of the machine share, and the window that owns it."""
        window = MPI.Win.Allocate_shared(size if self.local_rank == 0 else 0, 1, comm=self._node)
        self._windows.append(window)
        return window, memoryview(window.Shared_query(0)[0])

    # -- the end ---------------------------------------------------------------------------------

    def watch(self, tell: Callable[[int], None]) -> None:
        """See `Ranks.watch`: the machine's first rank watches the others, and the second one the first."""
        aborting: Array = np.frombuffer(self._memory(self.local_size)[1], np.uint8)
        aborting[self.local_rank] = 0
        self._aborting = aborting
        here: list[tuple[int, int]] = self._node.allgather((os.getpid(), self.rank))
        local = self.local_rank
        watched = here[1:] if local == 0 else here[:1] if local == 1 else []
        local_of = {rank: number for number, (_, rank) in enumerate(here)}

        def told(rank: int) -> None:
            if not aborting[local_of[rank]]:  # else it has told itself why
                tell(rank)

        self._watch = DeathWatch(dict(watched), told)

    def part_company(self) -> None:
        """See `Ranks.part_company`."""
        self._all.Barrier()
        self._watch.stop()
        self._all.Barrier()  # nobody ends while another one still watches

    def abort(self, status: int) -> NoReturn:
        """See `Ranks.abort`."""
        if self._aborting is not None:
            self._aborting[self.local_rank] = 1
        self._all.Abort(status)
        os._exit(status)

    # -- threads ---------------------------------------------------------------------------------

    def threads(self, available: int, bound: frozenset[int], chosen: bool) -> int:
        """See `Ranks.threads`: a launcher may have bound each rank to its cores already."""
        every: list[frozenset[int]] = self._node.allgather(bound)
        if chosen:
            return available
        # Fewer than its cores: a quota, which all of them share.
        cores = len(frozenset().union(*every)) if available >= len(bound) else available
        return max(1, min(available, cores // self.local_size))
