"""How threads wait for each other within a kernel, in a tenth of the time that starting them takes.

A parallel loop may run its iterations one after the other, on as few threads as it likes. Waiting for one
that has not begun would take for ever, so the threads first gather, with limited patience: either all find
that all are there, or all find that not, and the caller goes on without them. From then on a counter that
only grows is enough: at the n-th barrier it has reached n times the number of threads.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit
from numba.core import types
from numba.extending import intrinsic

from lstm_numba.engines.cpu.options import SERIAL

#: Numbers of int64 in a barrier's memory: one cache line for the counter, one for the outcome.
NUMBERS = 16
_OUTCOME = 8
_OPEN, _TOGETHER, _ALONE = 0, 1, 2
#: Looks at the outcome before a thread gives up: tens of milliseconds, longer than waking a thread takes.
_PATIENCE = 40_000_000


@intrinsic
def _atomic_add(typingctx: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Add to a number in memory that others may change; return the sum."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        old = builder.atomic_rmw("add", builder.gep(args[0], [args[1]]), args[2], "acq_rel")
        return builder.add(old, args[2])

    return types.int64(pointer, types.int64, types.int64), codegen


@intrinsic
def atomic_load(typingctx: Any, pointer: Any, index: Any) -> Any:
    """A number in memory that others may change, and all that they wrote before it."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(builder.gep(args[0], [args[1]]), "acquire", 8)

    return types.int64(pointer, types.int64), codegen


@intrinsic
def atomic_store(typingctx: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Store a number for others to `atomic_load` at, after all that was written before."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], builder.gep(args[0], [args[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(pointer, types.int64, types.int64), codegen


@intrinsic
def _compare_and_swap(typingctx: Any, pointer: Any, index: Any, old: Any, new: Any) -> Any:
    """Store `new` if the number is `old`; whether it was."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        where = builder.gep(args[0], [args[1]])
        outcome = builder.cmpxchg(where, args[2], args[3], "acq_rel", "acquire")
        return builder.zext(builder.extract_value(outcome, 1), ir.IntType(64))

    return types.int64(pointer, types.int64, types.int64, types.int64), codegen


@njit(**SERIAL)
def has_met(barrier):
    """What `rendezvous` found."""
    return atomic_load(barrier, _OUTCOME) == _TOGETHER


@njit(**SERIAL)
def rendezvous(barrier, parts):
    """Whether all `parts` threads are here at the same time; all of them get the same answer."""
    if _atomic_add(barrier, 0, 1) == parts:
        _compare_and_swap(barrier, _OUTCOME, _OPEN, _TOGETHER)
    for _ in range(_PATIENCE):
        if atomic_load(barrier, _OUTCOME) != _OPEN:
            break
    _compare_and_swap(barrier, _OUTCOME, _OPEN, _ALONE)
    return has_met(barrier)


@njit(**SERIAL)
def barrier_wait(barrier, expected):
    """Wait until the counter is at `expected`: the threads' number, times the meetings so far and one."""
    count = _atomic_add(barrier, 0, 1)
    while count < expected:
        count = atomic_load(barrier, 0)
