"""Runs the parts of an experiment in processes beside each other, one thread each.

Small networks gain nothing from a second thread; two of them beside each other do. What a part finds depends
on its arguments alone, so the number of processes changes nothing but the time.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

from lstm_numba.engines.cpu.threads import thread_count
from lstm_numba.experiments.outcome import Progress
from lstm_numba.training.worker_processes import become_worker

Part = TypeVar("Part")
Found = TypeVar("Found")


def run_parts(
    function: Callable[[Part], Found],
    parts: Sequence[Part],
    progress: Progress | None = None,
    *,
    workers: int | None = None,
    label: Callable[[Part], str] = str,
) -> list[Found]:
    """Call a function on each part, in processes of their own, and return what it found, in order.

    Parameters
    ----------
    function : callable
        At the top level of a module; its argument and its result can be pickled.
    parts : sequence
        Begun in this order: the longest first.
    progress : callable, optional
    workers : int, optional
        Processes; 1 calls the function in this one. By default as many as threads may be used.
    label : callable
        Names a part for `progress`.
    """
    count = min(workers or thread_count(), len(parts))
    found: dict[int, Found] = {}
    for done, (index, value) in enumerate(_results(function, parts, count), start=1):
        found[index] = value
        if progress is not None:
            progress(done, len(parts), label(parts[index]))
    return [found[index] for index in range(len(parts))]


def _results(
    function: Callable[[Part], Found], parts: Sequence[Part], count: int
) -> Iterator[tuple[int, Found]]:
    """Indices and results, as they are ready."""
    if count <= 1:
        yield from ((index, function(part)) for index, part in enumerate(parts))
        return
    context = multiprocessing.get_context("spawn")
    pool: Any = ProcessPoolExecutor(count, context, initializer=become_worker)
    try:
        futures = {pool.submit(function, part): index for index, part in enumerate(parts)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
