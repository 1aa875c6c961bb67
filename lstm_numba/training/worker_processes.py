"""Processes of one thread each that take jobs, one after the other, and report while they work.

Small networks gain nothing from a second thread; two of them beside each other do. What a job gives depends
on the job alone, so the number of processes changes nothing but the time.

A process is started afresh, not forked: threads of Numba's do not survive a fork. It listens to a pipe whose
other end the parent holds. If the parent is gone, however it ended, the pipe's end tells, and the process
stops as if it had been asked to.
"""

from __future__ import annotations

import _thread
import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, NamedTuple

#: What a process sends: a job's report, its result, or what went wrong.
REPORT, RESULT, FAILURE = "report", "result", "failure"
#: Seconds that a process which is asked to stop gets to do so; then it is terminated.
_PATIENCE = 60.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def become_worker() -> None:
    """Settle this process as a worker: one thread, and no Ctrl-C of its own, which the parent handles."""
    from lstm_numba.engines.cpu.threads import set_thread_count

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_thread_count(1)


class Channel:
    """What a job talks to, in its process.

    Parameters
    ----------
    connection : Connection
        To the parent.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()  # a handler may put while main gets
        self._stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: self._end())
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def stopped(self) -> bool:
        """Whether the job should save what it has and end."""
        return self._stop.is_set()

    def report(self, value: Any) -> None:
        """Tell the parent."""
        self._send((REPORT, value))

    def _send(self, message: tuple[str, Any]) -> None:
        try:
            self._connection.send(message)
        except OSError:  # the parent is gone
            self._end()

    def _listen(self) -> None:
        """Receive jobs until there is nothing more to come; None asks to stop."""
        try:
            while (message := self._connection.recv()) is not None:
                self._jobs.put(message)
        except (EOFError, OSError):
            pass
        self._end()
        # A handler that a job installed notices between two of its steps, also while it compiles.
        _thread.interrupt_main(signal.SIGTERM)

    def _end(self) -> None:
        self._stop.set()
        self._jobs.put(None)

    def serve(self, function: Callable[[Any, Channel], Any]) -> None:
        """Call the function on one job after the other."""
        while (job := self._jobs.get()) is not None and not self.stopped:
            try:
                self._send((RESULT, function(job, self)))
            except Exception as error:
                if os.environ.get("LSTM_NUMBA_DEBUG") not in (None, "", "0"):
                    import traceback

                    traceback.print_exc()
                self._send((FAILURE, f"{type(error).__name__}: {' '.join(str(error).split())}"))


def _run(function: Callable[[Any, Channel], Any], connection: Connection) -> None:
    """A process."""
    become_worker()
    Channel(connection).serve(function)


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Hold signals back in what is started here, to which a terminal sends them too, until it can answer."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Event(NamedTuple):
    """What came from a process: `job` is the number of its job, `kind` one of the constants above."""

    job: int
    kind: str
    value: Any


class _Process:
    """A process and its job."""

    def __init__(self, function: Callable[[Any, Channel], Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_run, args=(function, other), daemon=True)
        with _held_back():
            self.process.start()
        other.close()  # the process has its own: with it the pipe ends
        self.job: int | None = None

    def send(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # if it has ended, `Workers.events` will tell
            self.connection.send(message)


class Workers:
    """Context manager of processes that compute `function`, each one job at a time.

    Parameters
    ----------
    function : callable
        At the top level of a module; called as ``function(job, channel)``, in a process. Jobs, reports and
        results can be pickled.
    count : int
        Processes at most; they are started when they are needed.
    """

    def __init__(self, function: Callable[[Any, Channel], Any], count: int) -> None:
        self._function, self._count = function, count
        self._processes: list[_Process] = []

    @property
    def under_way(self) -> list[int]:
        """Numbers of the jobs that processes are at."""
        return [process.job for process in self._processes if process.job is not None]

    @property
    def has_room(self) -> bool:
        """Whether another job can begin."""
        return len(self.under_way) < self._count

    def begin(self, number: int, job: Any) -> None:
        """Give a job to a process that has none."""
        free = next((process for process in self._processes if process.job is None), None)
        if free is None:
            free = _Process(self._function)
            self._processes.append(free)
        free.job = number
        free.send(job)

    def events(self, timeout: float) -> Iterator[Event]:
        """What comes from the processes within some seconds; a process that died is a failure of its job."""
        places = {process.connection: process for process in self._processes}
        for ready in wait([*places], timeout):
            process = places[ready]  # type: ignore[index]
            try:
                kind, value = process.connection.recv()
            except (EOFError, OSError):
                kind, value = FAILURE, self._bury(process)
            job = process.job
            if kind != REPORT:
                process.job = None
            if job is not None:
                yield Event(job, kind, value)

    def _bury(self, process: _Process) -> str:
        """Forget a process that has ended, and say how it did."""
        self._processes.remove(process)
        process.process.join(_PATIENCE)
        process.connection.close()
        code = process.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"
        return f"its process ended with {how}"

    def stop(self) -> None:
        """Ask all processes to save what they have and end; `events` goes on until they have."""
        for process in self._processes:
            process.send(None)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        end = time.monotonic() + _PATIENCE
        for process in self._processes:
            process.process.join(max(end - time.monotonic(), 0.0))
            if process.process.is_alive():
                process.process.terminate()
            process.connection.close()
