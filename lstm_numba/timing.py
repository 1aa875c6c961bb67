"""How implementations are timed: alternating, so that a slow phase of the machine slows all of them.

A repeat begins with a pause and a few calls that are not timed; then as many calls as take `REPEAT_SECONDS`
are timed together. Every repeat starts with another implementation. A repeat gives one number, seconds per
call; the median and the quartiles over the repeats are reported. With a pause before each call, calls are
timed one by one, a few in a repeat.

Calls on a GPU may return before their results are computed. The clock is read after all of them are: a repeat
measures the throughput of consecutive calls, where the host prepares one while the last is computed.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

REPEAT_SECONDS = 0.15
#: Seconds before a repeat, for the last implementation's threads to fall asleep. They wait by spinning: those
#: of ONNX Runtime use 0.04 s of processor time after its last call, those of OpenMP 0.01 s.
PAUSE_SECONDS = 0.06
#: Untimed calls at the start of every repeat, fewer where they take longer than this.
WARM_CALLS = 3
WARM_SECONDS = 0.03
#: Calls in a repeat where each follows a pause.
PAUSED_CALLS = 5


class Timed(Protocol):
    """What can be timed: a `lstm_numba.benchmarks.implementations.Implementation`, for instance."""

    def start(self) -> None:
        """Called before every repeat."""

    def finish(self) -> None:
        """Called before the clock is read: waits until all calls are computed."""

    @property
    def call(self) -> Any:
        """What is timed, a function without arguments."""


class Call:
    """A function to time: ``call()`` computes `count` steps."""

    def __init__(
        self, call: Callable[[], Any], count: int = 1, start: Callable[[], None] | None = None
    ) -> None:
        self.call, self.count, self._start = call, count, start

    def start(self) -> None:
        """Called before every repeat."""
        if self._start is not None:
            self._start()

    def finish(self) -> None:
        """Nothing to wait for."""


class Times(NamedTuple):
    """Seconds per call, one number per repeat, and the number of calls in a repeat."""

    seconds: list[float]
    calls: int

    @property
    def median(self) -> float:
        """Median over the repeats."""
        return float(np.median(self.seconds))

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile over the repeats."""
        first, third = np.percentile(self.seconds, [25, 75])
        return float(first), float(third)


def protocol(repeats: int, pause: float = 0.0, busy: int = 0) -> dict[str, Any]:
    """The constants and conditions, for those who read the numbers later."""
    return {
        "turns": repeats,  # the names that these keys had in the first files
        "call_pause_seconds": pause,
        "busy": busy,
        "turn_seconds": REPEAT_SECONDS,
        "pause_seconds": PAUSE_SECONDS,
        "warm_calls": WARM_CALLS,
        "warm_seconds": WARM_SECONDS,
    }


def measure(implementations: Mapping[str, Timed], repeats: int, pause: float = 0.0) -> dict[str, Times]:
    """Time the calls of all implementations, alternating between them.

    Parameters
    ----------
    implementations : mapping of str to Timed
    repeats : int
    pause : float
        Seconds before each call.

    Returns
    -------
    dict of Times
    """
    names = list(implementations)
    calls = {
        name: PAUSED_CALLS if pause else _calls_per_repeat(timed) for name, timed in implementations.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        for position in range(len(names)):
            name = names[(position + repeat) % len(names)]
            seconds[name].append(_seconds_per_call(implementations[name], calls[name], pause))
    return {name: Times(seconds[name], calls[name]) for name in names}


def _seconds_per_call(timed: Timed, calls: int, pause: float) -> float:
    """Seconds per call in one repeat."""
    _warm_up(timed)
    collecting = gc.isenabled()
    gc.disable()  # a collection would be charged to whichever implementation is running
    try:
        if pause:
            return float(np.median([_after_pause(timed, pause) for _ in range(calls)]))
        return _time_calls(timed, calls) / calls
    finally:
        if collecting:
            gc.enable()


def _warm_up(timed: Timed) -> None:
    """Pause, then call without timing: fills caches and wakes threads."""
    time.sleep(PAUSE_SECONDS)
    timed.start()
    began = time.perf_counter()
    for _ in range(WARM_CALLS):
        timed.call()
        timed.finish()
        if time.perf_counter() - began > WARM_SECONDS:
            break


def _time_calls(timed: Timed, calls: int) -> float:
    """Seconds of so many consecutive calls."""
    call = timed.call
    began = time.perf_counter()
    for _ in range(calls):
        call()
    timed.finish()
    return time.perf_counter() - began


def _after_pause(timed: Timed, pause: float) -> float:
    """Seconds of a call after so many seconds."""
    time.sleep(pause)
    return _time_calls(timed, 1)


def _calls_per_repeat(timed: Timed) -> int:
    """How many calls take `REPEAT_SECONDS`, found by doubling."""
    _warm_up(timed)
    calls = 1
    while True:
        spent = _time_calls(timed, calls)
        if spent > REPEAT_SECONDS / 8:
            return max(1, round(calls * REPEAT_SECONDS / spent))
        calls *= 2
