"""Kernels called from compiled code of one's own: what they compute, and what they touch."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from kernel_tools import CANARY, EVERY_CELL, LARGE, SHAPES, WEIGHTS, Case, Room
from numba import njit
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import kernels

pytestmark = pytest.mark.processor

# What a user's own functions look like.


@njit
def run_steps(weights, x, state, y, scratch):
    for t in range(x.shape[0]):
        kernels.step(weights, x[t], state, scratch)
        y[t] = state[0]


@njit
def add(target, source):
    """Without the temporary array that ``+=`` of arrays makes."""
    for n in range(target.size):
        target.flat[n] += source.flat[n]


@njit
def train_by_steps(weights, x, state, dy, dstate, tapes, dx, grads, scratch):
    for t in range(x.shape[0]):
        kernels.step_forward(weights, x[t], state, tapes[t], scratch)
    for t in range(x.shape[0] - 1, -1, -1):
        add(dstate[0], dy[t])
        kernels.step_backward(weights, x[t], tapes[t], dstate, dx[t], grads, scratch)


@njit
def train_by_sequence(weights, x, state, y, dy, dstate, tape, dx, grads, scratch):
    kernels.sequence_forward(weights, x, state, y, tape, scratch)
    kernels.sequence_backward(weights, x, tape, dy, dstate, dx, grads, scratch)


@EVERY_CELL
def test_forward_is_the_reference(cell: str, dtype: str, kind: str) -> None:
    for shape in SHAPES + LARGE * (cell == "lstm" and dtype == "float32"):
        case = Case(cell, dtype, kind, shape)
        y, final = case.expected()
        out, state, room = np.empty_like(case.dy), case.copies(case.first), case.room(1)
        run_steps(case.weights, case.x, state, out, room.numbers)
        assert_close(out, y, "forward", f"steps of {shape}")
        room.check()
        for got, want in zip(state, final, strict=True):
            assert_close(got, want, "forward", "state")
        out[...], state, room = np.nan, case.copies(case.first), case.room(case.steps)
        kernels.sequence(case.weights, case.x, state, out, room.numbers)
        assert_close(out, y, "forward", f"sequence of {shape}")
        room.check()
        for got, want in zip(state, final, strict=True):
            assert_close(got, want, "forward", "state")


@EVERY_CELL
def test_backward_is_the_layers(cell: str, dtype: str, kind: str) -> None:
    for shape in SHAPES + LARGE * (cell == "lstm" and dtype == "float32"):
        case = Case(cell, dtype, kind, shape)
        room, tapes = case.room(1, True), np.full((case.steps, case.tape(1).numbers.size), np.nan, dtype)
        dx, dstate, grads = np.empty_like(case.x), case.copies(case.dlast), case.zero_grads()
        state = case.copies(case.first)
        train_by_steps(case.weights, case.x, state, case.dy, dstate, tapes, dx, grads, room.numbers)
        case.check_gradients(dx, dstate, grads)
        room.check()
        room, tape, y = case.room(case.steps, True), case.tape(case.steps), np.empty_like(case.dy)
        dx, dstate, grads = np.empty_like(case.x), case.copies(case.dlast), case.zero_grads()
        state = case.copies(case.first)
        train_by_sequence(
            case.weights, case.x, state, y, case.dy, dstate, tape.numbers, dx, grads, room.numbers
        )
        assert_close(y, case.expected()[0], "forward")
        case.check_gradients(dx, dstate, grads)
        room.check()
        tape.check()


def test_gradients_are_added() -> None:
    case = Case("lstm", "float32", "packed", (3, 2, 4, 5))
    once, twice = case.zero_grads(), case.zero_grads()
    for grads in (once, twice, twice):
        kernels_room = case.room(3, True).numbers
        train_by_sequence(
            case.weights, case.x, case.copies(case.first), np.empty_like(case.dy), case.dy,
            case.copies(case.dlast), case.tape(3).numbers, np.empty_like(case.x), grads, kernels_room,
        )  # fmt: skip
    for a, b in zip(once, twice, strict=True):
        assert_close(b, 2 * a, "backward")


@pytest.mark.slow
def test_central_differences() -> None:
    """Through single steps, of plain weights, with respect to weights and input, without the layer's help."""
    case = Case("lstm", "float64", "plain", (3, 2, 2, 3))
    grads, dx, dstate = case.zero_grads(), np.empty_like(case.x), case.copies(case.dlast)
    tapes = np.empty((3, case.tape(1).numbers.size))
    scratch = case.room(1, True).numbers
    train_by_steps(case.weights, case.x, case.copies(case.first), case.dy, dstate, tapes, dx, grads, scratch)

    def loss() -> float:
        state, y = case.copies(case.first), np.empty_like(case.dy)
        run_steps(case.weights, case.x, state, y, scratch)
        return float((y * case.dy).sum() + sum((s * d).sum() for s, d in zip(state, case.dlast, strict=True)))

    for array, gradient in ((case.plain.parameters.weight_hh, grads.weight_hh), (case.x, dx)):
        flat = array.reshape(-1)
        numeric = np.empty(flat.size)
        for n in range(flat.size):
            middle = flat[n]
            flat[n] = middle + 1e-6
            above = loss()
            flat[n] = middle - 1e-6
            numeric[n] = (above - loss()) / 2e-6
            flat[n] = middle
        assert_close(gradient.reshape(-1), numeric, "central differences")


