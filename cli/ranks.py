"""A command that several processes run together: one line about what ends one of them, and the end of all."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from lstm_numba.cli.resources import set_threads
from lstm_numba.ranks.base import Ranks
from lstm_numba.ranks.launch import connect
from lstm_numba.ranks.nccl import one_gpu_each

#: Seconds that other ranks leave the first one to tell what all have met.
_GRACE = 1.0


@contextmanager
def together() -> Iterator[Ranks]:
    """Connect to the ranks that were launched with this process; an error of one ends all.

    Yields
    ------
    Ranks
        `lstm_numba.ranks.base.ALONE` of a process on its own.
    """
    ranks = connect()
    if ranks.size > 1:
        ranks.own_gpu = one_gpu_each(ranks)
    ranks.watch(lambda lost: _end_without(ranks, lost))
    try:
        yield ranks
        ranks.part_company()
    except click.exceptions.Exit:  # on which all have agreed
        ranks.part_company()
        raise
    except BaseException as error:
        if ranks.size == 1:
            raise
        end_all(ranks, error)


def end_all(ranks: Ranks, error: BaseException) -> None:
    """Write one line about an error and end all ranks."""
    from lstm_numba.cli.main import report

    head = ""
    if not ranks.first:
        time.sleep(_GRACE)
        head = f"rank {ranks.rank} of {ranks.size}: "
    status = report(error, head)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    ranks.abort(status)


def _end_without(ranks: Ranks, lost: int) -> None:
    """Say that a rank is lost and end the others; called in a thread, while MPI waits for it."""
    line = f"error: rank {lost} of {ranks.size} has ended without a message (killed, or out of memory?)"
    try:
        os.write(2, f"{line}; the last checkpoint stays\n".encode())
    finally:
        ranks.abort(1)


def set_rank_threads(ranks: Ranks, wanted: int | None) -> int:
    """Set the threads of this rank: as many as `wanted`, or its share of the machine's cores.

    Returns
    -------
    int
        Threads in use.
    """
    if wanted is None and ranks.size > 1:
        from lstm_numba.engines.cpu.threads import thread_count

        bound = (
            frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset(_cores())
        )
        wanted = ranks.threads(thread_count(), bound, "NUMBA_NUM_THREADS" in os.environ)
    return set_threads(wanted)


def threads_of_run(ranks: Ranks, kept: int | None) -> int | None:
    """Threads of this rank in a run that goes on, of which `kept` were on a machine; None if unknown."""
    if kept is None or ranks.size == 1:
        return kept
    from lstm_numba.engines.cpu.threads import thread_count

    return min(max(1, kept // ranks.local_size), thread_count())


def threads_to_keep(ranks: Ranks, threads: int) -> int:
    """The number for ``config.json``, which does not depend on how many ranks there are on a machine."""
    return threads if ranks.size == 1 else min(threads * ranks.local_size, max(threads, len(_cores())))


def _cores() -> range:
    return range(os.cpu_count() or 1)
