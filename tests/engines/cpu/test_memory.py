"""Memory that is used again."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from lstm_numba.engines.cpu.memory import ALIGNMENT, LARGE, Memory, address, aligned_empty


@pytest.mark.smoke
def test_large_arrays_use_memory_again_when_nobody_does() -> None:
    Memory.idle.clear()
    first = aligned_empty((LARGE,), np.uint8)
    view, where = first[10:20], address(first)
    del first
    gc.collect()
    other = aligned_empty((LARGE,), np.uint8)
    assert address(other) != where  # the view still uses it
    view[:] = 7
    other[:] = 0
    assert (view == 7).all()
    del view
    assert address(aligned_empty((LARGE,), np.uint8)) == where


def test_idle_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    Memory.idle.clear()
    monkeypatch.setattr(Memory, "limit", 9 * LARGE)
    arrays = [aligned_empty((size,), np.uint8) for size in (LARGE, 2 * LARGE, 4 * LARGE)]
    arrays += [aligned_empty((LARGE,), np.uint8) for _ in range(3)]
    del arrays
    gc.collect()
    # Of one size there are too many for the others to stay.
    assert 0 < sum(size * len(pieces) for size, pieces in Memory.idle.items()) <= 9 * LARGE


def test_a_much_larger_block_is_not_wasted_on_a_small_array() -> None:
    Memory.idle.clear()
    aligned_empty((4 * LARGE,), np.uint8)
    (large,) = Memory.idle
    array = aligned_empty((LARGE,), np.uint8)
    assert len(Memory.idle[large]) == 1
    del array


def test_a_view_of_memory_gives_nothing_back() -> None:
    Memory.idle.clear()
    array = aligned_empty((LARGE,), np.uint8)
    base: Any = array.base
    assert isinstance(base, Memory)
    part = base[10:20]
    del part, base
    gc.collect()
    assert not Memory.idle
    del array
    gc.collect()
    assert [len(pieces) for pieces in Memory.idle.values()] == [1]


@pytest.mark.parametrize("shape", [(3,), (5, 7), (LARGE // 4, 3)])
@pytest.mark.smoke
def test_arrays_begin_on_a_cache_line(shape: tuple[int, ...]) -> None:
    array = aligned_empty(shape, np.float32)
    assert array.shape == shape
    assert array.ctypes.data % ALIGNMENT == 0
    assert address(array) == array.ctypes.data


def test_threads_never_share_a_block() -> None:
    Memory.idle.clear()
    faults: list[int] = []

    def work(mark: int) -> None:
        for _ in range(300):
            array = aligned_empty((LARGE,), np.uint8)
            array[:: LARGE // 8] = mark
            if not (array[:: LARGE // 8] == mark).all():
                faults.append(mark)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_memory_may_outlive_its_module() -> None:
    """As that of a layer does which something holds to the end."""
    program = "import numpy\nfrom lstm_numba.engines.cpu import memory\n"
    program += "numpy.held, numpy.module = memory.Memory.of(memory.LARGE), memory\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
