"""Blocks on the workers of a Dask client."""

from __future__ import annotations

import contextlib
import secrets
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

from lstm_numba.archives.job import Job, Receipt
from lstm_numba.archives.worker import cores, do_block
from lstm_numba.data.file_io import one_line
from lstm_numba.errors import UserError


def check_client(client: Any, model: Any) -> None:
    """Refuse what blocks cannot be sent through.

    Raises
    ------
    UserError
        The extra ``dask`` is not installed, or the client is closed.
    TypeError, ValueError
        It is no client, or an asynchronous one; or the model is on a GPU.
    """
    try:
        import distributed
    except ImportError:
        raise UserError("client: needs distributed: pip install 'lstm_numba[dask]'") from None
    if not isinstance(client, distributed.Client):
        raise TypeError(f"client: expected a distributed.Client, got {type(client).__name__}")
    if client.status != "running":
        raise UserError(f"client: expected one that is running, this one is {client.status}")
    if client.asynchronous:
        raise ValueError("client: expected a synchronous one, got one with asynchronous=True")
    device = getattr(model, "device", "cpu")
    if device != "cpu":
        raise ValueError(f"model: expected one on the cpu beside a client, got one on {device}")


def on_workers(job: Job, blocks: Sequence[int], client: Any) -> Generator[Receipt, None, None]:
    """Do blocks on a client's workers; receipts as they come.

    The job goes to each worker once, also to those that come later; a task is a number.

    Raises
    ------
    UserError
        A worker cannot take the job, or a block ended several workers.
    """
    from lstm_numba.archives.worker_plugin import JobPlugin

    token = f"lstm_numba-{secrets.token_hex(8)}"
    source = job.source
    assert source is not None
    sent = job if source.portable else replace(job, source=None)
    _register(client, JobPlugin(token, sent), token)
    try:
        yield from _run(job, token, list(blocks), client)
    finally:
        with contextlib.suppress(Exception):  # the client may be closed
            client.unregister_worker_plugin(token)


def _register(client: Any, plugin: Any, token: str) -> None:
    try:
        client.register_plugin(plugin, name=token)
    except Exception as error:  # whatever a worker raises
        with contextlib.suppress(Exception):
            client.unregister_worker_plugin(token)
        raise UserError(f"client: a worker cannot take the model: {one_line(error, 300)}") from error


def _run(job: Job, token: str, blocks: list[int], client: Any) -> Generator[Receipt, None, None]:
    """Keep so many blocks at the workers that none waits, and not more."""
    from distributed import as_completed

    machines = _Machines(client)
    waiting, running = iter(blocks), {}
    completed = as_completed()

    def submit() -> bool:
        block = next(waiting, None)
        if block is None:
            return False
        assert job.source is not None
        data = None if job.source.portable else job.read(block)
        arguments = token, block, machines.sharers, data
        future = client.submit(do_block, *arguments, key=f"{token}-{block}", pure=False)
        running[future.key] = block, future
        completed.add(future)
        return True

    try:
        while len(running) < machines.window and submit():
            pass
        while running:
            future = next(completed)
            block, _ = running.pop(future.key)
            receipt = _receipt(job, block, future)
            future.release()
            machines.look()
            while len(running) < machines.window and submit():
                pass
            yield receipt
    finally:
        with contextlib.suppress(Exception):
            client.cancel([future for _, future in running.values()])


def _receipt(job: Job, block: int, future: Any) -> Receipt:
    from concurrent.futures import CancelledError

    from distributed.scheduler import KilledWorker

    first, stop = job.bounds(block)
    try:
        receipt: Receipt = future.result()
    except KilledWorker as error:
        raise UserError(
            f"client: sequences {first} to {stop - 1} ended every worker that tried them, perhaps for "
            "want of memory; a smaller block_size takes less"
        ) from error
    except CancelledError as error:
        raise UserError(f"client: was closed before sequences {first} to {stop - 1} were done") from error
    return receipt


class _Machines:
    """How many workers there are, and how many share a machine.

    Attributes
    ----------
    sharers : dict of str to int
        Workers with the same cores.
    window : int
        Blocks to have at the workers.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._threads: dict[str, int] = {}
        self.sharers: dict[str, int] = {}
        self.window = 2
        self.look()

    def look(self) -> None:
        """Count again if workers came or went."""
        threads = dict(self._client.nthreads())
        if threads == self._threads:
            return
        self._threads = threads
        found = self._client.run(cores, on_error="ignore")
        self.sharers = dict(Counter(found.values()))
        self.window = 2 + sum(1 + min(count, 2) for count in threads.values())
