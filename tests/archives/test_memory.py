"""What is read at once, and an archive that is larger than the memory that a process may take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from archive_tools import Watched, numbers

import lstm_numba as ln
from lstm_numba.archives.answers import answer_of
from lstm_numba.archives.job import Sizes
from lstm_numba.archives.sources import ArraySource, common_chunk


def test_every_sequence_is_read_once_and_a_block_at_a_time() -> None:
    watched = Watched(numbers())
    ln.map_sequences(ln.GRU(2, 3, seed=0), watched, block_size=4)
    assert watched.reads == [(0, 4), (4, 8), (8, 12), (12, 16), (16, 20), (20, 23)]


def test_no_more_than_one_block_is_read_ahead() -> None:
    watched, seen = Watched(numbers()), []
    ln.map_sequences(
        ln.GRU(2, 3, seed=0), watched, block_size=4, progress=lambda *_: seen.append(len(watched.reads))
    )
    assert all(read <= done + 1 for done, read in enumerate(seen, start=1))


class _Promised:
    """The shape of an array that would not fit into any memory."""

    dtype = np.dtype(np.float32)

    def __init__(self, shape: tuple[int, ...], chunks: tuple[int, ...] | None = None) -> None:
        self.shape, self.chunks = shape, chunks


def sizes(chunk: int | None, count: int = 100_000, steps: int = 10_957) -> Sizes:
    """Of 100,000 gauges, 30 years of days and 5 variables."""
    array = _Promised((count, steps, 5), chunk and (chunk, steps, 5))
    answer = answer_of(ln.LSTM(5, 64), "state")
    parts = answer.parts(steps, 5)
    return Sizes.choose(ArraySource([("a", array)], "a"), answer, parts, None, None)


def test_sizes_fit_into_memory_and_are_whole_chunks() -> None:
    sequence = 10_957 * 5 * 4
    assert 32 << 20 <= sizes(None).block * 2 * sequence <= 64 << 20
    assert sizes(50).block == 150
    assert sizes(1000).block == 1000  # larger than what a block should be, but read once
    assert sizes(5000).block == sizes(None).block  # 2 GB: a chunk is read for several blocks
    assert sizes(1000).batch * 10_957 * (5 + 2 * 64) * 4 <= 128 << 20
    assert sizes(None, count=640, steps=10).block == 64  # some for each of several machines


def test_chunks_of_several_variables() -> None:
    assert common_chunk([4, 6], 100) == 12
    assert common_chunk([40, 42], 100) == 42


def test_chunks_that_are_read_often_are_told() -> None:
    x = numbers()
    watched = Watched(x)
    watched.chunks = (20, 9, 2)  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="a chunk holds 20 sequences, a block 4: each chunk is read 5 times"):
        ln.map_sequences(ln.GRU(2, 3, seed=0), watched, block_size=4)


_LIMITED = """
import re, resource, sys
import numpy as np
import lstm_numba as ln

rnn = ln.GRU(1000, 3, seed=0)
rnn(np.zeros((9, 64, 1000), np.float32))  # compiles, as that must not be what needs memory
held = int(re.search(r"VmData:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (held + (400 << 20),) * 2)
states = ln.map_sequences(rnn, sys.argv[1], method="state")
print(states.shape, bool((states == states[0]).all()), float(abs(states[0]).min()) > 0)
try:
    ln.map_sequences(rnn, sys.argv[1], method="state", block_size=10**6)
except MemoryError:
    print("too much")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits and counts memory as Linux does")
def test_an_archive_larger_than_memory(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr is not installed")
    # 800 MB of ones that take no room on the disk.
    shape, chunks = (2000, 100, 1000), (50, 100, 1000)
    path = str(tmp_path / "x.zarr")
    zarr.open_array(path, mode="w", shape=shape, chunks=chunks, dtype="f4", fill_value=1)
    done = subprocess.run([sys.executable, "-c", _LIMITED, path], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["(2000, 1, 3) True True", "too much"]