@pytest.mark.parametrize("kind", ["packed", pytest.param("plain", marks=pytest.mark.slow)])
def test_without_a_batch(kind: str) -> None:
    case = Case("lstm", "float32", kind, (6, None, 3, 5))
    y, state, tape = np.empty_like(case.dy), case.copies(case.first), case.tape(6)
    run_steps(case.weights, case.x, state, y, case.room(1).numbers)
    assert_close(y, case.expected()[0], "forward")
    y[...], state = np.nan, case.copies(case.first)
    kernels.sequence(case.weights, case.x, state, y, case.room(6).numbers)
    assert_close(y, case.expected()[0], "forward")
    dx, dstate, grads = np.empty_like(case.x), case.copies(case.dlast), case.zero_grads()
    train_by_sequence(
        case.weights, case.x, case.copies(case.first), y, case.dy, dstate, tape.numbers, dx, grads,
        case.room(6, True).numbers,
    )  # fmt: skip
    case.check_gradients(dx, dstate, grads)
    tape.check()


@pytest.mark.slow
@pytest.mark.parametrize("kind", WEIGHTS)
def test_without_biases(kind: str) -> None:
    case = Case(
        "gru-reset-before", "float32" if kind == "packed" else "float64", kind, (4, 3, 16, 17), bias=False
    )
    y, state = np.empty_like(case.dy), case.copies(case.first)
    run_steps(case.weights, case.x, state, y, case.room(1).numbers)
    assert_close(y, case.expected()[0], "forward")
    dx, dstate, grads = np.empty_like(case.x), case.copies(case.dlast), case.zero_grads()
    train_by_sequence(
        case.weights, case.x, case.copies(case.first), y, case.dy, dstate, case.tape(4).numbers, dx, grads,
        case.room(4, True).numbers,
    )  # fmt: skip
    case.check_gradients(dx, dstate, grads)
    assert grads.bias_ih.size == 0


@pytest.mark.smoke
def test_one_state_may_come_alone() -> None:
    case = Case("gru", "float32", "packed", (1, None, 3, 5))
    alone, in_tuple = case.first[0].copy(), (case.first[0].copy(),)
    kernels.step(case.weights, case.x[0], alone, case.room(1).numbers)
    kernels.step(case.weights, case.x[0], in_tuple, case.room(1).numbers)
    assert (alone == in_tuple[0]).all()
    assert (alone != case.first[0]).any()


def test_a_layer_and_direction() -> None:
    rnn = ln.LSTM(4, 6, 2, bidirectional=True, seed=0)
    weights = kernels.plain(rnn, layer=1, direction=1)
    assert weights.parameters.weight_ih is rnn.params["weight_ih_l1_reverse"]
    x = np.random.default_rng(0).standard_normal((5, 3, 12)).astype(np.float32)
    other = ln.LSTM(12, 6, seed=0)
    other.load_state_dict({f"{n}_l0": v for n, v in weights.parameters._asdict().items() if v.size})
    state, y = tuple(np.zeros((3, 6), np.float32) for _ in "hc"), np.empty((5, 3, 6), np.float32)
    kernels.sequence(weights, x, state, y, np.empty(kernels.scratch_size(weights, 5, 3), np.float32))
    assert_close(y, other(x)[0], "forward")


def test_packed_weights_follow_when_packed_again() -> None:
    case = Case("peephole", "float32", "packed", (2, 3, 3, 9))
    scratch = case.room(1).numbers
    for p in case.plain.parameters:
        p += 0.25

    def run(weights: Any) -> np.ndarray:
        y = np.empty_like(case.dy)
        run_steps(weights, case.x, case.copies(case.first), y, scratch)
        return y

    scratch = Room(kernels.scratch_size(case.plain, 1, 3), case.dtype).numbers
    changed = case.expected()[0]
    assert_close(run(case.plain), changed, "forward")
    assert np.abs(run(case.weights) - changed).max() > 1e-3
    kernels.repack(case.weights, case.plain.parameters)
    assert_close(run(case.weights), changed, "forward")


def test_a_vector_as_parameters() -> None:
    like = kernels.plain(ln.PeepholeLSTM(3, 5, seed=0)).parameters
    count = kernels.parameter_count(like)
    flat = np.concatenate([p.reshape(-1) for p in like])
    assert flat.size == count == 4 * 5 * 3 + 4 * 5 * 5 + 2 * 20 + 15
    views = kernels.unflatten(like, flat)
    for view, array in zip(views, like, strict=True):
        assert view.shape == array.shape
        assert (view == array).all()
        assert np.shares_memory(view, flat)
    with pytest.raises(ValueError, match="flat"):
        kernels.unflatten(like, flat[1:])


