"""The directions of a layer at the same time: order of the work, memory, and each one's part of the device.

The simulator has no streams. Here a fake driver has some, and everything that is put on them is noted. That
real streams and memory do not get into each other's way is checked in `tests/support/branch_order.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from backends import simulated
from cuda_tools import download, normal

import lstm_numba as ln
from lstm_numba.cells import CELLS
from lstm_numba.engines import engine
from lstm_numba.engines.cuda import branches, launch, persistent_layout, plans, pool
from lstm_numba.engines.cuda.driver import DeviceLimits
from lstm_numba.engines.cuda.layout import SingleBlock

MAIN, BESIDE = 0, 7

only_simulated = pytest.mark.skipif(not simulated(), reason="replaces the driver")


class Event:
    """Notes what is asked of it."""

    def __init__(self, log: list[Any]) -> None:
        self._log = log

    def record(self, stream: int) -> None:
        self._log.append(("record", self, stream))

    def hold(self, stream: int) -> None:
        self._log.append(("hold", self, stream))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is put on streams: (kernel, its arguments, stream), or what is asked of an event."""
    from numba.cuda.simulator.kernel import FakeCUDAKernel

    found: list[Any] = []
    stream = SimpleNamespace(synchronize=lambda: None)
    events: Any = [Event(found), Event(found)]
    side = branches._Side(launch.Current(stream, BESIDE, None, True), *events)
    monkeypatch.setattr(branches, "SIMULATED", False)
    monkeypatch.setattr(branches, "_side", lambda device, main: side)
    call = FakeCUDAKernel.__call__

    def noted(kernel: Any, *args: Any) -> Any:
        if not kernel._device:
            found.append((kernel.fn.__name__, args, launch.stream_handle()))
        return call(kernel, *args)

    monkeypatch.setattr(FakeCUDAKernel, "__call__", noted)
    return found


def split(log: list[Any]) -> list[list[Any]]:
    """What is between events: at a fork and at a join one is recorded and waited for."""
    parts: list[list[Any]] = [[]]
    for n, entry in enumerate(log):
        if entry[0] == "record":
            waiting = MAIN + BESIDE - entry[2]
            assert log[n + 1] == ("hold", entry[1], waiting)
            parts.append([waiting])
        elif entry[0] != "hold":
            parts[-1].append(entry)
    return parts


def names(part: list[Any], stream: int) -> list[str]:
    """What was launched on a stream; without its counters, which are made once."""
    return [entry[0] for entry in part[1:] if entry[2] == stream and entry[0] != "_fill"]


def pairs(count: int) -> tuple[Any, Any]:
    """The same layer on the device and on the processor."""
    options: Any = {"bidirectional": count == 2, "seed": 0}
    return ln.GRU(2, 3, device="cuda", **options), ln.GRU(2, 3, **options)


def results(layer: Any, count: int) -> list[Any]:
    y, state, tape = layer.forward(normal((3, 2, 2), np.float32))
    dx, dstate, grads = layer.backward(tape, normal((3, 2, 3 * count), np.float32, 1))
    return [y, state, dx, dstate, *map(layer.engine.download, grads.values())]


