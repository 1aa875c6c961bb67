"""What the engine rests on: memory that is used again, packed weights that notice changes, meetings."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba import njit

import lstm_numba as ln
from lstm_numba.cpu import backward, layout, meeting, prepared, sequence, tasks
from lstm_numba.cpu.arrays import ALIGNMENT, LARGE, Memory, address, aligned_empty
from lstm_numba.cpu.checksum import checksum_part
from lstm_numba.cpu.passes import Team
from lstm_numba.cpu.prepared import Prepared
from lstm_numba.cpu.simd import pointer_to
from lstm_numba.cpu.target import vector_unit

pytestmark = pytest.mark.processor

# Memory


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


# Packed weights


_CELL = ln.make_layer("lstm", 1, 1).cell


def _params(inputs: int, hidden: int, dtype: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"weight_ih": (4 * hidden, inputs), "weight_hh": (4 * hidden, hidden), "bias_ih": (4 * hidden,)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


class _Packer:
    """Counts how often weights have to be packed."""

    def __init__(self, params: dict[str, np.ndarray], parts: int = 1) -> None:
        self.params, self.prepared, self.parts, self.count = params, Prepared(), parts, 0
        self.sums: list[int] = []
        self.place = 0

    def call(self) -> int:
        """One use of the weights; how often they were packed until now."""
        hidden, inputs = self.params["weight_hh"].shape[1], self.params["weight_ih"].shape[1]
        dtype = self.params["weight_hh"].dtype
        located = self.prepared.locate(_CELL, self.params, inputs, hidden, dtype)
        place = self.prepared.packed(located, 64).weights
        words = located.words
        sums = [checksum_part(words, len(located.arrays), part, self.parts) for part in range(self.parts)]
        if place != self.place or sums != self.sums:
            self.count += 1
            self.place, self.sums = place, sums
        return self.count


@pytest.mark.parametrize(("inputs", "hidden"), [(1, 1), (3, 7), (40, 300)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("parts", [1, 3])
def test_every_change_of_a_number_is_noticed(inputs: int, hidden: int, dtype: str, parts: int) -> None:
    packer = _Packer(_params(inputs, hidden, dtype), parts)
    assert [packer.call() for _ in range(4)] == [1] * 4
    size = packer.params["weight_ih"].size
    places = [("weight_ih", 0), ("weight_ih", size - 1), ("weight_ih", size // 2), ("bias_ih", 3)]
    for number, (name, place) in enumerate(places, 2):
        packer.params[name].reshape(-1)[place] *= -1  # a single bit
        assert packer.call() == number, (name, place)


def test_each_number_counts() -> None:
    packer = _Packer(_params(19, 3, np.float32))
    packer.call()
    weights = packer.params["weight_ih"].reshape(-1)
    for place in range(weights.size):
        weights[place] *= -1
        assert packer.call() == place + 2, place


def test_sign_flips_in_pairs_swaps_and_new_arrays_are_noticed() -> None:
    packer = _Packer(_params(10, 30, np.float32))
    packer.call()
    a = packer.params["weight_ih"].reshape(-1)
    for number, distance in enumerate((1, 2, 4, 8, 16, 32, 64), 2):
        a[3] *= -1
        a[3 + distance] *= -1
        assert packer.call() == number, distance
    a *= -1
    packer.call()
    a[[10, 18]] = a[[18, 10]]
    packer.call()
    packer.params["bias_ih"] = packer.params["bias_ih"].copy()  # the same numbers elsewhere may change there
    assert packer.call() == 11
    assert packer.call() == 11


def test_a_layer_follows_its_parameters() -> None:
    rnn, x = ln.LSTM(3, 20, seed=0), np.ones((4, 2, 3), np.float32)
    first, _ = rnn(x)
    rnn.params["weight_hh_l0"][7, 3] += 0.5
    changed, _ = rnn(x)
    again = ln.LSTM(3, 20, seed=1)
    again.load_state_dict(rnn.params)
    np.testing.assert_array_equal(changed, again(x)[0])
    assert not np.array_equal(first, changed)


_TEAMS = pytest.mark.parametrize(
    "team", [Team(0, 1, 1), Team(0, 2, 1), Team(1, 2, 1)], ids=["one", "rows", "units"]
)


@_TEAMS
@pytest.mark.parametrize("shared", [False, True], ids=["", "shared"])
def test_weights_that_did_not_change_are_not_packed_again(
    team: Team, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence, "choose_plan", lambda *_: sequence.Plan(team, 2, 1))
    monkeypatch.setattr(prepared, "_SHARED", 0 if shared else 1 << 21)
    rnn, x = ln.LSTM(3, 40, seed=0, bias=False, dtype=np.float64), np.ones((4, 8, 3))
    expected, _ = rnn(x)
    assert expected.any()
    weights, _ = rnn._prepared[0]._kept.memory
    weights.fill(0)
    assert not rnn(x)[0].any()
    rnn.params["weight_hh_l0"] *= 0.5
    np.testing.assert_array_equal(rnn(x)[0], rnn.forward(x)[0])


@_TEAMS
def test_a_layer_follows_every_parameter(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence, "choose_plan", lambda *_: sequence.Plan(team, 2, 1))
    monkeypatch.setattr(prepared, "_SHARED", 0)
    rnn, x = ln.PeepholeLSTM(3, 40, seed=0, dtype=np.float64), np.ones((4, 8, 3))
    seen = [rnn(x)[0]]
    for name, parameter in rnn.params.items():
        for place in (0, parameter.size // 2, parameter.size - 1):
            parameter.reshape(-1)[place] += 0.5
            seen.append(rnn(x)[0])
            kept = rnn(x)[0]
            expected, _, _ = rnn.forward(x)  # packs anew every time
            np.testing.assert_array_equal(seen[-1], expected, err_msg=name)
            np.testing.assert_array_equal(kept, expected, err_msg=name)
            assert not np.array_equal(seen[-1], seen[-2]), (name, place)


def test_other_numbers_of_threads_in_turns() -> None:
    rnn, x = ln.LSTM(64, 64, seed=0), np.ones((40, 64, 64), np.float32)
    for threads in (1, numba.config.NUMBA_NUM_THREADS, 1):
        numba.set_num_threads(threads)
        for _ in range(2):
            before, _ = rnn(x)
            np.testing.assert_array_equal(before, rnn.forward(x)[0])
            rnn.params["weight_hh_l0"] *= 0.5
            changed, _ = rnn(x)
            assert not np.array_equal(changed, before)
            np.testing.assert_array_equal(changed, rnn.forward(x)[0])


def test_threads_that_find_the_weights_changed_at_the_same_time() -> None:
    rnn, x = ln.PeepholeLSTM(8, 24, seed=0, dtype=np.float64), np.ones((2, 1, 8))
    rounds, workers, results = 200, 4, {}
    weights = np.random.default_rng(0).standard_normal((rounds, *rnn.params["weight_hh_l0"].shape))
    together = threading.Barrier(workers)

    def work(number: int) -> None:
        for n in range(rounds):
            if together.wait() == 0:
                rnn.params["weight_hh_l0"][...] = weights[n]
            together.wait()
            results[n, number] = rnn(x)[0]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(rounds):
        rnn.params["weight_hh_l0"][...] = weights[n]
        expected = rnn.forward(x)[0]
        for number in range(workers):
            np.testing.assert_array_equal(results[n, number], expected)


def test_parameters_may_be_any_arrays_of_their_shape_and_type() -> None:
    rnn, x = ln.LSTM(3, 20, seed=0), np.ones((4, 2, 3), np.float32)
    expected, _ = rnn(x)
    weight = rnn.params["weight_hh_l0"]
    wide = np.zeros((80, 41), np.float32)
    for view in (np.asfortranarray(weight), wide[:, ::2][:, :20]):
        view[...] = weight
        rnn.params["weight_hh_l0"] = view
        np.testing.assert_array_equal(rnn(x)[0], expected)
        view[70, 19] += 1
        assert not np.array_equal(rnn(x)[0], expected)
    for wrong, error, message in (
        (weight.astype(np.float64), TypeError, r"weight_hh\w*: expected (dtype )?float32, got float64"),
        (weight[:, :19], ValueError, r"weight_hh: expected shape \(80, 20\), got \(80, 19\)"),
    ):
        rnn.params["weight_hh_l0"] = wrong
        for run in (rnn, rnn.forward, lambda _: ln.Stream(rnn)):
            with pytest.raises(error, match=message):
                run(x)


# Meetings


@njit
def _gather(where: int, parts: int) -> bool:
    return meeting.gather(pointer_to(where, 0), parts)


def test_who_is_alone_does_not_wait_for_ever() -> None:
    memory = np.zeros(meeting.NUMBERS, np.int64)
    assert not _gather(address(memory), 2)
    assert not _gather(address(memory), 2)  # who comes too late hears the same


def test_one_is_a_party() -> None:
    assert _gather(address(np.zeros(meeting.NUMBERS, np.int64)), 1)


@pytest.mark.parametrize("cell", ["lstm", "gru-reset-before"])
def test_without_a_meeting_the_caller_does_the_work(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rnn = ln.make_layer(cell, 4, 40, seed=0, dtype=np.float64)
    x = np.random.default_rng(0).standard_normal((3, 2, 4))

    def run() -> tuple[Any, ...]:
        y, _, tape = rnn.forward(x)
        dx, _, grads = rnn.backward(tape, np.ones_like(y))
        return (y, dx, *grads.values())

    expected = run()
    # Of two parts on one thread the second begins when the first has ended.
    numba.set_num_threads(1)
    monkeypatch.setattr(sequence, "choose_plan", lambda *_: sequence.Plan(Team(1, 2, 2), 2, 1))
    monkeypatch.setattr(sequence, "_apart", sequence._Apart())
    for got, wanted in zip(run(), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-13)
    assert sequence._apart.count == 2


def test_threads_that_do_not_come_are_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (50, 1, 300, 300)
    cell = ln.make_layer("lstm", 1, 1).cell
    monkeypatch.setattr(sequence, "thread_count", lambda: 2)
    monkeypatch.setattr(sequence, "_apart", sequence._Apart())
    assert sequence.choose_plan(cell, shape, np.dtype("float32")).team.by_units
    for _ in range(sequence.MAX_APART):
        sequence._apart()
    assert not sequence.choose_plan(cell, shape, np.dtype("float32")).team.by_units


# Tasks


@njit
def _meet_others(job: Any, phase: Any, part: Any) -> None:
    """In the phases that threads share, wait for one another; note who saw all of them."""
    if phase in (tasks.CHECK, tasks.PREPARE, tasks.WORK, tasks.AFTER):
        where = pointer_to(job[8 + phase], job[0])
        if meeting.gather(where, job[0]):
            job[16 + phase * 8 + part] = 1
    else:
        job[16 + phase * 8] += 1


def _run_meeting(
    parts: int, workers: int, prepare: int, stale: int | None = None, checks: int = 0
) -> list[list[int]]:
    """Who was in which phase of a task whose threads meet; `stale` is what a check would find."""
    memory = np.zeros((tasks.AFTER + 1, meeting.NUMBERS), np.int64)
    job = np.zeros(72, np.int64)
    job[0] = max(parts, prepare)
    job[1] = stale or 0
    job[8 : 8 + len(memory)] = [address(row) for row in memory]
    task = tasks.compile_task(_meet_others.py_func)
    where = address(job)
    check = {} if stale is None else {"check": checks or prepare, "stale": where + 8}
    assert tasks.run_task(task, where, parts, workers, prepare=prepare, **check)
    there: list[list[int]] = job[16:].reshape(-1, 8)[: tasks.AFTER + 1, :2].tolist()
    return there


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread")
def test_threads_share_a_tasks_phases() -> None:
    numba.set_num_threads(2)
    work = [[1, 0], [1, 1], [1, 0], [1, 1]]
    assert _run_meeting(2, 2, 2) == [[0, 0], [1, 1], *work]
    assert _run_meeting(2, 2, 2, stale=1) == [[1, 1], [1, 1], *work]
    assert _run_meeting(2, 2, 2, stale=0) == [[1, 1], [0, 0], *work]
    assert _run_meeting(2, 2, 0) == [[0, 0], [0, 0], *work]
    assert _run_meeting(0, 0, 2) == [[0, 0], [1, 1], *4 * [[0, 0]]]


def test_one_thread_does_all_phases_or_only_the_first() -> None:
    assert _run_meeting(1, 1, 1) == [[0, 0], *5 * [[1, 0]]]
    assert _run_meeting(1, 1, 1, stale=1) == 6 * [[1, 0]]
    assert _run_meeting(1, 1, 1, stale=0) == [[1, 0], [0, 0], *4 * [[1, 0]]]
    assert _run_meeting(1, 1, 0) == [[0, 0], [0, 0], *4 * [[1, 0]]]
    assert _run_meeting(0, 0, 1) == [[0, 0], [1, 0], *4 * [[0, 0]]]


# Shares


@njit
def _take_shares(sizes: Any, parts: int, done: Any, products: Any) -> None:
    """Count how often each row and unit, and each row and panel, is in a share."""
    for part in range(parts):
        share = layout.share_units(sizes, parts, part)
        tiles = layout.tile_count(share, backward.BACK_ROWS)
        first, last = layout.tile_range(share, products.shape[1], tiles)
        for n in range(first, last):
            place = layout.there_and_back(first, last, n, 1)
            row, rows = layout.tile_of(share, tiles, place % tiles)
            products[row : row + rows, place // tiles] += 1
        for tile in range(tiles):
            begin, end = backward._units_of(sizes, first, last, tiles, tile)
            row, rows = layout.tile_of(share, tiles, tile)
            done[row : row + rows, begin:end] += 1


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize(("hidden", "batch"), [(40, 3), (88, 20), (104, 30), (16, 1)])
def test_shares_of_units_cover_every_row_and_unit_once(hidden: int, batch: int, parts: int) -> None:
    sizes = layout.Sizes(1, batch, 1, hidden, hidden, 8, 0, 1, 1, 1, 0, 0, 0, 0)
    done, products = np.zeros((batch, hidden), int), np.zeros((batch, -(-hidden // 16)), int)
    _take_shares(sizes, parts, done, products)
    assert (products == 1).all()
    assert (done == 1).all()


# Vector units. The checks run this file once more with other processors' names, see `.ci/run`.

_CHILD = """
import numpy as np
from lstm_numba.cpu.tile import _compiled
print(_compiled(4, np.dtype("float32"))._library.get_asm_str())
"""
#: Unit -> registers of its tiles, and of wider ones.
_REGISTERS = {
    "AVX-512": (r"zmm\d+", "$^"),
    "AVX2": (r"ymm\d+", r"zmm\d+"),
    "baseline": (r"xmm\d+", r"[yz]mm\d+"),
    "NEON": (r"fmla\s+v\d+\.4s", "$^"),
}


def test_a_tile_uses_the_registers_of_this_processor(tmp_path: Path) -> None:
    """In what a new process compiles: a tile that Numba took from its cache has no assembly."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
    )
    used, wider = _REGISTERS[vector_unit().name]
    assert re.search(used, done.stdout)
    assert not re.search(wider, done.stdout)


@pytest.mark.skipif(vector_unit().name == "NEON", reason="names of x86-64")
def test_features_of_another_processor_are_heeded() -> None:
    """Both variables, as Numba heeds them: with the name alone it takes this processor's features."""
    for name, features, unit in (
        ("haswell", "+avx,+avx2,+fma", "AVX2"),
        ("x86-64", "+sse2", "baseline"),
        ("skylake-avx512", "+avx512f,+avx512vl,+avx512dq,+avx2,+fma", "AVX-512"),
    ):
        settings = {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
        program = "from lstm_numba.cpu.target import vector_unit; print(vector_unit().name)"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=settings
        )
        assert done.stdout.strip() == unit
