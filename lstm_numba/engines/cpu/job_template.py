"""A job that is kept, and compiled code that adds to it where the arrays of a call are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.core import types
from numba.np.numpy_support import from_dtype

from lstm_numba.engines.cpu.function_pointers import once
from lstm_numba.engines.cpu.options import INLINE, SERIAL
from lstm_numba.engines.cpu.records import index_of, numbers, read_record, size_of
from lstm_numba.engines.cpu.thread_team import Phases, phase_bits, run_alone
from lstm_numba.engines.cpu.vector import pointer_to

#: What numbers of a job are relative to: the memory of the call, which begins with the job; two other pieces
#: of memory; and from `ARRAYS` on the call's arrays.
CALL, OTHER, THIRD, ARRAYS = range(4)


class _Plan(NamedTuple):
    """A layer's call, as a record.

    Attributes
    ----------
    task, phases : int
        As `run_alone` takes them.
    stale : int
        Position in the job of what a check sets, 0 without one.
    shapes : int
        Address of the three axes of each array.
    template, job : int
        Address of the job, and how many numbers it has.
    relative, places : int
        Address of what in it is relative, position and to what, and how many these are.
    """

    task: int
    phases: int
    stale: int
    shapes: int
    template: int
    job: int
    relative: int
    places: int


@njit(**INLINE)
def _call(where, start, other, third, arrays):
    """A layer's call; False if an array's shape does not fit."""
    plan = read_record(_Plan, where, 0)
    shapes = pointer_to(plan.shapes, where)
    for n in range(len(arrays)):
        for axis in range(3):
            if arrays[n].shape[axis] != shapes[3 * n + axis]:
                return False
    job, template = pointer_to(start, where), pointer_to(plan.template, where)
    for n in range(plan.job):
        job[n] = template[n]
    relative = pointer_to(plan.relative, where)
    for n in range(plan.places):
        to = relative[2 * n + 1]
        if to >= ARRAYS:
            job[relative[2 * n]] += np.int64(arrays[to - ARRAYS].ctypes.data)
        else:
            job[relative[2 * n]] += start if to == CALL else other if to == OTHER else third
    run_alone(plan.task, start, plan.phases, start + 8 * plan.stale if plan.stale != 0 else np.int64(0))
    return True


# One for each number of arrays: Python gives Numba an array in a tenth of the time of a tuple of arrays.


def _four(where, start, other, third, a, b, c, d):
    return _call(where, start, other, third, (a, b, c, d))


def _six(where, start, other, third, a, b, c, d, e, f):
    return _call(where, start, other, third, (a, b, c, d, e, f))


def _eight(where, start, other, third, a, b, c, d, e, f, g, h):
    return _call(where, start, other, third, (a, b, c, d, e, f, g, h))


def _ten(where, start, other, third, a, b, c, d, e, f, g, h, i, j):
    return _call(where, start, other, third, (a, b, c, d, e, f, g, h, i, j))


def _twelve(where, start, other, third, a, b, c, d, e, f, g, h, i, j, k, m):
    return _call(where, start, other, third, (a, b, c, d, e, f, g, h, i, j, k, m))


_BY_ARRAYS = {4: _four, 6: _six, 8: _eight, 10: _ten, 12: _twelve}


@once
def compiled_call(dtype: Any, arrays: int) -> Any:
    """A function of a template's plan, three addresses of memory and so many arrays of three axes."""
    cube = from_dtype(dtype)[:, :, ::1]
    signature = types.boolean(*[types.int64] * 4, *[cube] * arrays)
    return njit(signature, **SERIAL)(_BY_ARRAYS[arrays])


class JobTemplate:
    """A job to which a call adds where its arrays and its memory are.

    Parameters
    ----------
    task : int
    phases : Phases
    record : SequenceJob or BackwardJob
    states : sequence of int
        What is behind it, relative to the last arrays, one after the other.
    relative : mapping of tuple of str to int
        What else is relative, as `index_of` finds it, and to what.
    shapes : sequence of tuple of int
        Those of the arrays.

    Attributes
    ----------
    plan : int
        Address of a `_Plan`, for `compiled_call`.
    """

    def __init__(
        self,
        task: int,
        phases: Phases,
        record: Any,
        states: Sequence[int],
        relative: Mapping[tuple[str, ...], int],
        shapes: Sequence[tuple[int, ...]],
    ) -> None:
        kind, first = type(record), ARRAYS + len(shapes) - len(states)
        places = [(index_of(kind, *path), to) for path, to in relative.items()]
        places += [(size_of(kind) + n, first + n) for n in range(len(states))]
        job = numbers(record, tuple(states))
        lists = [np.array(shapes, np.int64), np.array(places, np.int64)]
        stale = index_of(kind, "stale") if phases.check else 0
        plan = numbers(
            _Plan(
                task, phase_bits(phases), stale, lists[0].ctypes.data, job.buffer_info()[0], len(job),
                lists[1].ctypes.data, len(places),
            )
        )  # fmt: skip
        self.plan = plan.buffer_info()[0]
        self._alive = plan, job, lists
