"""Tasks: C functions that threads share, and the one loop in which they do.

A task is a function of a job (a pointer to numbers), a phase and a part. Its phases follow one another: some
threads check what there is to prepare, and prepare it, one begins, each of some does its part of the work,
one ends, and what remains is shared again. There is one loop for all tasks and phases, because a parallel
loop takes Numba a second to compile.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numba.core import types

from lstm_numba.engines.cpu.barrier import has_met
from lstm_numba.engines.cpu.function_pointers import call_pointer, compile_apart
from lstm_numba.engines.cpu.options import INLINE, PARALLEL, SERIAL
from lstm_numba.engines.cpu.threads import alone, threaded
from lstm_numba.engines.cpu.vector import pointer_to

CHECK, PREPARE, BEGIN, WORK, END, AFTER = range(6)


def compile_task(function: Any) -> int:
    """Address of a function of (job, phase, part), or of a job and two other numbers, as a C function."""
    address: int = compile_apart(function, types.CPointer(types.int64), types.int64, types.int64).address
    return address


@njit(**INLINE)
def _spared(phase, stale):
    """Whether the check found nothing to prepare; `stale` is where it says so."""
    return phase == PREPARE and stale != 0 and pointer_to(stale, stale)[0] == 0


@njit(**SERIAL)
def _run_alone(task, job, first, last, stale):
    """Phases of a task on the calling thread."""
    for phase in range(first, last + 1):
        if not _spared(phase, stale):
            call_pointer(task, (pointer_to(job, task), phase, 0))


@threaded(**PARALLEL)
def _run_together(task, job, check, prepare, parts, workers, barrier, stale):
    """A task by several threads."""
    counts = (check, prepare, min(parts, 1), parts, min(parts, 1), workers)
    for phase in range(AFTER + 1):
        count = 0 if _spared(phase, stale) else counts[phase]
        if count == 1:
            call_pointer(task, (pointer_to(job, task), phase, 0))
        elif count > 1:
            for part in prange(count):
                call_pointer(task, (pointer_to(job, task), phase, np.int64(part)))
        if phase == WORK and barrier != 0 and not has_met(pointer_to(barrier, task)):
            return False
    return True


def run_task(
    task: int, job: int, parts: int = 1, workers: int = 1, barrier: int = 0, prepare: int = 0,
    check: int = 0, stale: int = 0,
) -> bool:  # fmt: skip
    """Do a task: its work in so many parts, what remains afterwards by so many workers.

    Parameters
    ----------
    task : int
        `compile_task`'s.
    job : int
        Address of its numbers, of int64.
    parts, workers : int
        With more than one of the former, threads share both. Without parts nothing but the preparation is
        done.
    barrier : int
        Address of the threads' barrier (`lstm_numba.engines.cpu.barrier`), 0 where they have none.
    prepare : int
        Parts of the preparation; 0 to leave it out.
    check : int
        Parts of the check for whether a preparation is needed; 0 to prepare without one.
    stale : int
        Address of a number that a check sets where it is.

    Returns
    -------
    bool
        False if threads that share a barrier did not run at the same time. Then nothing was done beyond the
        preparation.
    """
    missed = bool(barrier) and alone()
    if missed:
        parts = barrier = 0
    if max(parts, prepare, check) <= 1:
        first = CHECK if check else PREPARE if prepare else BEGIN
        _run_alone(task, job, first, AFTER if parts else PREPARE, stale)
        return not missed
    return bool(_run_together(task, job, check, prepare, parts, workers, barrier, stale)) and not missed
