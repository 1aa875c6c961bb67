"""The block that finishes last sees what all others wrote."""

from __future__ import annotations

import numpy as np
from cuda_tools import cases, download, upload

from lstm_numba.engines.cuda.driver import cuda
from lstm_numba.engines.cuda.last_block import last_of
from lstm_numba.engines.cuda.launch import launch
from lstm_numba.engines.cuda.memory import counters, fill

(BLOCKS, THREADS, TIMES) = cases([(6, 4, 20)], [(2000, 256, 200)])[-1]


@cuda.jit
def _add(parts, count, out):  # type: ignore[no-untyped-def]
    """Each thread leaves a number, and those of the last block add up the numbers of others."""
    parts[cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x] = 1 + cuda.threadIdx.x
    if last_of(count, 0, cuda.gridDim.x):
        total = 0
        for n in range(cuda.gridDim.x):
            total += parts[n * cuda.blockDim.x + (cuda.threadIdx.x + 1) % cuda.blockDim.x]
        out[cuda.threadIdx.x] += total


def test_the_last_block_sees_all_parts() -> None:
    parts, out = upload(np.zeros(BLOCKS * THREADS, np.int64)), upload(np.zeros(THREADS, np.int64))
    expected = BLOCKS * (1 + np.roll(np.arange(THREADS), -1))
    for time in range(1, TIMES + 1):
        fill(parts, 0)
        launch(_add, BLOCKS, THREADS, parts, counters(1), out)
        np.testing.assert_array_equal(download(out), time * expected)
        np.testing.assert_array_equal(download(counters(1)), 0)
