"""Threads that share work: rounds, helpers, the phases of a task, loops."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from numba import njit
from numba.core import types

import lstm_numba as ln
from lstm_numba.engines.cpu import helpers, rounds, sequence, thread_team
from lstm_numba.engines.cpu.blocking import Plan
from lstm_numba.engines.cpu.function_pointers import compile_apart
from lstm_numba.engines.cpu.memory import address, aligned_zeros
from lstm_numba.engines.cpu.records import Team
from lstm_numba.engines.cpu.shared_loop import share, shared_loop
from lstm_numba.engines.cpu.thread_team import Phases
from lstm_numba.engines.cpu.vector import pointer_to
from lstm_numba.engines.cpu.waiting import atomic_add, nanoseconds

pytestmark = pytest.mark.processor


@njit(nogil=True)
def _work(where: int, log: Any, parts: int, part: int, count: int, part_ns: int) -> int:
    """Take part in rounds; each part logs which rounds it found done. Returns the parts that were done."""
    memory, done = pointer_to(where, 0), 0
    for number in range(1, count + 1):
        piece = rounds.next_part(memory, parts, part, number, number * parts)
        while piece >= 0:
            begin = nanoseconds()
            while nanoseconds() - begin < part_ns:
                pass
            log[number, piece] += 1
            if number > 1 and np.any(log[number - 1] != 1):  # the round before is not over
                log[0, 0] += 1
            done += 1
            rounds.finish_part(memory, number * parts)
            piece = rounds.next_part(memory, parts, part, number, number * parts)
    return done


def _rounds(parts: int) -> np.ndarray:
    return aligned_zeros((rounds.rounds_numbers.py_func(parts),), np.int64)


def _share_rounds(parts: int, count: int, there: list[int], part_ns: int = 0, late: int = 0) -> list[int]:
    """Parts done by each of some threads, of which all but the first begin when `late` rounds are over."""
    memory, log = _rounds(parts), np.zeros((count + 1, parts), np.int64)
    _work(address(_rounds(1)), np.zeros((2, 1), np.int64), 1, 0, 1, 0)  # compiles
    found, too_early = [0] * len(there), list[int]()

    def run(n: int) -> None:
        if n and not _within(10, lambda: bool(np.all(log[1 : late + 1] == 1))):
            too_early.append(n)  # it works all the same, so that nobody waits for it
        found[n] = _work(address(memory), log, parts, there[n], count, part_ns)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(there))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not too_early
    assert np.all(log[1:] == 1)
    assert log[0, 0] == 0
    return found


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether a condition becomes true within that time."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(1e-4)
    return found


@pytest.mark.smoke
@pytest.mark.parametrize("part", [0, 2, rounds.ALONE_HERE])
def test_who_is_alone_does_every_part(part: int) -> None:
    assert _share_rounds(3, 50, [part]) == [150]


def test_threads_share_rounds_and_none_begins_before_the_last_one_is_over() -> None:
    for _ in range(20):
        found = _share_rounds(3, 200, [0, 1, 2])
        assert sum(found) == 600


def test_who_comes_late_finds_rounds_done_and_shares_the_rest() -> None:
    first, second = _share_rounds(2, 40, [0, 1], part_ns=2_000_000, late=10)
    assert first >= 2 * 10
    assert second > 10


def test_who_waits_long_sleeps_and_is_woken() -> None:
    """Parts of a thread that another one waits for, longer than it looks."""
    assert min(_share_rounds(2, 10, [0, 1], part_ns=20_000_000)) > 5  # none was left asleep
    memory, log = _rounds(2), np.zeros((2, 2), np.int64)
    taken = threading.Event()

    def hold() -> None:
        assert _next(address(memory), 0) == 0
        taken.set()
        time.sleep(0.2)
        _finish(address(memory))

    other = threading.Thread(target=hold)
    other.start()
    taken.wait()
    began = time.thread_time()
    assert _work(address(memory), log, 2, 1, 1, 0) == 1
    assert time.thread_time() - began < 0.1  # it did not look all the time
    other.join()


@njit(nogil=True)
def _next(where: int, part: int) -> int:
    return rounds.next_part(pointer_to(where, 0), 2, part, 1, 2)


@njit(nogil=True)
def _finish(where: int) -> None:
    rounds.finish_part(pointer_to(where, 0), 2)


@pytest.mark.parametrize("cell", ["lstm", "gru-reset-before"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_do_not_depend_on_who_is_there(
    cell: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three parts of the units, on as many threads and on fewer."""
    rnn = ln.make_layer(cell, 4, 40, seed=0)
    x = np.random.default_rng(0).standard_normal((3, 2, 4)).astype(np.float32)
    monkeypatch.setattr(sequence, "choose_plan", lambda *_: Plan(Team(1, 3, 3), 2, 1))

    def run() -> tuple[Any, ...]:
        y, _, tape = rnn.forward(x)
        dx, _, grads = rnn.backward(tape, np.ones_like(y))
        return (y, dx, *grads.values())

    expected = run()
    monkeypatch.setattr(thread_team, "helpers", lambda _: helpers.helpers(threads - 1))
    with _Occupied(threads == 1):
        for got, wanted in zip(run(), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


class _Occupied:
    """Context in which the helpers help somebody else."""

    def __init__(self, occupied: bool) -> None:
        self._occupied = occupied

    def __enter__(self) -> None:
        helpers._helpers._shared[helpers._TAKEN] = self._occupied

    def __exit__(self, *_: object) -> None:
        helpers._helpers._shared[helpers._TAKEN] = 0


# Helpers


def _count_parts(job: Any, part: Any) -> None:
    """Stay until all have come, at most a second; say who came."""
    atomic_add(job, part + 8, 1)
    begin = nanoseconds()
    while nanoseconds() - begin < 1_000_000_000:
        if job[8] and job[9] and job[10]:
            break


def test_helpers_come_and_the_caller_waits_for_them() -> None:
    job = np.zeros(16, np.int64)
    entry = compile_apart(_count_parts, types.CPointer(types.int64), types.int64).address
    for n in range(1, 5):
        job[:] = 0
        helpers.call_with_helpers(helpers.helpers(2), entry, address(job), 3)
        assert job[8:11].tolist() == [1, 1, 1]
        time.sleep(0.01 * n)  # they fall asleep


def test_who_finds_the_helpers_occupied_is_alone() -> None:
    job = np.zeros(16, np.int64)
    job[8:11] = 1
    entry = compile_apart(_count_parts, types.CPointer(types.int64), types.int64).address
    with _Occupied(True):
        helpers.call_with_helpers(helpers.helpers(2), entry, address(job), 3)
    assert job[7:11].tolist() == [1, 1, 1, 1]  # number 8 + ALONE_HERE


def test_where_the_system_starts_no_thread_the_caller_does_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        tried.append(1)
        raise RuntimeError("can't start new thread")

    tried: list[int] = []
    rnn, x = ln.LSTM(4, 40, seed=0), np.ones((3, 2, 4), np.float32)
    monkeypatch.setattr(sequence, "choose_plan", lambda *_: Plan(Team(1, 3, 3), 2, 1))
    expected = rnn(x)[0]
    monkeypatch.setattr(helpers, "_helpers", helpers._Helpers())
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(2):
        np.testing.assert_array_equal(rnn(x)[0], expected)
    assert len(tried) == 1


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="one core, or it cannot be chosen",
)
def test_helpers_that_are_woken_keep_off_the_callers_core() -> None:
    job = np.zeros(16, np.int64)
    entry = compile_apart(_count_parts, types.CPointer(types.int64), types.int64).address
    where, cores = helpers.helpers(2), os.sched_getaffinity(0)
    try:
        for core in sorted(cores)[:2]:
            os.sched_setaffinity(0, {core})
            time.sleep(0.05)  # they fall asleep
            job[:] = 0
            helpers.call_with_helpers(where, entry, address(job), 3)
            assert job[8:11].tolist() == [1, 1, 1]
            for thread in helpers._helpers._threads[:2]:
                assert thread.native_id is not None
                assert os.sched_getaffinity(thread.native_id) == cores - {core}
    finally:
        os.sched_setaffinity(0, cores)


