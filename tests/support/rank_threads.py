"""Ranks that are threads of one process: the same calls as of processes, without MPI."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import numba
import numpy as np

from lstm_numba.ranks.base import Array, Ranks, Sum

T = TypeVar("T")

#: Seconds after which a rank that waits in vain fails.
_PATIENCE = 60.0


class _Meeting:
    """Where all ranks lay something down, and look at what the others have laid down."""

    def __init__(self, size: int) -> None:
        self._size, self._changed, self._aborted = size, threading.Condition(), False
        self._turns = [0] * size
        self._slots: dict[int, dict[int, Any]] = {}

    def exchange(self, rank: int, value: Any) -> list[Any]:
        with self._changed:
            slots = self._slots.setdefault(self._turns[rank], {})
            self._turns[rank] += 1
            slots[rank] = value
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(slots) == self._size or self._aborted, _PATIENCE)
            if len(slots) < self._size:  # else all have met, even if one has failed since
                raise threading.BrokenBarrierError
            self._slots.pop(self._turns[rank] - 2, None)
            return [slots[n] for n in range(self._size)]

    def abort(self) -> None:
        with self._changed:
            self._aborted = True
            self._changed.notify_all()


class ThreadRanks(Ranks):
    """One of several threads.

    Attributes
    ----------
    sums : list of int
        Numbers in each array of which a sum was taken.
    """

    def __init__(self, rank: int, size: int, meeting: _Meeting) -> None:
        self.rank, self.size, self.local_size = rank, size, size
        self._meeting = meeting
        self.sums: list[int] = []

    def sum(self, array: Array) -> Array:
        """In the order of the ranks."""
        self.sums.append(array.size)
        first, *others = self._meeting.exchange(self.rank, array.copy())
        total = first.copy()
        for other in others:
            total += other
        array[...] = total
        return array

    def new_sum(self, shape: tuple[int, ...], dtype: Any) -> Sum:
        """A sum that is taken when it is first asked for."""
        return _LateSum(self)

    def gather(self, array: Array) -> Array:
        """All arrays."""
        return np.stack(self._meeting.exchange(self.rank, array.copy()))

    def join(self, array: Array | None, axis: int = 0) -> Array:
        """All arrays in a row."""
        found = self._meeting.exchange(self.rank, None if array is None else array.copy())
        return np.concatenate([one for one in found if one is not None], axis)

    def once(self, make: Callable[[], T]) -> T:
        """On the first rank."""
        found: T = self._meeting.exchange(self.rank, make() if self.first else None)[0]
        return found

    once_a_machine = once

    def abort(self, status: int) -> NoReturn:
        """The others fail where they wait."""
        self._meeting.abort()
        raise SystemExit(status)


class _LateSum(Sum):
    def __init__(self, ranks: ThreadRanks) -> None:
        self._ranks = ranks

    def begin(self, array: Array) -> Callable[[], bool]:
        def push() -> bool:
            self._ranks.sum(array)
            return True

        self.result = array
        return push


def on_ranks(size: int, work: Callable[[Ranks], T]) -> list[T]:
    """What a function returns on each of several ranks; the first error of one is raised."""
    meeting = _Meeting(size)
    found: list[Any] = [None] * size
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        numba.set_num_threads(1)
        try:
            found[rank] = work(ThreadRanks(rank, size, meeting))
        except threading.BrokenBarrierError:
            pass  # another rank has failed
        except BaseException as error:
            errors.append(error)
            meeting.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return found
