"""Sums between GPUs, with stand-ins for CuPy and CUDA: threads that sum arrays of the host."""

from __future__ import annotations

import ctypes
import sys
import threading
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rank_threads import on_ranks

from lstm_numba.engines import engine
from lstm_numba.ranks.base import Ranks
from lstm_numba.ranks.gradients import GradientSum
from lstm_numba.ranks.nccl import device_sums, one_gpu_each


class HostArray(np.ndarray):
    """An array of the host that calls its address one of the device."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"data": (self.ctypes.data, False)}


class Event:
    """Notes in `log` what is recorded and waited for."""

    def __init__(self, log: list[str], number: int) -> None:
        self._log, self._number = log, number

    def record(self, stream: Any) -> None:
        """Note it."""
        self._log.append(f"record {self._number} on {getattr(stream, 'handle', stream)}")

    def wait(self, stream: Any) -> None:
        """Note it."""
        self._log.append(f"{getattr(stream, 'handle', stream)} waits for {self._number}")


def stand_in(ranks: Ranks, log: list[str]) -> types.SimpleNamespace:
    """As much of CuPy's NCCL and of CUDA as one rank uses; constants as NCCL 2 has them."""

    class Communicator:
        def __init__(self, count: int, name: bytes, rank: int) -> None:
            assert (count, name, rank) == (ranks.size, b"of rank 0", ranks.rank)

        def allReduce(self, sent: int, got: int, count: int, kind: int, op: int, stream: int) -> None:
            assert (sent, op, stream) == (got, 0, 77)
            dtype = {7: np.float32, 8: np.float64}[kind]
            memory = (ctypes.c_byte * (count * np.dtype(dtype).itemsize)).from_address(sent)
            ranks.sum(np.frombuffer(memory, dtype))
            log.append(f"sum of {count}")

    numbers = iter(range(100))
    return types.SimpleNamespace(
        nccl=types.SimpleNamespace(
            available=True, NCCL_FLOAT32=7, NCCL_FLOAT64=8, NCCL_SUM=0, NcclCommunicator=Communicator,
            get_unique_id=lambda: b"of rank %d" % ranks.rank,
        ),
        cuda=types.SimpleNamespace(
            stream=lambda: types.SimpleNamespace(handle=77), event=lambda timing: Event(log, next(numbers))
        ),
    )  # fmt: skip


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """By rank; modules that look like CuPy and our driver ask the rank's thread which one it is."""
    by_thread: dict[int, Any] = {}

    class OfThread(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            return getattr(by_thread[threading.get_ident()], name)

    cupy, cuda = types.ModuleType("cupy"), OfThread("cupy.cuda")
    for name, module in {
        "cupy": cupy, "cupy.cuda": cuda, "lstm_numba.engines.cuda.driver": OfThread("driver"),
        "lstm_numba.engines.cuda.launch": types.SimpleNamespace(current_stream=lambda: 0),
        "lstm_numba.engines.cuda": types.ModuleType("lstm_numba.engines.cuda"),
    }.items():  # fmt: skip
        monkeypatch.setitem(sys.modules, name, module)  # type: ignore[arg-type]
    return by_thread


def test_gradients_are_summed_on_their_streams(stand_ins: dict[int, Any]) -> None:
    shapes = {"first": (3, 4), "last": (5,)}
    params = {name: np.empty(shape, np.float32) for name, shape in shapes.items()}

    def work(ranks: Ranks) -> tuple[dict[str, Any], list[str], list[float]]:
        log: list[str] = []
        stand_ins[threading.get_ident()] = stand_in(ranks, log)
        device = device_sums(ranks, own_gpu=True)
        assert device is not None
        total = GradientSum(ranks, engine("cpu"), params, device=device)
        total.begin()
        for name in ("last", "first"):
            array = np.full(shapes[name], ranks.rank + 1.0, np.float32).view(HostArray)
            total.ready({name: array})
        numbers = np.array([1.0])
        sums = total.finish(numbers)
        return {name: np.array(one) for name, one in sums.items()}, log, numbers.tolist()

    for sums, log, numbers in on_ranks(2, work):
        assert numbers == [2.0]
        for name, shape in shapes.items():
            np.testing.assert_array_equal(sums[name], np.full(shape, 3.0))
        # Each sum waits for what computed its array; what reads it, for the sum; and no one else.
        assert log == [
            "record 0 on 0", "77 waits for 0", "sum of 5", "record 1 on 77",
            "record 2 on 0", "77 waits for 2", "sum of 12", "record 3 on 77",
            "0 waits for 1", "0 waits for 3",
        ]  # fmt: skip


@pytest.mark.parametrize("own", [(True, False), (False, False)])
def test_ranks_without_gpus_of_their_own_sum_on_the_host(
    own: tuple[bool, bool], stand_ins: dict[int, Any]
) -> None:
    def work(ranks: Ranks) -> Any:
        stand_ins[threading.get_ident()] = stand_in(ranks, [])
        return device_sums(ranks, own[ranks.rank])

    assert on_ranks(2, work) == [None, None]


class Here(Ranks):
    """One rank of a machine, of which the others see what `seen` says."""

    def __init__(self, local_rank: int, seen: list[str]) -> None:
        self.local_rank, self.local_size, self._seen = local_rank, len(seen), seen

    def gather_here(self, text: str) -> list[str]:
        """What others see, too."""
        found = list(self._seen)
        found[self.local_rank] = text
        return found


@pytest.mark.parametrize(
    ("listed", "devices", "visible", "others", "own"),
    [
        (None, 2, "1", ["0", ""], True),
        ("3,5", 0, "5", ["3", ""], True),
        ("4", 0, "4", ["4", ""], False),  # one GPU for both
        ("4", 0, "4", ["2", ""], True),  # the launcher has shared them out
        (None, 0, None, ["", ""], False),
    ],
)
def test_a_gpu_for_each(
    listed: str | None, devices: int, visible: str | None, others: list[str], own: bool, tmp_path: Path
) -> None:
    for number in range(devices):
        (tmp_path / f"nvidia{number}").touch()
    (tmp_path / "nvidiactl").touch()
    environment = {} if listed is None else {"CUDA_VISIBLE_DEVICES": listed}
    assert one_gpu_each(Here(1, others), environment, tmp_path) == own
    assert environment.get("CUDA_VISIBLE_DEVICES") == visible