# Tasks


@njit
def _record(job: Any, phase: Any, part: Any) -> None:
    """How often each part of each phase was done, and whether an earlier phase was not over."""
    atomic_add(job, 8 + phase * 8 + part, 1)
    for earlier in range(phase):
        for n in range(job[1 + earlier]):
            if job[8 + earlier * 8 + n] == 0:
                job[0] = -1


@pytest.mark.parametrize(
    ("phases", "stale", "skipped"),
    [
        (Phases(0, 2, 1, 2, 1, 2), None, ()),
        (Phases(2, 3, 1, 2, 1, 2), 1, ()),
        (Phases(2, 2, 1, 2, 1, 2), 0, (thread_team.PREPARE,)),
        (Phases(work=3), None, ()),
        (Phases(prepare=2), None, ()),
        (Phases(0, 1, 1, 1, 1, 1), None, ()),
        (Phases(1, 1, 1, 1, 1, 1), 1, ()),
        (Phases(1, 1, 1, 1, 1, 1), 0, (thread_team.PREPARE,)),
        (Phases(prepare=1), None, ()),
        (Phases(0, 0, 1, 1, 1, 1), None, ()),
    ],
)
def test_phases_of_a_task(phases: Phases, stale: int | None, skipped: tuple[int, ...]) -> None:
    expected = [0 if n in skipped else count for n, count in enumerate(phases)]
    job, found = np.zeros(64, np.int64), np.array([stale or 0], np.int64)
    job[1:7] = expected
    task = thread_team.compile_task(_record.py_func)
    for _ in range(20):
        job[8:] = 0
        thread_team.run_task(task, address(job), phases, stale=0 if stale is None else address(found))
        done = job[8:56].reshape(6, 8)
        assert [row.tolist() for row in done] == [[1] * count + [0] * (8 - count) for count in expected]
    assert job[0] == 0


# Loops


@njit
def _mark(n: int, marks: Any, factor: float) -> None:
    marks[n] += factor


@njit
def _marks(where: int, threads: int, marks: Any, count: int, factor: float) -> None:
    shared_loop(where, threads, _mark, count, (marks, factor))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_shared_loop_does_each_round_once(threads: int) -> None:
    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip("one thread")
    numba.set_num_threads(threads)
    for count in (0, 1, 2, 1000):
        marks = np.zeros(1000)
        share(_marks, marks, count, 1.5)
        np.testing.assert_array_equal(marks, np.where(np.arange(1000) < count, 1.5, 0.0))
