"""Tasks: C functions that threads share.

A task is a function of a job (a pointer to numbers), a phase and a part. Its phases follow one another: some
threads check what there is to prepare, and prepare it, one begins, each of some does its part of the work,
one ends, and what remains is shared again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.core import types

from lstm_numba.engines.cpu.function_pointers import call_pointer, compile_apart, once
from lstm_numba.engines.cpu.helpers import call_with_helpers, helpers
from lstm_numba.engines.cpu.options import INLINE, SERIAL
from lstm_numba.engines.cpu.records import numbers, read_record, size_of
from lstm_numba.engines.cpu.rounds import finish_part, next_part, rounds_numbers
from lstm_numba.engines.cpu.vector import pointer_address, pointer_to

CHECK, PREPARE, BEGIN, WORK, END, AFTER = range(6)


class Phases(NamedTuple):
    """In how many parts each phase of a task is done, 0 to leave it out."""

    check: int = 0
    prepare: int = 0
    begin: int = 0
    work: int = 0
    end: int = 0
    after: int = 0


class _Shared(NamedTuple):
    """A task that threads share; behind it is the memory of its rounds, one for each phase."""

    phases: Phases
    task: int
    job: int
    together: int
    stale: int


_ROUNDS = size_of(_Shared)


def compile_task(function: Any) -> int:
    """Address of a function of (job, phase, part), or of a job and two other numbers, as a C function."""
    address: int = compile_apart(function, types.CPointer(types.int64), types.int64, types.int64).address
    return address


@njit(**INLINE)
def _spared(phase, stale):
    """Whether the check found nothing to prepare; `stale` is where it says so."""
    return phase == PREPARE and stale != 0 and pointer_to(stale, stale)[0] == 0


def phase_bits(phases: Phases) -> int:
    """A bit for each phase that is not left out."""
    return sum((count > 0) << n for n, count in enumerate(phases))


@njit(**SERIAL)
def run_alone(task, job, phases, stale):
    """Do a task's phases, as `phase_bits`, on the calling thread; see `run_task`."""
    for phase in range(AFTER + 1):
        if phases >> phase & 1 and not _spared(phase, stale):
            call_pointer(task, (pointer_to(job, task), phase, 0))


def _take_part(shared, part):
    """What each thread does of a shared task."""
    record = read_record(_Shared, shared, 0)
    job = pointer_to(record.job, part)
    rounds = pointer_to(pointer_address(shared) + 8 * _ROUNDS, part)
    expected = np.int64(0)
    for phase in range(AFTER + 1):
        count = shared[phase]
        if phase == WORK and record.together != 0:
            call_pointer(record.task, (job, phase, part))
        elif count > 0 and not _spared(phase, record.stale):
            expected += count
            piece = next_part(rounds, count, part, phase + 1, expected)
            while piece >= 0:
                call_pointer(record.task, (job, phase, piece))
                finish_part(rounds, expected)
                piece = next_part(rounds, count, part, phase + 1, expected)


@once
def _entry() -> int:
    """Address of `_take_part`."""
    address: int = compile_apart(_take_part, types.CPointer(types.int64), types.int64).address
    return address


def run_task(task: int, job: int, phases: Phases, together: bool = False, stale: int = 0) -> None:
    """Do a task, phase after phase; threads share those of several parts.

    Parameters
    ----------
    task : int
        `compile_task`'s.
    job : int
        Address of its numbers, of int64.
    phases : Phases
    together : bool
        Whether each thread is to call the work, with its part or `lstm_numba.engines.cpu.rounds.ALONE_HERE`,
        and knows its rounds.
    stale : int
        Address of a number that a check sets where it is; 0 to prepare without one.
    """
    parts = max(phases)
    if parts <= 1:
        run_alone(task, job, phase_bits(phases), stale)
        return
    shared = numbers(_Shared(phases, task, job, int(together), stale), (0,) * rounds_numbers.py_func(parts))
    call_with_helpers(helpers(parts - 1), _entry(), shared.buffer_info()[0], parts)
