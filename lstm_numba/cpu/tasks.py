"""Tasks: C functions that threads share, and the one loop in which they do.

A task is a function of a job (a pointer to numbers), a phase and a part. Its phases follow one another: one
thread begins, each of some does its part of the work, one ends, and what remains is shared again. There is
one loop for all tasks, because a parallel loop takes Numba a second to compile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numba.core import types

from lstm_numba.cpu.apart import call_apart, compile_apart
from lstm_numba.cpu.meeting import gathered
from lstm_numba.cpu.options import PARALLEL, SERIAL
from lstm_numba.cpu.simd import pointer_to

Array = np.ndarray[Any, Any]

BEGIN, WORK, END, AFTER = range(4)


def compile_task(function: Any) -> int:
    """Where a function of (job, phase, part), or of a job and two other numbers, lies as a C function."""
    address: int = compile_apart(function, types.CPointer(types.int64), types.int64, types.int64).address
    return address


@njit(**SERIAL)
def _run_alone(task, job):
    """A task on the calling thread."""
    where = pointer_to(job.ctypes.data, task)
    for phase in range(AFTER + 1):
        call_apart(task, (where, phase, 0))


@njit(**PARALLEL)
def _run_together(task, job, parts, workers, meeting):
    """A task by several threads."""
    call_apart(task, (pointer_to(job.ctypes.data, task), BEGIN, 0))
    for part in prange(parts):
        call_apart(task, (pointer_to(job.ctypes.data, task), WORK, np.int64(part)))
    if meeting != 0 and not gathered(pointer_to(meeting, task)):
        return False
    call_apart(task, (pointer_to(job.ctypes.data, task), END, 0))
    for part in prange(workers):
        call_apart(task, (pointer_to(job.ctypes.data, task), AFTER, np.int64(part)))
    return True


def run_task(task: int, job: Array, parts: int = 1, workers: int = 1, meeting: int = 0) -> bool:
    """Do a task: its work in so many parts, what remains afterwards by so many workers.

    Parameters
    ----------
    task : int
        `compile_task`'s.
    job : ndarray of int64, 1-D
    parts, workers : int
        With more than one of the former, threads share both.
    meeting : int
        Address of what is to have brought the threads together (`lstm_numba.cpu.meeting`), 0 where they do
        not meet.

    Returns
    -------
    bool
        False if threads that had to meet did not run at the same time. Then nothing was done.
    """
    if parts == 1:
        _run_alone(task, job)
        return True
    return bool(_run_together(task, job, parts, workers, meeting))
