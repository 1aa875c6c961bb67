"""Persistent kernels: every way to share the work, against the CPU engine and the general kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from backends import simulated
from engine_problems import HIDDEN, LENGTHS, EngineProblem, compare_devices, with_everything
from tolerances import assert_close

from lstm_numba.cells import CELLS, find_cell
from lstm_numba.engines.cuda import launch, persistent_layout, plans
from lstm_numba.engines.cuda.driver import DeviceLimits
from lstm_numba.engines.cuda.persistent import persistent_backward, persistent_forward

THREADS = 8
#: Cells of one product and of two, with vectors and extras, projected, with several gates and with one.
NAMES = (
    "lstm", "peephole", "gru", "gru-reset-before", "peephole-full", "lstm-projected", "rnn", "wrapped lstm",
    "wrapped lstm-projected",
)  # fmt: skip


class Work(NamedTuple):
    """How a layout shares the work: what is left of the lists that are searched, and of the device."""

    lanes: int
    units: int
    rows: int
    multiprocessors: int
    chunks: int = 1
    kept: float = 1.0  # what part of the weights is kept; between 0 and 1 for some of them


#: 5 units and 6 rows.
WORK = {
    "one block": Work(4, 2, 2, 1),
    "tiles one after the other": Work(2, 1, 4, 1),
    "blocks that share the units": Work(2, 1, 7, 3),
    "blocks that share units and rows": Work(2, 2, 2, 6),
    "rows one after the other": Work(1, 4, 1, 4),
    "an operand in two chunks": Work(2, 1, 3, 3, chunks=2),
    "some weights read at every step": Work(2, 1, 4, 6, kept=0.5),
    "all weights read at every step": Work(2, 2, 3, 2, kept=0.0),
}


def cell_of(name: str) -> Any:
    return with_everything(name.split()[1]) if name.startswith("wrapped") else find_cell(name)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Work], None]]:
    """A function that has all sequences run in one layout."""

    def use(work: Work) -> None:
        monkeypatch.setattr(persistent_layout, "_LANES", (work.lanes,))
        monkeypatch.setattr(persistent_layout, "UNITS", (work.units,))
        monkeypatch.setattr(persistent_layout, "ROWS", (work.rows,))
        monkeypatch.setattr(persistent_layout, "_CHUNKS", (work.chunks,))
        monkeypatch.setattr(plans, "limits", lambda: launch.Limits(lanes=THREADS, parts=1))
        monkeypatch.setattr(plans, "_plans", {})
        persistent_layout.layouts.cache_clear()
        real = persistent_layout.layouts

        def fewer_bytes(problem: Any, device: Any, threads: int) -> Any:
            """The layout for as little shared memory as has the asked for part of the weights."""
            fits = (real(problem, device._replace(shared=16 * n), threads) for n in range(1, 4096))
            for found in fits:
                if found and (found[0].resident > 0) == (work.kept > 0) and found[0].resident < 1:
                    return found
            raise AssertionError("no such layout")

        if work.kept < 1:
            monkeypatch.setattr(persistent_layout, "layouts", fewer_bytes)
        limits = DeviceLimits(work.multiprocessors, 1 << 16, (9, 0))
        monkeypatch.setattr(plans, "device_limits", lambda: limits)

    yield use
    monkeypatch.undo()
    persistent_layout.layouts.cache_clear()


def used() -> list[Any]:
    """The plans of the kernels that ran."""
    found = list(plans._plans.values())
    assert {plan.kernel for plan in found} == {persistent_forward, persistent_backward}
    return found


@pytest.mark.parametrize("work", WORK)
def test_layouts_are_what_they_are_called(work: str, use: Any) -> None:
    use(WORK[work])
    EngineProblem(find_cell("lstm")).run("cuda")
    for plan in used():
        (across, down), rows, units = plan.grid, plan.tile.rows, plan.tile.units
        tiles = -(-HIDDEN // (plan.block[0] * units)), -(-len(LENGTHS) // rows)
        assert (plan.sizes["unit_tiles"], plan.sizes["row_tiles"]) == tiles
        assert across * down <= WORK[work].multiprocessors
        assert (tiles[0] > across) == (work == "tiles one after the other")
        assert plan.cooperative == (across > 1)
        chunks = -(-plan.sizes["part_depth"] // plan.own.chunk)
        assert chunks == WORK[work].chunks
        kept, wanted = plan.own.kept[0].depth, plan.sizes["part_depth"]
        assert (kept == wanted, kept > 0) == (WORK[work].kept == 1, WORK[work].kept > 0)


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("name", ["lstm", "gru-reset-before"] if simulated() else NAMES)
def test_against_the_cpu_engine(name: str, work: str, use: Any) -> None:
    use(WORK[work])
    number = list(WORK).index(work)
    cell, output = cell_of(name), 2 if name.endswith("projected") else HIDDEN
    lengths, reverse = (LENGTHS, None)[number % 2], number % 4 > 1
    compare_devices(EngineProblem(cell, lengths, reverse, number, output))
    used()


@pytest.mark.parametrize("name", sorted({*CELLS, *NAMES} - {"layer-norm-lstm", "layer-norm-gru"}))
def test_same_bits_as_general_kernels(name: str, use: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many parts of the depth the sums are in the same order, whatever else a layout is."""
    cell = cell_of(name)
    problem = EngineProblem(cell, LENGTHS, True, 0, 3 if cell.projected else HIDDEN, np.float32)
    work = WORK["blocks that share units and rows"]
    use(work)
    got = problem.run("cuda")
    parts = {plan.block[1] for plan in used()}
    monkeypatch.undo()
    monkeypatch.setenv(plans.VARIABLE, "general")
    before = launch.limits()
    launch.set_limits(before._replace(lanes=work.lanes, parts=parts.pop()))
    try:
        expected = problem.run("cuda")
    finally:
        launch.set_limits(before)
    for key, array in expected.items():
        if simulated():
            np.testing.assert_array_equal(got[key], array, err_msg=key)
        else:  # two kernels, in which the compiler may fuse other products and sums
            assert_close(got[key], array, key.partition(":")[0], key)


