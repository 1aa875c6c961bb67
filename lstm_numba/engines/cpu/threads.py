"""Parallel kernels that Python calls, safe from other threads and after a fork.

Of Numba's threading layers, ``workqueue`` ends the process when two threads begin parallel loops at the same
time, so they take turns there. ``omp`` ends a process that was forked after it started, and ``tbb`` hangs in
one that was not forked from the main thread, so such a child computes alone; ``workqueue`` begins anew in it.
"""

from __future__ import annotations

import functools
import os
import threading
from contextlib import suppress
from types import FunctionType
from typing import Any

import numba
from numba import njit
from numba.core.compiler_lock import global_compiler_lock
from numba.np.ufunc import parallel

#: Held in a parallel loop where threads take turns.
_turn = threading.RLock()
#: Numba's threading layer, once it started.
_layer = ""
#: Whether this process was forked from one with threads that it cannot have.
_alone = False


def alone() -> bool:
    """Whether this process must not begin a parallel loop."""
    return _alone


def thread_count() -> int:
    """`numba.get_num_threads`, but for two locks, which cost 30 microseconds when caches are cold."""
    return 1 if _alone else int(getattr(parallel, "_get_num_threads", numba.get_num_threads)())


def threaded(**options: Any) -> Any:
    """`numba.njit` for a kernel with a ``prange`` that Python calls, not compiled code.

    Parameters
    ----------
    **options
        Of `numba.njit`, with ``parallel=True``.
    """

    def decorate(function: Any) -> Any:
        together = njit(**options)(function)

        @functools.wraps(function)
        def call(*arguments: Any) -> Any:
            if _alone:
                return _serial(function, **{**options, "parallel": False})(*arguments)
            if (_layer or _find_layer()) == "workqueue":
                with _turn:
                    return together(*arguments)
            return together(*arguments)

        return call

    return decorate


def _find_layer() -> str:
    global _layer
    numba.get_num_threads()  # starts the threads; before there is no layer
    _layer = str(numba.threading_layer())
    return _layer


@global_compiler_lock
def _serial(function: Any, **options: Any) -> Any:
    """A kernel's version for one thread, compiled where it is called."""
    if not hasattr(function, "serial"):
        twin = FunctionType(function.__code__, function.__globals__, function.__name__)
        # On disk Numba tells functions by name and code, and would take the parallel version for this one.
        twin.__qualname__ = f"{function.__qualname__}_serial"
        function.serial = njit(**options)(twin)
    return function.serial


# A fork waits for other threads' parallel loops and compilations: a child would find them half done, and
# their locks taken. The locks are taken in the order in which a kernel's first call does.


def _before_fork() -> None:
    _turn.acquire()
    global_compiler_lock.acquire()


def _after_fork() -> None:
    global_compiler_lock.release()
    _turn.release()


def _in_child() -> None:
    global _alone
    _after_fork()
    with suppress(ValueError):  # the threads had not started
        _alone = _alone or numba.threading_layer() != "workqueue"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
