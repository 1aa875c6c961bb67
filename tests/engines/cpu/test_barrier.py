"""Threads that wait for each other, and the phases of a task."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from numba import njit

import lstm_numba as ln
from lstm_numba.engines.cpu import barrier, blocking, sequence, thread_team
from lstm_numba.engines.cpu.blocking import Plan
from lstm_numba.engines.cpu.memory import address
from lstm_numba.engines.cpu.records import Team
from lstm_numba.engines.cpu.vector import pointer_to

pytestmark = pytest.mark.processor


@njit
def _gather(where: int, parts: int) -> bool:
    return barrier.rendezvous(pointer_to(where, 0), parts)


def test_who_is_alone_does_not_wait_for_ever() -> None:
    memory = np.zeros(barrier.NUMBERS, np.int64)
    assert not _gather(address(memory), 2)
    assert not _gather(address(memory), 2)  # who comes too late hears the same


@pytest.mark.smoke
def test_one_is_a_party() -> None:
    assert _gather(address(np.zeros(barrier.NUMBERS, np.int64)), 1)


@pytest.mark.parametrize("cell", ["lstm", "gru-reset-before"])
def test_threads_that_do_not_run_at_the_same_time(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller does the work alone; after some sequences the threads are not asked to share units again."""
    shape, dtype = (50, 1, 300, 300), np.dtype(np.float32)
    rnn = ln.make_layer(cell, 4, 40, seed=0, dtype=np.float64)
    x = np.random.default_rng(0).standard_normal((3, 2, 4))

    def run() -> tuple[Any, ...]:
        y, _, tape = rnn.forward(x)
        dx, _, grads = rnn.backward(tape, np.ones_like(y))
        return (y, dx, *grads.values())

    def shares_units() -> bool:
        return bool(blocking.choose_plan(rnn.cell, shape, dtype).team.by_units)

    expected = run()
    # Of two parts on one thread the second begins when the first has ended.
    numba.set_num_threads(1)
    monkeypatch.setattr(sequence, "choose_plan", lambda *_: Plan(Team(1, 2, 2), 2, 1))
    monkeypatch.setattr(blocking.missed_rendezvous, "count", 0)
    monkeypatch.setattr(blocking, "thread_count", lambda: 2)
    assert shares_units()
    for _ in range(2):
        for got, wanted in zip(run(), expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-13)
    assert not shares_units()


# Tasks


@njit
def _wait_for_others(job: Any, phase: Any, part: Any) -> None:
    """In the phases that threads share, wait for one another; record who saw all of them."""
    if phase in (thread_team.CHECK, thread_team.PREPARE, thread_team.WORK, thread_team.AFTER):
        where = pointer_to(job[8 + phase], job[0])
        if barrier.rendezvous(where, job[0]):
            job[16 + phase * 8 + part] = 1
    else:
        job[16 + phase * 8] += 1


def _run_phases(
    parts: int, workers: int, prepare: int, stale: int | None = None, checks: int = 0
) -> list[list[int]]:
    """Which threads were in which phase of a task; `stale` is what a check would find."""
    memory = np.zeros((thread_team.AFTER + 1, barrier.NUMBERS), np.int64)
    job = np.zeros(72, np.int64)
    job[0] = max(parts, prepare)
    job[1] = stale or 0
    job[8 : 8 + len(memory)] = [address(row) for row in memory]
    task = thread_team.compile_task(_wait_for_others.py_func)
    where = address(job)
    check = {} if stale is None else {"check": checks or prepare, "stale": where + 8}
    assert thread_team.run_task(task, where, parts, workers, prepare=prepare, **check)
    there: list[list[int]] = job[16:].reshape(-1, 8)[: thread_team.AFTER + 1, :2].tolist()
    return there


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread")
def test_threads_share_a_tasks_phases() -> None:
    numba.set_num_threads(2)
    work = [[1, 0], [1, 1], [1, 0], [1, 1]]
    assert _run_phases(2, 2, 2) == [[0, 0], [1, 1], *work]
    assert _run_phases(2, 2, 2, stale=1) == [[1, 1], [1, 1], *work]
    assert _run_phases(2, 2, 2, stale=0) == [[1, 1], [0, 0], *work]
    assert _run_phases(2, 2, 0) == [[0, 0], [0, 0], *work]
    assert _run_phases(0, 0, 2) == [[0, 0], [1, 1], *4 * [[0, 0]]]


def test_one_thread_does_all_phases_or_only_the_first() -> None:
    assert _run_phases(1, 1, 1) == [[0, 0], *5 * [[1, 0]]]
    assert _run_phases(1, 1, 1, stale=1) == 6 * [[1, 0]]
    assert _run_phases(1, 1, 1, stale=0) == [[1, 0], [0, 0], *4 * [[1, 0]]]
    assert _run_phases(1, 1, 0) == [[0, 0], [0, 0], *4 * [[1, 0]]]
    assert _run_phases(0, 0, 1) == [[0, 0], [1, 0], *4 * [[0, 0]]]