def test_more_rows_than_blocks_leave_the_counters_at_zero(use: Any) -> None:
    from lstm_numba.engines.cuda import memory

    use(Work(2, 1, 1, 3))
    compare_devices(EngineProblem(find_cell("gru"), LENGTHS, True))
    assert {plan.sizes["row_tiles"] for plan in used()} == {6}
    assert not np.any(memory.download(memory.counters(1)))


def test_what_runs_in_general_kernels_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plans.unsuited(find_cell("lstm")) == ""
    assert "means" in plans.unsuited(find_cell("layer-norm-lstm"))
    monkeypatch.setattr(plans, "device_limits", lambda: DeviceLimits(80, 1 << 16, (7, 5)))
    assert "copies" in plans.unsuited(find_cell("lstm"))


def test_a_few_steps_are_not_worth_it(use: Any) -> None:
    from lstm_numba.nn.layers import make_layer

    use(WORK["one block"])
    layer = make_layer("gru", 2, 3, device="cuda", seed=0)
    for steps in (1, 2, 3):
        layer(np.ones((steps, 2, 2), np.float32))
        assert ("fewer than 3 steps" in list(plans._plans.values())[-1].reason) == (steps < 3)


def test_where_no_layout_fits_the_general_kernel_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "_plans", {})
    monkeypatch.setattr(persistent_layout, "layouts", lambda *args: [])
    compare_devices(EngineProblem(find_cell("gru")))
    assert all("no persistent kernel fits" in plan.reason for plan in plans._plans.values())


@pytest.mark.parametrize(("resident", "runs"), [(3, True), (2, False)])
def test_all_blocks_have_to_be_resident(
    resident: int, runs: bool, use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(WORK["blocks that share the units"])
    monkeypatch.setattr(plans, "cooperative_blocks", lambda *args: resident)
    EngineProblem(find_cell("gru")).run("cuda")
    assert [plan.own is not None for plan in plans._plans.values()] == [runs, runs]


def test_an_unknown_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plans.VARIABLE, "persistant")
    monkeypatch.setattr(plans, "_plans", {})
    with pytest.raises(ValueError, match="expected general or persistent, got 'persistant'"):
        EngineProblem(find_cell("gru")).run("cuda")