def test_global_weights_are_refused() -> None:
    """Numba would freeze them, and keep the addresses in them on disk."""
    case = Case("lstm", "float32", "packed", (1, 2, 4, 5))
    weights = case.weights

    @njit
    def closed_over(x, state, scratch):
        kernels.step(weights, x, state, scratch)

    with pytest.raises(numba.TypingError, match="weights: expected as an argument") as caught:
        closed_over(case.x[0], case.copies(case.first), case.room(1).numbers)
    assert "Packed(LSTMCell, 4, 5, float32)" in str(caught.value)
    assert "array(" not in str(caught.value)


def test_nothing_is_allocated() -> None:
    """Arrays that come from Python are counted once a call; steps add nothing."""
    from numba.core.runtime import _nrt_python, rtsys

    def arguments(steps: int) -> tuple[Any, ...]:
        case = Case("lstm", "float32", "packed", (steps, 2, 16, 17))
        tapes = np.empty((steps, case.tape(1).numbers.size), np.float32)
        states, scratch = (case.copies(case.first), case.copies(case.dlast)), case.room(1, True).numbers
        dx, grads = np.empty_like(case.x), case.zero_grads()
        return case.weights, case.x, states[0], case.dy, states[1], tapes, dx, grads, scratch

    @njit
    def allocating(n):
        total = 0.0
        for k in range(n):
            total += np.empty(k)[:0].sum()
        return total

    def count(function: Any, *given: Any) -> int:
        function(*given)
        before = rtsys.get_allocation_stats().alloc
        function(*given)
        return rtsys.get_allocation_stats().alloc - before

    enabled = _nrt_python.memsys_stats_enabled()
    _nrt_python.memsys_enable_stats()
    try:
        assert count(allocating, 9) > count(allocating, 2), "the counter does not count"
        assert count(train_by_steps, *arguments(9)) == count(train_by_steps, *arguments(2))
    finally:
        if not enabled:
            _nrt_python.memsys_disable_stats()


USER_MODULE = """
    import numpy as np
    from numba import njit
    import lstm_numba as ln
    from lstm_numba import kernels

    @njit(cache=True)
    def mine(weights, x, h, scratch):
        for t in range(x.shape[0]):
            kernels.step(weights, x[t], h, scratch)

    if __name__ == "__main__":
        weights = kernels.pack(kernels.plain(ln.GRU(3, 5, seed=0)))
        h = np.zeros(5, np.float32)
        x = np.ones((4, 3), np.float32)
        mine(weights, x, h, np.empty(kernels.scratch_size(weights), np.float32))
        print(sum(mine.stats.cache_hits.values()), sum(mine.stats.cache_misses.values()), *h)
"""


def test_kept_on_disk(tmp_path: Path) -> None:
    """The second process loads the user's kernel, and the addresses that it was given are its own."""
    program = tmp_path / "mine.py"
    program.write_text(textwrap.dedent(USER_MODULE))
    lines = []
    for _ in range(2):
        done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
        lines.append(done.stdout.split())
    assert lines[0][:2] == ["0", "1"]
    assert lines[1][:2] == ["1", "0"]
    assert lines[0][2:] == lines[1][2:]
    rnn = ln.GRU(3, 5, seed=0)
    expected = rnn(np.ones((4, 1, 3), np.float32))[1][0, 0]
    assert_close(np.array(lines[0][2:], np.float32), expected, "forward")


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_go_to_another_process(kind: str, tmp_path: Path) -> None:
    """The addresses in them do not: those of the products differ from process to process."""
    case = Case("lstm", "float32", kind, (1, None, 3, 5))
    y = np.empty_like(case.dy)
    run_steps(case.weights, case.x, case.copies(case.first), y, case.room(1).numbers)
    place = tmp_path / "weights"
    place.write_bytes(pickle.dumps((case.weights, case.x, case.first)))
    program = """
        import pickle, sys
        import numpy as np
        from lstm_numba import kernels
        weights, x, first = pickle.load(open(sys.argv[1], "rb"))
        state = tuple(first)
        kernels.step(weights, x[0], state, np.empty(kernels.scratch_size(weights), np.float32))
        print(*state[0])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), place], capture_output=True, text=True, check=True
    )
    assert_close(np.array(done.stdout.split(), np.float32), y[0], "forward")


def test_scratch_may_begin_anywhere() -> None:
    """`scratch_size` numbers are enough wherever between two cache lines they begin, and no more are used."""
    case = Case("lstm", "float32", "packed", (4, 3, 16, 17))
    size, expected = kernels.scratch_size(case.weights, 1, 3), case.expected()[0]
    memory = np.full(size + 64, CANARY, np.float32)
    first = -memory.ctypes.data % 64 // 4
    for begin in range(first, first + 16):
        memory[:] = CANARY
        y = np.full_like(case.dy, np.nan)
        run_steps(case.weights, case.x, case.copies(case.first), y, memory[begin : begin + size])
        assert_close(y, expected, "forward", f"{4 * (begin - first)} bytes beyond a cache line")
        assert (memory[:begin] == CANARY).all()
        assert (memory[begin + size :] == CANARY).all()