@only_simulated
def test_directions_are_between_a_fork_and_a_join(log: list[Any]) -> None:
    layer, host = pairs(2)
    for got, expected in zip(results(layer, 2), results(host, 2), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    _, forward, between, backward, added, after = split(log)
    assert [part[0] for part in (forward, between, backward, added, after)] == [
        BESIDE, MAIN, BESIDE, BESIDE, MAIN,
    ]  # fmt: skip
    for part, kernel in ((forward, "forward"), (backward, "backward")):
        for stream in (MAIN, BESIDE):
            assert sum(kernel in name for name in names(part, stream)) == 1
        assert names(part, MAIN) == names(part, BESIDE) or part is backward
        streams = [entry[2] for entry in part[1:]]
        assert streams == sorted(streams)  # the current one's first
    assert "_write_output" in names(between, MAIN)
    assert not names(between, BESIDE)
    assert not names(after, BESIDE)


@only_simulated
def test_the_products_that_are_added_to_dx_wait_for_the_first_direction(log: list[Any]) -> None:
    results(pairs(2)[0], 2)
    *_, backward, added, _ = split(log)
    sizes = [args[4] for _, args, _ in added[1:]]  # all are products
    assert {name for name, *_ in added[1:]} == {"product_kernel"}
    assert [size.accumulate for size in sizes] == [1] * len(sizes)
    assert names(added, BESIDE)
    assert not names(added, MAIN)
    products = [args[4] for name, args, _ in backward[1:] if name == "product_kernel"]
    target, first = added[1][1][3], [args[3] for name, args, _ in backward[1:] if name == "product_kernel"]
    assert sum(np.shares_memory(target._ary, array._ary) for array in first) == len(sizes)
    assert sum(size.accumulate for size in products) == len(sizes) - 1  # of the first direction


@only_simulated
@pytest.mark.parametrize("why", ["one direction", "variable"])
def test_no_fork(why: str, log: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "variable":
        monkeypatch.setenv(branches.VARIABLE, "0")
    count = 1 if why == "one direction" else 2
    monkeypatch.setattr(plans, "_plans", {})
    results(pairs(count)[0], count)
    assert {entry[2] for entry in log} == {MAIN}
    assert not [entry for entry in log if entry[0] in ("record", "hold")]
    assert {key[-1] for key in plans._plans} == {1}


@only_simulated
@pytest.mark.parametrize("failing", [0, 1])
def test_an_exception_joins(failing: int, log: list[Any]) -> None:
    def run() -> None:
        with engine("cuda").branches(2) as branch:
            for number in range(2):
                with branch(number):
                    assert branches.share() == 2
                    assert launch.stream_handle() == (BESIDE if number else MAIN)
                    1 // (number - failing)

    with pytest.raises(ZeroDivisionError):
        run()
    assert split(log) == [[], [BESIDE], [MAIN]]
    assert (launch.stream_handle(), launch.on_side(), branches.share()) == (MAIN, False, 1)
    branches.catch_up()
    assert len(log) == 4


@only_simulated
def test_branches_are_entered_in_order(log: list[Any]) -> None:
    with engine("cuda").branches(2) as branch:
        with branch(1):
            pass
        with pytest.raises(RuntimeError, match="branch 0 after branch 1"), branch(0):
            pass


@only_simulated
def test_branches_in_a_branch_are_no_further_ones(log: list[Any]) -> None:
    with engine("cuda").branches(2) as branch, branch(1), engine("cuda").branches(2) as inner:
        for number in range(2):
            with inner(number):
                assert launch.stream_handle() == BESIDE
    assert split(log) == [[], [BESIDE], [MAIN]]


# -- memory --------------------------------------------------------------------------------------------


@pytest.fixture
def blocks(log: list[Any], monkeypatch: pytest.MonkeyPatch) -> pool.Pool:
    """A pool whose blocks are numbers."""
    made = pool.Pool()
    numbers = iter(range(1, 100))
    monkeypatch.setattr(pool, "_allocate", lambda size: (object(), next(numbers)))
    monkeypatch.setattr(branches, "current_pool", lambda: made)
    return made


@only_simulated
def test_memory_of_the_stream_beside_is_used_again_after_the_next_fork(blocks: pool.Pool) -> None:
    device = engine("cuda")
    with device.branches(2) as branch, branch(1):
        first, lease = blocks.take(8)
        _, dropped = blocks.take(8)
        del dropped  # perhaps after work that the next array's would not wait for
        third, kept = blocks.take(8)
        assert (first, third) == (1, 3)
    with device.branches(2) as branch:
        with branch(0):
            del lease  # after the current stream has read it, which nothing has waited for
        with branch(1):
            taken, other = blocks.take(8)
            assert taken == 2
            assert blocks.take(8)[0] == 4
    with device.branches(2) as branch, branch(1):
        held = [blocks.take(8) for _ in range(3)]
        assert {address for address, _ in held} == {1, 4, 5}
    del kept, other


@only_simulated
def test_memory_is_free_when_the_stream_waits_and_not_earlier(
    blocks: pool.Pool, log: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = engine("cuda")
    with device.branches(2) as branch, branch(1):
        blocks.take(8)
    seen: list[Any] = []
    free: Callable[[], list[int]] = lambda: [n for found in blocks._free.values() for n in found]  # noqa: E731

    def hold(self: Any, stream: int) -> None:
        seen.append((stream, free()))

    monkeypatch.setattr(Event, "hold", hold)
    with device.branches(2):
        assert free() == [1]
    assert seen[0] == (BESIDE, [])


@only_simulated
def test_memory_of_the_current_stream_is_used_again_at_once(blocks: pool.Pool) -> None:
    with engine("cuda").branches(2) as branch, branch(0):
        first, lease = blocks.take(8)
        del lease
        assert blocks.take(8)[0] == first


@only_simulated
def test_memory_that_waits_is_returned_too(blocks: pool.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    manager = SimpleNamespace(deallocations=SimpleNamespace(clear=lambda: None))
    context = SimpleNamespace(memory_manager=manager)
    monkeypatch.setattr(pool, "cuda", SimpleNamespace(current_context=lambda: context))
    with engine("cuda").branches(2) as branch, branch(1):
        blocks.take(8)
    assert blocks._blocks
    blocks.clear()
    assert not blocks._blocks


# -- plans ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", ["general", "persistent"])
def test_each_direction_has_a_half_of_the_device(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four multiprocessors, and of two blocks that are on the device at the same time."""
    monkeypatch.setenv(plans.VARIABLE, kernel)
    monkeypatch.setattr(plans, "_plans", {})
    asked: list[int] = []
    real = persistent_layout.layouts

    def layouts(problem: Any, device: DeviceLimits, threads: int) -> Any:
        asked.append(device.multiprocessors)
        return real(problem, device, threads)

    monkeypatch.setattr(persistent_layout, "layouts", layouts)
    monkeypatch.setattr(plans, "device_limits", lambda: DeviceLimits(4, 1 << 20, (9, 0)))
    monkeypatch.setattr(plans, "cooperative_blocks", lambda *args: 2)
    for count in (1, 2):
        results(pairs(count)[0], count)
    assert asked == ([4, 4, 2, 2] if kernel == "persistent" else [])
    assert sorted((key[0], key[-1]) for key in plans._plans) == [
        (False, 1), (False, 2), (True, 1), (True, 2),
    ]  # fmt: skip
    for key, found in plans._plans.items():
        assert found.reason.startswith(kernel)
        if kernel == "persistent":  # a block for each of two rows, or one for both
            assert found.grid == (1, 2 // key[-1])


def test_both_directions_are_on_the_device_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "limits", lambda: launch.Limits())
    monkeypatch.setattr(plans, "device_limits", lambda: DeviceLimits(132, 1 << 20, (9, 0)))
    arrays = SimpleNamespace(h=np.empty(0, np.float32))

    def grid(fit: int, hidden: int = 1500) -> Any:
        monkeypatch.setattr(plans, "cooperative_blocks", lambda *args: fit)
        sizes: Any = SimpleNamespace(batch=20, hidden=hidden)
        return plans.general_plan(False, CELLS["lstm"], sizes, (arrays,))

    alone = grid(132).grid
    with engine("cuda").branches(2):
        assert grid(264).grid == alone == (47, 2)
        assert grid(133).grid[0] * grid(133).grid[1] <= 66
        assert grid(1).grid[0] == 1  # no block waits for another one
        with pytest.raises(Exception, match="no block"):
            grid(0)
        assert type(grid(264, 32).mode) is SingleBlock
    assert grid(133).grid == (47, 2)


def test_a_layer_computes_the_same_on_a_half_of_the_device() -> None:
    found = []
    for value in ("0", "1"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(branches.VARIABLE, value)
            layer = ln.LSTM(2, 5, bidirectional=True, seed=0, device="cuda")
            y, _, tape = layer.forward(normal((3, 6, 2), np.float32))
            dx, _, grads = layer.backward(tape, normal((3, 6, 10), np.float32, 1))
            found.append([y, dx, *map(download, grads.values())])
    assert branches.VARIABLE not in os.environ
    for got, expected in zip(*found, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
