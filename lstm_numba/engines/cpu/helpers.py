"""Threads of the library's own, which help one that has work to share.

A parallel loop of Numba ends when each of its threads has come, even if there is nothing left to do: on a
busy machine after a scheduler's slice of milliseconds, and with OpenMP after a pause of the program as well.
These are invited. Who has work begins at once, and waits in the end only for those that did come.

A call offers an entry: a C function of an argument and a part, which returns when there is nothing left to do
(`lstm_numba.engines.cpu.rounds`). The caller is part 0.
"""

from __future__ import annotations

import atexit
import os
import threading

import numpy as np
from numba import njit
from numba.core import types
from numba.core.compiler_lock import global_compiler_lock

from lstm_numba.engines.cpu.function_pointers import call_pointer
from lstm_numba.engines.cpu.memory import address, aligned_zeros
from lstm_numba.engines.cpu.options import CALLEE, SERIAL
from lstm_numba.engines.cpu.rounds import ALONE_HERE
from lstm_numba.engines.cpu.vector import pointer_address, pointer_to
from lstm_numba.engines.cpu.waiting import (
    atomic_add,
    atomic_load,
    atomic_store,
    compare_and_swap,
    current_core,
    pause,
    set_affinity,
    sleep_while,
    wake_all,
)

# Numbers of the memory that all of them share, on cache lines of their own.
#: Calls so far in the upper half; below, whether one may be joined, and how many have joined it.
_STATE = 0
_CALL, _OPEN = 1 << 32, 1 << 16
#: Helpers that sleep until the next call, whether the caller sleeps, whether there will be no more.
_ASLEEP, _CALLER_ASLEEP, _STOP = 8, 9, 10
#: Whether somebody's call is under way; what it offers.
_TAKEN = 16
_ENTRY, _ARGUMENT, _PARTS = 24, 25, 26
#: The core that helpers leave to callers, how many helpers keep to that, the system's numbers of these
#: threads; the cores of the process, and room for those of the helpers, a bit for each.
_LEFT, _PLACED, _THREADS = 32, 33, 34
_CORES, _THEIRS, _WORDS = 48, 64, 16
_NUMBERS = 80
_UPPER, _LOWER = 1, 0
#: More helpers than this the system places well enough.
_MOST_PLACED = _CORES - _THREADS

#: Looks, of some 10 to 40 nanoseconds each, before a thread sleeps: a helper without work, and a caller who
#: waits for the last one.
_IDLE_LOOKS = 4_000
_LAST_LOOKS = 500


@njit(**CALLEE)
def _join(shared, call):
    """Join a call; False if it is over."""
    while True:
        state = atomic_load(shared, _STATE)
        if state // _CALL != call or state & _OPEN == 0:
            return False
        if compare_and_swap(shared, _STATE, state, state + 1):
            return True


@njit(**CALLEE)
def _leave(shared):
    state = atomic_add(shared, _STATE, -1)
    if state % _CALL == 0 and atomic_load(shared, _CALLER_ASLEEP) != 0:
        wake_all(shared, _STATE, _LOWER)


def _serve(where, part):
    """What a helper does all its life; `part` is its part of every call."""
    shared, seen, looks = pointer_to(where, part), np.int64(0), 0
    while True:
        call = atomic_load(shared, _STATE) // _CALL
        if call != seen:
            seen, looks = call, 0
            if atomic_load(shared, _STOP) != 0:
                return
            if _join(shared, call):
                if part < shared[_PARTS]:
                    call_pointer(shared[_ENTRY], (pointer_to(shared[_ARGUMENT], part), part))
                _leave(shared)
        elif looks < _IDLE_LOOKS:
            looks += 1
            pause()
        else:
            atomic_add(shared, _ASLEEP, 1)
            sleep_while(shared, _STATE, _UPPER, seen)
            atomic_add(shared, _ASLEEP, -1)
            looks = _IDLE_LOOKS - 10


