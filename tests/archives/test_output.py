"""Zarr stores that are written: what is in them, and how an interrupted call goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_tools import STEPS, VARIABLES, Watched, dataset, days, frame, names, numbers

import lstm_numba as ln
from lstm_numba.archives import job as jobs
from lstm_numba.archives import store as stores
from lstm_numba.errors import DataError, UserError

zarr = pytest.importorskip("zarr", reason="zarr is not installed")
xarray = pytest.importorskip("xarray", reason="xarray is not installed")


class Interrupted(Exception):
    """Raised by a test."""


def stop_after(blocks: int) -> Any:
    """A progress that interrupts."""
    calls = []

    def progress(done: int, total: int) -> None:
        calls.append(done)
        if len(calls) == blocks:
            raise Interrupted

    return progress


@pytest.mark.filterwarnings("error:.*:RuntimeWarning")
def test_what_is_written(tmp_path: Path) -> None:
    x, rnn = numbers(), ln.GRU(2, 3, seed=0)
    data = dataset(x)
    found = ln.map_sequences(rnn, data, variables=VARIABLES, output=tmp_path / "y.zarr", block_size=5)
    expected = ln.map_sequences(rnn, x)
    assert np.array_equal(found["y"][:], expected)
    opened = xarray.open_zarr(tmp_path / "y.zarr", chunks=None)
    assert opened.y.dims == ("gauge", "day", "unit")
    assert list(opened.gauge.to_numpy()) == names()
    assert np.array_equal(opened.day.to_numpy().astype("M8[ns]"), days())
    assert np.array_equal(opened.sel(gauge="g07").y.to_numpy(), expected[7])
    assert os.listdir(tmp_path) == ["y.zarr"]


def test_states_and_lengths_and_labels(tmp_path: Path) -> None:
    estimators = pytest.importorskip("lstm_numba.estimators", reason="scikit-learn is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    x, rnn = numbers(), ln.LSTM(2, 3, seed=0)
    table = frame(x)[np.arange(x.shape[0] * STEPS) % STEPS < 1 + np.arange(x.shape[0]).repeat(STEPS) % STEPS]
    table.to_parquet(tmp_path / "a.parquet", index=False)
    path = tmp_path / "states.zarr"
    ln.map_sequences(
        rnn, tmp_path / "a.parquet", variables=VARIABLES, method="state", output=path, block_size=4
    )
    opened = xarray.open_zarr(path, chunks=None)
    _, (h, c) = rnn(np.ascontiguousarray(x.swapaxes(0, 1)), lengths=1 + np.arange(len(x)) % STEPS)
    assert np.array_equal(opened.h.to_numpy(), h.swapaxes(0, 1))
    assert np.array_equal(opened.c.to_numpy(), c.swapaxes(0, 1))
    assert list(opened.lengths.to_numpy()) == list(1 + np.arange(len(x)) % STEPS)
    words = np.array(["dry", "wet", "wetter"])[np.arange(len(x)) % 3]
    classifier = estimators.RNNClassifier("gru", hidden_size=3, max_epochs=1, random_state=0).fit(x, words)
    for method in ("predict", "predict_proba"):
        ln.map_sequences(classifier, x, method=method, output=tmp_path / f"{method}.zarr", block_size=4)
    labels = xarray.open_zarr(tmp_path / "predict.zarr", chunks=None).predict.to_numpy()
    assert list(labels) == list(classifier.predict(x))
    shares = xarray.open_zarr(tmp_path / "predict_proba.zarr", chunks=None).predict_proba
    assert list(shares["class"].to_numpy()) == ["dry", "wet", "wetter"]
    assert np.array_equal(shares.to_numpy(), classifier.predict_proba(x))


def test_class_zero_is_no_missing_number(tmp_path: Path) -> None:
    estimators = pytest.importorskip("lstm_numba.estimators", reason="scikit-learn is not installed")
    x = numbers()
    classifier = estimators.RNNClassifier("gru", hidden_size=3, max_epochs=1, random_state=0).fit(
        x, np.arange(23) % 2
    )
    ln.map_sequences(classifier, x, output=tmp_path / "k.zarr")
    found = xarray.open_zarr(tmp_path / "k.zarr", chunks=None).predict
    assert found.dtype == np.int64
    assert np.array_equal(found.to_numpy(), classifier.predict(x))


# -- going on ----------------------------------------------------------------------------------------


def test_an_interrupted_call_goes_on_where_it_was(tmp_path: Path) -> None:
    x, rnn, path = numbers(), ln.GRU(2, 3, seed=0), tmp_path / "y.zarr"
    with pytest.raises(Interrupted):
        ln.map_sequences(rnn, x, output=path, block_size=5, progress=stop_after(2))
    assert sorted(os.listdir(tmp_path)) == ["y.zarr.partial"]
    watched, seen = Watched(x), []
    found = ln.map_sequences(
        rnn,
        _renamed(watched, "ndarray"),
        output=path,
        block_size=5,
        progress=lambda done, _: seen.append(done),
    )
    assert watched.reads == [(10, 15), (15, 20), (20, 23)]
    assert seen == [15, 20, 23]
    assert np.array_equal(found["y"][:], ln.map_sequences(rnn, x))


def _renamed(watched: Watched, name: str) -> Any:
    """The array under the name of another type, which is part of a call's identity."""
    watched.__class__ = type(name, (Watched,), {})
    return watched


