"""The protocol: contestants take turns, so that whatever slows the machine slows them all.

A turn begins with a pause and a few calls that are not timed; then calls are timed together, as many as take
`TURN_SECONDS`. Whoever began the last round is the last of the next one. A turn counts as one number, seconds
a call; quoted are the median and the quartiles over the turns.

Calls on a graphics processor may return before they are computed. The clock is read when all of them are: a
turn has the throughput of calls in a row, in which the host prepares one while the last is computed.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

TURNS = 11
TURN_SECONDS = 0.15
#: Seconds before a turn, for the last contestant's threads to fall asleep. They wait by spinning: those of
#: ONNX Runtime burn 0.04 s of processor time after its last call, those of OpenMP 0.01 s.
PAUSE_SECONDS = 0.06
#: Calls before the timed ones in every turn, fewer where they take longer than this.
WARM_CALLS = 3
WARM_SECONDS = 0.03


class Timed(Protocol):
    """What can be timed: a `lstm_numba.benchmarks.implementations.Contestant`, for instance."""

    def start(self) -> None:
        """Called before every turn."""

    def finish(self) -> None:
        """Called before the clock is read: waits for what was called."""

    @property
    def call(self) -> Any:
        """What is timed, a function without arguments."""


class Times(NamedTuple):
    """Seconds a call, one number a turn, and how many calls a turn has."""

    seconds: list[float]
    calls: int

    @property
    def median(self) -> float:
        """Median over the turns."""
        return float(np.median(self.seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile over the turns."""
        first, third = np.percentile(self.seconds, [25, 75])
        return float(first), float(third)


def protocol(turns: int) -> dict[str, Any]:
    """The constants, for those who read the numbers later."""
    return {
        "turns": turns,
        "turn_seconds": TURN_SECONDS,
        "pause_seconds": PAUSE_SECONDS,
        "warm_calls": WARM_CALLS,
        "warm_seconds": WARM_SECONDS,
    }


def measure(contestants: Mapping[str, Timed], turns: int) -> dict[str, Times]:
    """Time everybody's calls, taking turns.

    Parameters
    ----------
    contestants : mapping of str to Timed
    turns : int

    Returns
    -------
    dict of Times
    """
    names = list(contestants)
    calls = {name: _calls_in_a_turn(contestant) for name, contestant in contestants.items()}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(turns):
        for place in range(len(names)):
            name = names[(place + turn) % len(names)]
            seconds[name].append(_turn(contestants[name], calls[name]))
    return {name: Times(seconds[name], calls[name]) for name in names}


def _turn(contestant: Timed, calls: int) -> float:
    """Seconds a call in one turn."""
    time.sleep(PAUSE_SECONDS)
    contestant.start()
    call = contestant.call
    _warm(contestant)
    collecting = gc.isenabled()
    gc.disable()  # a collection would hit whoever's turn it is
    try:
        began = time.perf_counter()
        for _ in range(calls):
            call()
        contestant.finish()
        return (time.perf_counter() - began) / calls
    finally:
        if collecting:
            gc.enable()


def _warm(contestant: Timed) -> None:
    """Call without timing: caches, and threads that have fallen asleep."""
    began = time.perf_counter()
    for _ in range(WARM_CALLS):
        contestant.call()
        contestant.finish()
        if time.perf_counter() - began > WARM_SECONDS:
            break


def _calls_in_a_turn(contestant: Timed) -> int:
    """How many calls fill a turn, found by doubling."""
    time.sleep(PAUSE_SECONDS)
    contestant.start()
    call = contestant.call
    _warm(contestant)
    calls = 1
    while True:
        began = time.perf_counter()
        for _ in range(calls):
            call()
        contestant.finish()
        spent = time.perf_counter() - began
        if spent > TURN_SECONDS / 8:
            return max(1, round(calls * TURN_SECONDS / spent))
        calls *= 2
