"""What each of four processes checks of `lstm_numba.ranks.mpi`; the first prints "fine" if all is.

mpiexec -n 4 python rank_checks.py FOLDER
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from lstm_numba.ranks.base import Ranks
from lstm_numba.ranks.launch import connect
from lstm_numba.ranks.mpi import MpiRanks


def check_sums(ranks: Ranks, kind: str) -> None:
    """Sums of large arrays, again and again: equal to NumPy's in the order of the ranks."""
    one = ranks.new_sum((300, 401), np.float32)
    assert type(one).__name__ == kind, type(one)
    for step in range(3):
        every = [np.random.default_rng((step, k)).standard_normal((300, 401)) for k in range(ranks.size)]
        array = every[ranks.rank].astype(np.float32)
        if step == 2 and one.own is not None:  # computed where it is summed
            one.own[...] = array
            array = one.own
        push = one.begin(array)
        while not push():
            pass
        wanted = sum(part.astype(np.float32).astype(np.float64) for part in every)
        np.testing.assert_allclose(one.result, wanted, rtol=1e-5, atol=1e-6)
        bits = ranks.gather(one.result.view(np.uint32))
        assert (bits == bits[0]).all(), "ranks have other bits"


def check_two_under_way(ranks: Ranks) -> None:
    """Ranks go on with sums in another order: one that is done has been added by all of them."""
    first, second = (ranks.new_sum((64,), np.float64) for _ in range(2))
    for step in range(20):
        array = np.full(64, ranks.rank + step, np.float64)
        pushes = [first.begin(array.copy())]
        if ranks.rank % 2:
            pushes.append(second.begin(array.copy()))
            time.sleep(0.005)
        while not pushes[0]():
            pass
        np.testing.assert_array_equal(first.result, sum(rank + step for rank in range(ranks.size)))
        if len(pushes) == 1:
            pushes.append(second.begin(array.copy()))
        while not pushes[1]():
            pass
        np.testing.assert_array_equal(second.result, first.result)


def check_exchange(ranks: Ranks, folder: Path, machine: int) -> None:
    """What one process makes and all have; arrays once a machine."""

    def make() -> dict[str, object]:
        with (folder / f"made-{machine}").open("a") as file:
            file.write(f"{ranks.rank}\n")
        return {"words": ("a", "b"), "array": np.arange(100_000), "empty": np.empty(0), "none": None}

    found = ranks.once_a_machine(make)
    assert found["words"] == ("a", "b")
    assert found["none"] is None
    array = found["array"]
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, np.arange(100_000))
    assert array.flags.writeable == (ranks.local_size == 1)
    assert ranks.once(lambda: ranks.rank + 5) == 5
    own = None if ranks.rank == 2 else np.full((1, ranks.rank + 1), ranks.rank)
    assert ranks.join(own, axis=1).tolist() == [[0, 1, 1, 3, 3, 3, 3]]
    np.testing.assert_array_equal(ranks.sum(np.array([1.0, ranks.rank])), [4.0, 6.0])


def main() -> None:
    """All checks: one machine; two of two, which these four stand for; four of one."""
    folder = Path(sys.argv[1])
    ranks = connect()
    assert ranks.size == 4
    check_sums(ranks, "SharedSum")
    check_two_under_way(ranks)
    for machines in (2, 4):
        machine = ranks.rank * machines // 4
        apart = MpiRanks(machine)
        assert apart.local_size == 4 // machines
        check_two_under_way(apart)
        check_sums(apart, "SharedSum" if machines == 2 else "_MessageSum")
        (folder / str(machines)).mkdir(exist_ok=True)
        apart.once(lambda: None)
        check_exchange(apart, folder / str(machines), machine)
    uneven = MpiRanks(min(ranks.rank, 1))
    check_sums(uneven, "_MessageSum")
    check_threads(ranks)
    if ranks.first:
        print("fine", flush=True)


def check_threads(ranks: Ranks) -> None:
    """Cores are shared, unless the launcher has done so, or somebody has said how many."""
    everything = frozenset(range(8))
    assert ranks.threads(8, everything, False) == 2
    assert ranks.threads(3, everything, False) == 1  # a quota, for all
    assert ranks.threads(8, everything, True) == 8
    own = frozenset((2 * ranks.rank, 2 * ranks.rank + 1))
    assert ranks.threads(2, own, False) == 2
    socket = frozenset(range(4)) if ranks.rank < 2 else frozenset(range(4, 8))
    assert ranks.threads(4, socket, False) == 2


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