def test_another_call_is_refused(tmp_path: Path) -> None:
    x, path = numbers(), tmp_path / "y.zarr"
    with pytest.raises(Interrupted):
        ln.map_sequences(ln.GRU(2, 3, seed=0), x, output=path, block_size=5, progress=stop_after(2))

    def refused(what: str, seed: int = 0, array: Any = x, **said: Any) -> None:
        with pytest.raises(UserError, match=f"y.zarr.partial: holds an unfinished call with another {what};"):
            ln.map_sequences(ln.GRU(2, 3, seed=seed), array, output=path, **{"block_size": 5, **said})

    refused("model", seed=1)
    refused("model, method", method="state")
    refused("archive", array=x[:, :7])
    refused("block_size", block_size=6, batch_size=5)
    refused("missing", missing="pass")
    assert np.isfinite(ln.map_sequences(ln.GRU(2, 3, seed=0), x, output=path, block_size=5)["y"][:]).all()
    with pytest.raises(UserError, match=r"y\.zarr: already exists; remove it, or choose another output"):
        ln.map_sequences(ln.GRU(2, 3, seed=0), x, output=path, block_size=5)


def test_a_block_that_is_not_as_it_was_marked_is_computed_anew(tmp_path: Path) -> None:
    x, rnn, path = numbers(), ln.GRU(2, 3, seed=0), tmp_path / "y.zarr"
    with pytest.raises(Interrupted):
        ln.map_sequences(rnn, x, output=path, block_size=5, progress=stop_after(4))
    partial = tmp_path / "y.zarr.partial"
    left = partial / "store" / "y" / "1.0.0.0123abcd.partial"  # as Zarr writes chunks
    left.write_bytes(b"")
    (partial / "blocks" / "00000004.json.0123abcd.tmp").write_bytes(b"")
    chunk = next(p for p in (partial / "store" / "y").rglob("*") if p.name in ("1.0.0", "1"))
    chunk.unlink()
    array = zarr.open_array(str(partial / "store" / "y"), mode="r+")
    array[12] = 0
    (partial / "blocks" / "00000003.json").write_text("{")
    seen: list[int] = []
    found = ln.map_sequences(rnn, x, output=path, block_size=5, progress=lambda done, _: seen.append(done))
    assert len(seen) == 4  # blocks 1, 2, 3 and 4, which was not done
    assert not list(path.rglob("*.partial"))
    assert np.array_equal(found["y"][:], ln.map_sequences(rnn, x))


def test_what_was_killed_before_it_began_is_begun_anew(tmp_path: Path) -> None:
    x, rnn, path = numbers(), ln.GRU(2, 3, seed=0), tmp_path / "y.zarr"
    (tmp_path / "y.zarr.partial" / "blocks").mkdir(parents=True)
    (tmp_path / "y.zarr.partial" / "store").mkdir()
    assert np.array_equal(ln.map_sequences(rnn, x, output=path)["y"][:], ln.map_sequences(rnn, x))