@njit(**CALLEE)
def _place(shared):
    """Keep helpers off the core that this thread is on.

    Linux may wake a thread on the core of the one that wakes it, and on a virtual machine leave it there for
    milliseconds while another core has nothing to do.
    """
    core = current_core()
    if core < 0 or core == shared[_LEFT] or core >= 64 * _WORDS:
        return
    shared[_LEFT] = core
    for n in range(_WORDS):
        shared[_THEIRS + n] = shared[_CORES + n]
    shared[_THEIRS + core // 64] &= ~(np.int64(1) << (core % 64))
    others = np.int64(0)
    for n in range(_WORDS):
        others |= shared[_THEIRS + n]
    if others != 0:
        theirs = pointer_to(pointer_address(shared) + 8 * _THEIRS, core)
        for n in range(shared[_PLACED]):
            set_affinity(shared[_THREADS + n], theirs, np.int64(_WORDS))


@njit(**SERIAL)
def call_with_helpers(where, entry, argument, parts):
    """Call an entry as part 0, and have helpers call it as the others.

    Where they help somebody already the caller is told that nobody else is there.
    """
    shared = pointer_to(where, parts)
    job = pointer_to(argument, parts)
    if parts == 1 or not compare_and_swap(shared, _TAKEN, 0, 1):
        call_pointer(entry, (job, np.int64(ALONE_HERE)))
        return
    shared[_ENTRY], shared[_ARGUMENT], shared[_PARTS] = entry, argument, parts
    atomic_store(shared, _STATE, (atomic_load(shared, _STATE) // _CALL + 1) * _CALL + _OPEN)
    if atomic_load(shared, _ASLEEP) > 0:
        _place(shared)
        wake_all(shared, _STATE, _UPPER)
    call_pointer(entry, (job, np.int64(0)))
    joined = atomic_add(shared, _STATE, -_OPEN) % _CALL
    looks = 0
    while joined > 0:
        if looks < _LAST_LOOKS:
            looks += 1
            pause()
        else:
            atomic_store(shared, _CALLER_ASLEEP, 1)
            sleep_while(shared, _STATE, _LOWER, joined)
        joined = atomic_load(shared, _STATE) % _CALL
    if looks == _LAST_LOOKS:
        atomic_store(shared, _CALLER_ASLEEP, 0)
    atomic_store(shared, _TAKEN, 0)


class _Helpers:
    """The process's helpers; none before they are needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused = False  # the system starts no more threads
        self._threads: list[threading.Thread] = []
        self._shared = aligned_zeros((_NUMBERS,), np.int64)
        self._shared[_LEFT] = -1
        if hasattr(os, "sched_getaffinity"):
            for core in os.sched_getaffinity(0):
                if core < 64 * _WORDS:
                    self._shared.view(np.uint64)[_CORES + core // 64] |= np.uint64(1 << core % 64)
        self.address = address(self._shared)

    def at_least(self, count: int) -> int:
        """See `helpers`."""
        if len(self._threads) < count and not self._refused:
            with self._lock:
                serve = njit([types.void(types.int64, types.int64)], **SERIAL)(_serve)
                for part in range(len(self._threads) + 1, count + 1):
                    name = f"lstm_numba-{part}"
                    thread = threading.Thread(target=serve, args=(self.address, part), name=name, daemon=True)
                    try:
                        thread.start()
                    except RuntimeError:  # those that are there take its parts
                        self._refused = True
                        break
                    self._threads.append(thread)
                    if part <= _MOST_PLACED and thread.native_id is not None:
                        self._shared[_THREADS + part - 1] = thread.native_id
                        self._shared[_PLACED] = part
                        self._shared[_LEFT] = -1
        return self.address

    def stop(self) -> None:
        """End them: compiled code is freed when the interpreter ends."""
        if not self._threads:
            return  # nothing is compiled in order to stop nobody
        _stop(self.address)
        for thread in self._threads:
            thread.join()


@njit(**SERIAL)
def _stop(where):
    """Begin a last call, which nobody joins; another thread may have one under way."""
    shared = pointer_to(where, where)
    atomic_store(shared, _STOP, 1)
    atomic_add(shared, _STATE, _CALL)
    wake_all(shared, _STATE, _UPPER)


_helpers = _Helpers()


def helpers(count: int) -> int:
    """Address of what `call_with_helpers` wants, after starting helpers until there are so many or as many as
    the system allows.
    """
    return _helpers.at_least(count)


# A fork waits for other threads' compilations: a child would find them half done, and Numba's lock taken. It
# has none of the helpers, and their memory is as their work left it.


def _in_child() -> None:
    global _helpers
    global_compiler_lock.release()
    _helpers = _Helpers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=_in_child,
    )
atexit.register(lambda: _helpers.stop())
