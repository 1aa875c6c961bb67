"""What a worker of a Dask cluster does: it holds jobs, and does their blocks."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping

from lstm_numba._version import __version__
from lstm_numba.archives.job import Job, Receipt, computing
from lstm_numba.archives.store import keep, kept
from lstm_numba.data.sequences import Sequences
from lstm_numba.errors import UserError

#: Jobs that this process has been sent.
_jobs: dict[str, Job] = {}
#: Of a worker's threads two have a block, and one computes.
_having, _computing = threading.BoundedSemaphore(2), threading.Lock()


def cores() -> str:
    """Which cores this process may use, on which machine."""
    chosen = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{socket.gethostname()} {chosen}"


def begin(token: str, job: Job) -> None:
    """Take a job, as a worker.

    Raises
    ------
    UserError
        This machine has another version of the library, or does not see the output.
    """
    if job.version != __version__:
        raise UserError(f"{socket.gethostname()} has lstm_numba {__version__}, expected {job.version}")
    if job.store is not None and not job.store.is_dir():
        raise UserError(
            f"output: {socket.gethostname()} does not see {job.store}; "
            "it must be in a folder that all machines share"
        )
    _jobs[token] = job


def end(token: str) -> None:
    """Forget a job."""
    _jobs.pop(token, None)


def do_block(token: str, block: int, sharers: Mapping[str, int], data: Sequences | None = None) -> Receipt:
    """Do a block, as a worker."""
    job = _jobs.get(token)
    if job is None:
        raise UserError(f"sequences of a call that has ended, or that {socket.gethostname()} does not know")
    with _having:
        before = kept(job, block)
        if before is not None:
            return before
        sequences = job.read(block) if data is None else data
        with _computing, computing(job.threads, sharers.get(cores(), 1)):
            answers = job.compute(block, sequences)
        del sequences
        return keep(job, block, answers)
