"""Many models at once: every thread takes whole models, one after the other, and nobody waits for another.

A model's job is that of a single model on one thread, so its results are the same bits. Job n has every
address of the first one's, n times a stride further on.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple

import numpy as np
from numba.core import types

from lstm_numba.engines.cpu.function_pointers import compile_apart, once
from lstm_numba.engines.cpu.helpers import call_with_helpers, helpers
from lstm_numba.engines.cpu.records import Numbers, read_record, size_of
from lstm_numba.engines.cpu.rounds import ALONE_HERE
from lstm_numba.engines.cpu.thread_team import Phases, phase_bits, run_alone
from lstm_numba.engines.cpu.threads import thread_count
from lstm_numba.engines.cpu.vector import pointer_address
from lstm_numba.engines.cpu.waiting import atomic_add


class _Models(NamedTuple):
    """Jobs of many models; behind it those numbers of `size` that `run_models` is given, and room for as many
    for each thread.
    """

    task: int
    phases: int
    size: int
    models: int
    taken: int  # so far


_HEAD, _TAKEN = size_of(_Models), _Models._fields.index("taken")


def _take_models(shared, part):
    """What each thread does: the next model's job, until there is none."""
    record = read_record(_Models, shared, 0)
    size, thread = record.size, np.int64(0) if part == ALONE_HERE else part
    own = _HEAD + (3 + thread) * size
    job = pointer_address(shared) + 8 * own
    n = atomic_add(shared, _TAKEN, 1) - 1
    while n < record.models:
        for k in range(_HEAD, _HEAD + size):
            shared[own + k - _HEAD] = shared[k] + n * shared[k + size] + thread * shared[k + 2 * size]
        run_alone(record.task, job, record.phases, np.int64(0))
        n = atomic_add(shared, _TAKEN, 1) - 1


@once
def _entry() -> int:
    """Address of `_take_models`."""
    address: int = compile_apart(_take_models, types.CPointer(types.int64), types.int64).address
    return address


def threads_for(models: int) -> int:
    """Threads that so many models keep busy."""
    return min(models, thread_count())


def run_models(
    task: int, phases: Phases, first: Numbers, per_model: Numbers, per_thread: Numbers, models: int
) -> None:
    """Do a task for each of many models.

    Parameters
    ----------
    task : int
        `compile_task`'s.
    phases : Phases
        Of at most one part each.
    first, per_model, per_thread : array of int64, all of one length
        The job of the first model by the first thread; what is added to its numbers from one model to the
        next, and from one thread to the next.
    models : int
    """
    threads, size = threads_for(models), len(first)
    head = _Models(task, phase_bits(phases), size, models, 0)
    shared = array("q", (*head, *first, *per_model, *per_thread, *(0,) * (threads * size)))
    call_with_helpers(helpers(threads - 1), _entry(), shared.buffer_info()[0], threads)
