"""Worker processes: what they give back, and that they end when they should."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import worker_jobs

from lstm_numba.training.worker_processes import FAILURE, REPORT, RESULT, Event, Workers

posix = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


def run(workers: Workers, jobs: list[tuple[str, object]]) -> list[Event]:
    """Give the jobs to the processes and collect what comes."""
    found: list[Event] = []
    waiting = list(enumerate(jobs))
    end = time.monotonic() + 120
    while waiting or workers.under_way:
        assert time.monotonic() < end
        while waiting and workers.has_room:
            workers.begin(*waiting.pop(0))
        found += workers.events(0.5)
    return found


@posix
def test_results_reports_and_failures() -> None:
    jobs = [("square", 3), ("fail", "good"), ("die", None), ("square", 4), ("threads", None)]
    with Workers(worker_jobs.work, 1) as workers:
        events = run(workers, jobs)
        assert workers.under_way == []
    (first, second), kinds = [e.value for e in events if e.kind == RESULT][:2], [e[:2] for e in events]
    assert kinds == [
        (0, REPORT),
        (0, RESULT),
        (1, FAILURE),
        (2, FAILURE),
        (3, REPORT),
        (3, RESULT),
        (4, RESULT),
    ]
    assert [events[0].value, first[0], second[0]] == ["squaring 3", 9, 16]
    assert events[2].value == "ValueError: not good"
    assert events[3].value == "its process ended with signal 9"
    assert first[1] != second[1]  # the job after the death had a new process
    assert events[-1].value == (1, True)


@posix
def test_ctrl_c_while_one_starts() -> None:
    """A terminal sends it to all; whether to stop, the parent decides."""
    others = set(multiprocessing.active_children())  # joblib keeps its processes for other tests
    with Workers(worker_jobs.work, 1) as workers:
        workers.begin(0, ("square", 3))
        (started,) = set(multiprocessing.active_children()) - others
        assert started.pid is not None
        os.kill(started.pid, signal.SIGINT)
        assert [event.kind for event in run(workers, [])] == [REPORT, RESULT]


@posix
def test_all_stop_when_asked(tmp_path: Path) -> None:
    with Workers(worker_jobs.work, 2) as workers:
        for number in range(2):
            workers.begin(number, ("wait", str(tmp_path / str(number))))
        assert not workers.has_room
        until(lambda: len(list(tmp_path.iterdir())) == 2)
        workers.stop()
        events: list[Event] = []
        until(lambda: bool(events.extend(workers.events(0.1)) or not workers.under_way))
    assert sorted(events) == [(0, RESULT, "stopped"), (1, RESULT, "stopped")]
    assert list(tmp_path.iterdir()) == []


@posix
def test_they_end_with_their_parent(tmp_path: Path) -> None:
    """It cannot ask them: the pipe's end tells."""
    mark = tmp_path / "mark"
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(worker_jobs.__file__).parent)!r})\n"
        "import worker_jobs\n"
        "from lstm_numba.training.worker_processes import Workers\n"
        "if __name__ == '__main__':\n"
        "    with Workers(worker_jobs.work, 1) as workers:\n"
        f"        workers.begin(0, ('wait', {str(mark)!r}))\n"
        "        while True:\n"
        "            list(workers.events(1.0))\n"
    )
    (tmp_path / "parent.py").write_text(code)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], stderr=subprocess.DEVNULL)
    until(mark.exists)
    parent.kill()
    parent.wait(60)
    until(lambda: not mark.exists())


def until(done: object) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + 60
    assert callable(done)
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)
