"""What Dask sends to each worker that there is, and to each that comes later."""

from __future__ import annotations

from typing import Any

from distributed import WorkerPlugin

from lstm_numba.archives.job import Job
from lstm_numba.archives.worker import begin, end


class JobPlugin(WorkerPlugin):
    """Brings a job to a worker, once."""

    def __init__(self, token: str, job: Job) -> None:
        self.token, self.job = token, job

    def setup(self, worker: Any) -> None:
        """Keep the job."""
        begin(self.token, self.job)

    def teardown(self, worker: Any) -> None:
        """Forget it."""
        end(self.token)