def test_two_calls_at_once(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="this system has no such locks")
    x, rnn, path = numbers(), ln.GRU(2, 3, seed=0), tmp_path / "y.zarr"

    def progress(done: int, total: int) -> None:
        with pytest.raises(UserError, match=r"y\.zarr: another process is writing it"):
            ln.map_sequences(rnn, x, output=path)

    ln.map_sequences(rnn, x, output=path, progress=progress)


_KILLED = """
import os, signal, sys, numpy as np, lstm_numba as ln
x, out = np.load(sys.argv[1], mmap_mode="r"), sys.argv[2]
def progress(done, total):
    if done == 15:
        os.kill(os.getpid(), signal.SIGKILL)
ln.map_sequences(ln.GRU(2, 3, seed=0), sys.argv[1], output=out, block_size=5, progress=progress)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_and_gone_on(tmp_path: Path) -> None:
    x, path = numbers(), tmp_path / "y.zarr"
    np.save(tmp_path / "x.npy", x)
    done = subprocess.run([sys.executable, "-c", _KILLED, tmp_path / "x.npy", path], cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL
    marks = tmp_path / "y.zarr.partial" / "blocks"
    assert [json.loads(p.read_text())["block"] for p in sorted(marks.iterdir())] == [0, 1, 2]
    seen: list[int] = []
    rnn = ln.GRU(2, 3, seed=0)
    found = ln.map_sequences(
        rnn, str(tmp_path / "x.npy"), output=path, block_size=5, progress=lambda done, _: seen.append(done)
    )
    assert seen == [20, 23]
    assert np.array_equal(found["y"][:], ln.map_sequences(rnn, x))


def test_a_block_is_marked_once(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (tmp_path / "blocks").mkdir()
    stores.mark(store, 3, 7)
    stores.mark(store, 3, 8)  # of another worker, which was thought to be dead
    assert stores.marked(store, 3) == 7
    assert stores.marked(store, 4) is None
    assert len(os.listdir(tmp_path / "blocks")) == 1


def test_names_of_outputs_that_are_refused(tmp_path: Path) -> None:
    x, rnn = numbers(), ln.GRU(2, 3)
    with pytest.raises(DataError, match=r"output: a Zarr store is written, .*to_netcdf"):
        ln.map_sequences(rnn, x, output=tmp_path / "y.nc")
    with pytest.raises(
        DataError, match="output: expected a folder that this machine can write to, got s3://"
    ):
        ln.map_sequences(rnn, x, output="s3://bucket/y.zarr")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.*: cannot be written"):
        ln.map_sequences(rnn, x, output=tmp_path / "file" / "y.zarr")


def test_checksum_of_an_answer() -> None:
    a = np.arange(6.0).reshape(2, 3)
    assert jobs.checksum({"a": a}) == jobs.checksum({"a": a.copy()})
    assert jobs.checksum({"a": a}) != jobs.checksum({"a": a + np.eye(2, 3)})


def test_a_folder_of_that_name_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "y.zarr.partial").mkdir()
    (tmp_path / "y.zarr.partial" / "thesis.tex").write_text("mine")
    with pytest.raises(
        UserError, match=r"y\.zarr\.partial: expected an unfinished output, found thesis\.tex"
    ):
        ln.map_sequences(ln.GRU(2, 3), numbers(), output=tmp_path / "y.zarr")
    assert (tmp_path / "y.zarr.partial" / "thesis.tex").read_text() == "mine"


def test_faults_of_others_are_not_taken_for_the_disks(tmp_path: Path) -> None:
    def progress(done: int, total: int) -> None:
        raise BrokenPipeError("the caller's own")

    with pytest.raises(BrokenPipeError, match="the caller's own"):
        ln.map_sequences(ln.GRU(2, 3, seed=0), numbers(), output=tmp_path / "y.zarr", progress=progress)
