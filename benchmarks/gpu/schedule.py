"""Runs a section's programs, each in a process of its own, and ends them in time whatever they do."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from lstm_numba.benchmarks.gpu.record import append, named

#: Seconds that a program gets to write its results after SIGINT, and the share of its time at most.
_GRACE, _GRACE_SHARE = 4.0, 0.2
#: Environment variable by which the processes that a program has started are found.
_TOKEN = "ON_GPU_TOKEN"
#: Environment variables that say how many threads a library may use.
_THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Job(NamedTuple):
    """A program.

    Attributes
    ----------
    command : list of str
    name : str
        How the log calls it.
    threads : int, optional
        Threads of the processor that it may use, by default its share of all.
    file : str, optional
        JSON file in its folder that is kept among the results when it ends.
    """

    command: list[str]
    name: str
    threads: int | None = None
    file: str | None = None


def processors() -> int:
    """How many this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


class Programs:
    """The programs of a section.

    Parameters
    ----------
    log : Path
        Gets every line that a program prints, as soon as it does.
    folder : Path
        Where they run.
    environment : mapping
        Their environment variables.
    """

    def __init__(self, log: Path, folder: Path, environment: Mapping[str, str]) -> None:
        self._log, self._folder = log, folder
        self._token = uuid.uuid4().hex
        self._environment = {**environment, _TOKEN: self._token, "PYTHONUNBUFFERED": "1"}
        self._running: list[tuple[Job, subprocess.Popen[bytes], threading.Thread]] = []
        self.problems: list[str] = []

    def run(self, jobs: Sequence[Job], end: float, ended: Callable[[Job], None]) -> None:
        """Run jobs at the same time until all are through or `end` comes, as `time.monotonic` tells it.

        `ended` is told each job that ended or was stopped. What went wrong is added to `problems`.
        """
        share = max(1, processors() // max(1, len(jobs)))
        grace = min(_GRACE, _GRACE_SHARE * max(0.0, end - time.monotonic()))
        try:
            for job in jobs:
                self._start(job, share)
            while self._running and time.monotonic() < end - grace:
                self._reap(ended)
                time.sleep(0.02)
        finally:
            self._stop(grace, ended)

    def _start(self, job: Job, share: int) -> None:
        self._say(job, f"$ {shlex.join(job.command)}")
        threads = str(job.threads or share)
        try:
            process = subprocess.Popen(
                job.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env={**self._environment, **dict.fromkeys(_THREADS, threads)},
                start_new_session=True,  # a group of its own, so that what it starts can be ended with it
            )
        except OSError as error:
            self.problems.append(f"{job.name}: {error}")
            return
        assert process.stdout is not None
        reader = threading.Thread(target=self._copy, args=(job, process.stdout), daemon=True)
        reader.start()
        self._running.append((job, process, reader))

    def _copy(self, job: Job, output: IO[bytes]) -> None:
        with contextlib.suppress(ValueError, OSError):
            for line in output:
                self._say(job, line.decode(errors="replace").rstrip("\n"))

    def _say(self, job: Job, text: str) -> None:
        line = named(f"[{job.name}] {text}\n", self._environment)
        append(self._log, line)
        print(line[:240].rstrip("\n"), flush=True)

    def _reap(self, ended: Callable[[Job], None], stopped: str = "") -> None:
        """Take those who have ended off the list."""
        for entry in list(self._running):
            job, process, reader = entry
            status = process.poll()
            if status is None:
                continue
            self._running.remove(entry)
            reader.join(timeout=0.5)
            if stopped or status:
                self.problems.append(f"{job.name}: {stopped or f'exit status {status}'}")
            ended(job)

    def _stop(self, grace: float, ended: Callable[[Job], None]) -> None:
        """Interrupt who still runs, for results to be written; then kill all that was started."""
        for number, patience in ((signal.SIGINT, grace), (signal.SIGKILL, 1.0)):
            for _, process, _ in self._running:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, number)
            if number == signal.SIGKILL:
                _kill_all_with(self._token)
            began = time.monotonic()
            while self._running and time.monotonic() < began + patience:
                self._reap(ended, "its time was over")
                time.sleep(0.02)
        self.problems += [f"{job.name}: could not be killed" for job, _, _ in self._running]


def _kill_all_with(token: str) -> None:
    """Kill the processes that have inherited the token, in whatever group or session they are."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{_TOKEN}={token}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
