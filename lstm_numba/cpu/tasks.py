"""Tasks: C functions that threads share, and the one loop in which they do.

A task is a function of a job (a pointer to numbers), a phase and a part. Its phases follow one another: some
threads prepare, one begins, each of some does its part of the work, one ends, and what remains is shared
again. There is one loop for all tasks and phases, because a parallel loop takes Numba a second to compile.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import njit, prange
from numba.core import types
from numba.np.ufunc import parallel as threading

from lstm_numba.cpu.apart import call_apart, compile_apart
from lstm_numba.cpu.meeting import gathered
from lstm_numba.cpu.options import PARALLEL, SERIAL
from lstm_numba.cpu.simd import pointer_to

Array = np.ndarray[Any, Any]

PREPARE, BEGIN, WORK, END, AFTER = range(5)


def thread_count() -> int:
    """`numba.get_num_threads`, but for two locks, which cost 30 microseconds when caches are cold."""
    return int(getattr(threading, "_get_num_threads", numba.get_num_threads)())


def compile_task(function: Any) -> int:
    """Where a function of (job, phase, part), or of a job and two other numbers, lies as a C function."""
    address: int = compile_apart(function, types.CPointer(types.int64), types.int64, types.int64).address
    return address


@njit(**SERIAL)
def _run_alone(task, job, first, last):
    """Phases of a task on the calling thread."""
    where = pointer_to(job.ctypes.data, task)
    for phase in range(first, last + 1):
        call_apart(task, (where, phase, 0))


@njit(**PARALLEL)
def _run_together(task, job, prepare, parts, workers, meeting):
    """A task by several threads."""
    counts = (prepare, min(parts, 1), parts, min(parts, 1), workers)
    for phase in range(AFTER + 1):
        count = counts[phase]
        if count == 1:
            call_apart(task, (pointer_to(job.ctypes.data, task), phase, 0))
        elif count > 1:
            for part in prange(count):
                call_apart(task, (pointer_to(job.ctypes.data, task), phase, np.int64(part)))
        if phase == WORK and meeting != 0 and not gathered(pointer_to(meeting, task)):
            return False
    return True


def run_task(
    task: int, job: Array, parts: int = 1, workers: int = 1, meeting: int = 0, prepare: int = 0
) -> bool:
    """Do a task: its work in so many parts, what remains afterwards by so many workers.

    Parameters
    ----------
    task : int
        `compile_task`'s.
    job : ndarray of int64, 1-D
    parts, workers : int
        With more than one of the former, threads share both. Without parts nothing but the preparation is
        done.
    meeting : int
        Address of what is to have brought the threads together (`lstm_numba.cpu.meeting`), 0 where they do
        not meet.
    prepare : int
        Parts of the preparation; 0 to leave it out.

    Returns
    -------
    bool
        False if threads that had to meet did not run at the same time. Then nothing was done beyond the
        preparation.
    """
    if parts <= 1 and prepare <= 1:
        _run_alone(task, job, PREPARE if prepare else BEGIN, AFTER if parts else PREPARE)
        return True
    return bool(_run_together(task, job, prepare, parts, workers, meeting))
