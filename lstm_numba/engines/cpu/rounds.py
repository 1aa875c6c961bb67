"""Rounds of work that threads share, with a barrier after each.

A round has a few parts, one for each thread. A thread takes its own; when that is done and another's has not
been begun, it takes that one too. So nobody waits for a thread that has no core at present, but only for one
that is in the middle of a part, and a thread alone does everything. What a part is does not depend on who
does it: results are the same bits.
"""

from __future__ import annotations

from numba import njit

from lstm_numba.engines.cpu.options import CALLEE
from lstm_numba.engines.cpu.waiting import (
    atomic_add,
    atomic_load,
    compare_and_swap,
    pause,
    sleep_while,
    wake_all,
)

#: As a thread's part: nobody else is there.
ALONE_HERE = -1
#: Numbers of int64 in a cache line.
_LINE = 8
#: On the first line: parts done in all rounds so far, and threads that sleep until a round is over. Each part
#: has a line, for the last round in which it was taken.
_DONE, _ASLEEP = 0, 1
#: Looks, of some 10 to 40 nanoseconds each, before a thread takes another's part, and before it sleeps. The
#: latter last longer than waking a sleeper: one that slept sooner came too late for each round.
_OTHERS_LOOKS, _LOOKS = 100, 10_000


@njit(**CALLEE)
def rounds_numbers(parts):
    """Numbers of int64 in the memory of rounds of at most so many parts; zeros before the first round."""
    return _LINE * (1 + parts)


@njit(**CALLEE)
def clear_rounds(rounds, parts):
    """Make the memory ready for a first round."""
    for n in range(rounds_numbers(parts)):
        rounds[n] = 0


@njit(**CALLEE)
def _take(rounds, part, number):
    at = _LINE * (1 + part)
    last = atomic_load(rounds, at)
    return last < number and compare_and_swap(rounds, at, last, number)


@njit(**CALLEE)
def _take_other(rounds, parts, part, number):
    for n in range(parts):
        other = (part + n) % parts
        if _take(rounds, other, number):
            return other
    return -1


@njit(**CALLEE)
def _sleep_until(rounds, expected):
    atomic_add(rounds, _ASLEEP, 1)
    done = atomic_load(rounds, _DONE)
    while done < expected:
        sleep_while(rounds, _DONE, 0, done)
        done = atomic_load(rounds, _DONE)
    atomic_add(rounds, _ASLEEP, -1)


@njit(**CALLEE)
def next_part(rounds, parts, part, number, expected):
    """The next part of a round for this thread to do, or -1 when the round is over.

    Parameters
    ----------
    rounds : pointer
        Memory of `rounds_numbers`.
    parts : int
        Of this round.
    part : int
        This thread's, or `ALONE_HERE`.
    number : int
        Of the round, from 1 on.
    expected : int
        Parts of all rounds up to this one.
    """
    if part == ALONE_HERE:
        return _take_other(rounds, parts, 0, number)
    if part < parts and _take(rounds, part, number):
        return part
    looks = 0
    while atomic_load(rounds, _DONE) < expected:
        if looks == _OTHERS_LOOKS:
            other = _take_other(rounds, parts, part, number)
            if other >= 0:
                return other
        elif looks == _LOOKS:
            _sleep_until(rounds, expected)
        looks += 1
        pause()
    return -1


@njit(**CALLEE)
def finish_part(rounds, expected):
    """Say that a part of a round is done."""
    if atomic_add(rounds, _DONE, 1) == expected and atomic_load(rounds, _ASLEEP) > 0:
        wake_all(rounds, _DONE, 0)
