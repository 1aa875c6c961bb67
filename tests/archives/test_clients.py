"""Blocks on a Dask cluster of two processes, of which one is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_tools import VARIABLES, dataset, numbers, write

import lstm_numba as ln
from lstm_numba.archives import clients, worker
from lstm_numba.archives.job import computing
from lstm_numba.errors import DataError, UserError

distributed = pytest.importorskip("distributed", reason="distributed is not installed")
pytest.importorskip("zarr", reason="zarr is not installed")
pytest.importorskip("xarray", reason="xarray is not installed")

COUNT, STEPS, BLOCK = 240, 60, 5


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two workers, each a process that is started anew when it ends."""
    folder = tmp_path_factory.mktemp("dask")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None, local_directory=str(folder)
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    """Of both workers."""
    with distributed.Client(cluster) as client:
        client.wait_for_workers(2, timeout=60)
        yield client


def kept_jobs(client: Any) -> set[int]:
    """How many jobs the workers hold."""
    return set(client.run(lambda: len(worker._jobs)).values())


def test_the_same_bits_as_without(client: Any, tmp_path: Path) -> None:
    x, rnn = numbers(), ln.GRU(2, 3, seed=0)
    expected = ln.map_sequences(rnn, x, block_size=4)
    for kind in ("zarr", "npy"):
        path, said = write(kind, tmp_path, x)
        assert np.array_equal(ln.map_sequences(rnn, path, block_size=4, client=client, **said), expected)
    # What no worker can open comes with the tasks.
    assert np.array_equal(ln.map_sequences(rnn, x, block_size=4, client=client), expected)
    # A part of a mapped file is mapped by the workers.
    mapped = np.load(tmp_path / "archive.npy", mmap_mode="r")[6:]
    assert np.array_equal(ln.map_sequences(rnn, mapped, block_size=4, client=client), expected[6:])
    opened = dataset(x)
    found = ln.map_sequences(rnn, opened, variables=VARIABLES, method="state", block_size=4, client=client)
    assert np.array_equal(found, ln.map_sequences(rnn, x, method="state"))
    assert kept_jobs(client) == {0}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_worker_loses_nothing_and_nothing_is_done_twice(client: Any, tmp_path: Path) -> None:
    x = numbers(COUNT, STEPS)
    np.save(tmp_path / "x.npy", x)
    rnn, path, blocks = ln.GRU(2, 3, seed=0), tmp_path / "y.zarr", COUNT // BLOCK
    victim = next(iter(client.run(os.getpid).values()))
    seen: list[int] = []
    marked: list[int] = []

    def progress(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == blocks // 3:
            os.kill(victim, signal.SIGKILL)
        if done == total:
            marks = sorted((tmp_path / "y.zarr.partial" / "blocks").glob("*.json"))
            marked.extend(json.loads(mark.read_text())["block"] for mark in marks)

    found = ln.map_sequences(
        rnn, tmp_path / "x.npy", output=path, block_size=BLOCK, client=client, progress=progress
    )
    assert marked == list(range(blocks))
    assert seen == list(range(BLOCK, COUNT + 1, BLOCK))
    assert np.array_equal(found["y"][:], ln.map_sequences(rnn, x, block_size=BLOCK))
    client.wait_for_workers(2, timeout=60)
    assert victim not in client.run(os.getpid).values()


def test_what_was_begun_without_a_client_goes_on_with_one(client: Any, tmp_path: Path) -> None:
    x = numbers(COUNT, STEPS)
    np.save(tmp_path / "x.npy", x)
    rnn, path = ln.GRU(2, 3, seed=0), tmp_path / "y.zarr"
    said: dict[str, Any] = {"output": path, "block_size": BLOCK}

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 50:
            raise Stop

    with pytest.raises(Stop):
        ln.map_sequences(rnn, tmp_path / "x.npy", progress=stop, **said)
    before = len(os.listdir(tmp_path / "y.zarr.partial" / "blocks"))
    held: list[int] = []
    found = ln.map_sequences(
        rnn, tmp_path / "x.npy", client=client, progress=lambda *_: held.append(len(client.futures)), **said
    )
    assert len(held) == COUNT // BLOCK - before
    assert max(held) <= clients._Machines(client).window  # not all of them at once
    assert np.array_equal(found["y"][:], ln.map_sequences(rnn, x, block_size=BLOCK))


def test_a_faulty_block_ends_the_call_and_leaves_nothing_at_the_workers(client: Any, tmp_path: Path) -> None:
    x = numbers(COUNT, STEPS)
    x[77, 3, 0] = np.nan
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(
        DataError, match=r"sequence 77, x\.npy\[\.\.\., 0\], step 3: expected a number, got NaN"
    ):
        ln.map_sequences(ln.GRU(2, 3), tmp_path / "x.npy", block_size=BLOCK, client=client)
    assert kept_jobs(client) == {0}


def test_workers_of_a_machine_share_its_cores(client: Any) -> None:
    machines = clients._Machines(client)
    assert machines.sharers == {worker.cores(): 2}
    assert machines.window <= 2 + 2 * 3


def test_threads_by_those_who_share(monkeypatch: pytest.MonkeyPatch) -> None:
    from lstm_numba.engines.cpu.threads import thread_count

    every = thread_count()
    for threads, sharers, expected in (
        (None, 1, every),
        (None, 2, max(1, every // 2)),
        (None, 99, 1),
        (1, 1, 1),
    ):
        with computing(threads, sharers):
            assert thread_count() == expected
        assert thread_count() == every


def test_a_block_that_is_marked_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after the death of a worker that had written it."""
    from lstm_numba.archives import store

    class Job:
        store = tmp_path / "store"

    (tmp_path / "blocks").mkdir()
    store.mark(Job.store, 4, 99)
    monkeypatch.setitem(worker._jobs, "token", Job())  # type: ignore[arg-type]
    assert worker.do_block("token", 4, {}) == (4, 99, None)
    with pytest.raises(AttributeError):  # block 5 is not marked, and would be read
        worker.do_block("token", 5, {})


def test_clients_that_are_refused(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x, rnn = numbers(), ln.GRU(2, 3)
    with pytest.raises(TypeError, match=r"client: expected a distributed\.Client, got LocalCluster"):
        ln.map_sequences(rnn, x, client=cluster)
    closed = distributed.Client(cluster)
    closed.close()
    with pytest.raises(UserError, match="client: expected one that is running, this one is closed"):
        ln.map_sequences(rnn, x, client=closed)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"client: needs distributed: pip install 'lstm_numba\[dask\]'"):
        ln.map_sequences(rnn, x, client=closed)


def test_a_block_that_ends_its_workers_is_told() -> None:
    from distributed.scheduler import KilledWorker

    class Failed:
        def result(self) -> Any:
            raise KilledWorker("task", None, 4)

    class Job:
        def bounds(self, block: int) -> tuple[int, int]:
            return 5 * block, 5 * block + 5

    with pytest.raises(UserError, match="sequences 10 to 14 ended every worker that tried them"):
        clients._receipt(Job(), 2, Failed())  # type: ignore[arg-type]


def test_a_client_that_is_closed_on_the_way(cluster: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", numbers(COUNT, STEPS))
    client = distributed.Client(cluster)
    with pytest.raises(UserError, match="client: was closed before"):
        ln.map_sequences(
            ln.GRU(2, 3, seed=0),
            tmp_path / "x.npy",
            block_size=BLOCK,
            client=client,
            progress=lambda done, total: client.close(),
        )


def test_workers_that_lack_something_are_told(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from lstm_numba.archives.answers import answer_of
    from lstm_numba.archives.job import Job, Sizes
    from lstm_numba.archives.opening import open_archive

    source, answer = open_archive(numbers()), answer_of(ln.GRU(2, 3))
    job = Job(source, answer, answer.parts(9, 2), Sizes(4, 4), 23, 9, "error")
    older = dataclasses.replace(job, version="0.0.1")
    with pytest.raises(UserError, match=r"a worker cannot take the model: .* expected 0\.0\.1"):
        list(clients.on_workers(older, [0], client))
    unseen = dataclasses.replace(job, store=tmp_path / "not there")
    with pytest.raises(
        UserError, match=r"does not see .*not there; it must be in a folder that all machines"
    ):
        list(clients.on_workers(unseen, [0], client))
