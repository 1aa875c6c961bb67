"""How long the device takes, the host, and both: events of CUDA around what is launched."""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lstm_numba.engines.cuda import launch
from lstm_numba.engines.cuda.driver import cuda

#: Nanoseconds of a round of the kernel that keeps the stream busy.
_NAP = 20_000
#: The longest that the stream is kept busy, in µs.
_LONGEST_HOLD = 60_000.0


@cuda.jit
def _nap(rounds):  # type: ignore[no-untyped-def]
    for _ in range(rounds):
        cuda.nanosleep(np.uint32(_NAP))


@cuda.jit
def _nothing(a, b, c):  # type: ignore[no-untyped-def]
    pass


@functools.cache
def _naps_per_us() -> float:
    """Rounds of `_nap` that take a microsecond: a nap may be shorter than asked for."""
    launch.launch(_nap, 1, 1, 1)
    begin, end = cuda.event(), cuda.event()
    cuda.synchronize()
    begin.record()
    launch.launch(_nap, 1, 1, 500)
    end.record()
    cuda.synchronize()
    return 500 / max(1.0, cuda.event_elapsed_time(begin, end) * 1e3)


def _hold_us(function: Callable[[], Any], times: int) -> float:
    """How long the stream has to be busy for all calls to be launched meanwhile."""
    began = time.perf_counter()
    function()
    return min(_LONGEST_HOLD, 2e6 * times * (time.perf_counter() - began) + 1000)


def _held(function: Callable[[], Any], hold_us: float, times: int) -> tuple[float, bool]:
    begin, end = cuda.event(), cuda.event()
    cuda.synchronize()
    launch.launch(_nap, 1, 1, max(1, int(hold_us * _naps_per_us())))
    begin.record()
    for _ in range(times):
        function()
    end.record()
    waited = not begin.query()
    cuda.synchronize()
    return cuda.event_elapsed_time(begin, end) * 1e3 / times, waited


def device_us(function: Callable[[], Any], times: int = 1, repeats: int = 3) -> dict[str, Any]:
    """The device's µs for what `function` launches: it waits behind a busy stream, then runs without gaps.

    Returns
    -------
    dict
        ``device_us``, the median; ``spread``, the longest over the shortest; ``waited``, whether all was
        launched before the stream went on: else the time has some of the host's in it.
    """
    hold = _hold_us(function, times)
    found = [_held(function, hold, times) for _ in range(repeats)]
    us = [one[0] for one in found]
    return {
        "device_us": round(statistics.median(us), 2),
        "spread": round(max(us) / max(1e-9, min(us)), 2),
        "waited": all(one[1] for one in found),
    }


def wall_us(function: Callable[[], Any], seconds: float = 0.15) -> dict[str, float]:
    """µs of a call of several in a row, and how long the host is busy with it."""
    function()
    cuda.synchronize()
    began = time.perf_counter()
    function()
    cuda.synchronize()
    calls = max(1, min(50, int(seconds / 3 / max(1e-5, time.perf_counter() - began))))
    rounds = []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(calls):
            function()
        queued = time.perf_counter() - began
        cuda.synchronize()
        rounds.append(((time.perf_counter() - began) / calls * 1e6, queued / calls * 1e6))
    us, host_us = sorted(rounds)[1]
    return {"us": round(us, 1), "host_us": round(host_us, 1)}


@contextlib.contextmanager
def _marked(marks: list[Any]) -> Iterator[None]:
    """An event before and after each launch of a ``with`` block."""
    true = launch.core_launch

    def marked(stream: Any, configuration: Any, kernel: Any, *args: Any) -> None:
        begin, end = cuda.event(), cuda.event()
        begin.record()
        true(stream, configuration, kernel, *args)
        end.record()
        marks.append((kernel, begin, end))

    launch.core_launch = marked
    try:
        yield
    finally:
        launch.core_launch = true


def by_kernel(function: Callable[[], Any]) -> dict[str, tuple[int, float]]:
    """Launches and µs of each of the engine's kernels in one call, by its name; cuBLAS's are not seen."""
    marks: list[Any] = []
    hold = 3 * _hold_us(function, 1)  # the marks take time, too
    with _marked(marks):
        _held(function, hold, 1)
    names = {id(found.kernel): key[0].py_func.__name__ for key, found in launch._compiled.items()}
    result: dict[str, tuple[int, float]] = {}
    for kernel, begin, end in marks:
        name = names.get(id(kernel), "other")
        if name == _nap.py_func.__name__:
            continue
        count, us = result.get(name, (0, 0.0))
        result[name] = count + 1, round(us + cuda.event_elapsed_time(begin, end) * 1e3, 2)
    return dict(sorted(result.items(), key=lambda item: -item[1][1]))


def enqueue_us(blocks: int = 1) -> dict[str, float]:
    """The host's µs for a launch of a kernel with three arrays that does nothing."""
    from lstm_numba.engines.cuda.memory import empty

    arrays = [empty((1024,), np.float32) for _ in range(3)]
    return wall_us(lambda: launch.launch(_nothing, blocks, 32, *arrays))
