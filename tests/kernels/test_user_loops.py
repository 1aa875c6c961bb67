"""Kernels in a user's loops: parallel, over several sets of parameters, in threads without the lock."""

from __future__ import annotations

import concurrent.futures

import numpy as np
import pytest
from numba import njit, prange
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import kernels

pytestmark = pytest.mark.processor


@njit(parallel=True)
def train_in_parallel(weights, x, states, y, tapes, dstate, dx, grads, scratch, status, dy):
    """Independent sequences; a part of them has output, tape, gradients and scratch of its own.

    What does not fit is a status: an exception in a parallel loop would be lost.
    """
    parts = len(grads)
    for part in prange(parts):
        own = kernels.unflatten(weights, grads[part])
        for n in range(part * len(x) // parts, (part + 1) * len(x) // parts):
            state, back = (states[n, 0], states[n, 1]), (dstate[n, 0], dstate[n, 1])
            status[n, 0] = kernels.sequence_forward(weights, x[n], state, y[part], tapes[part], scratch[part])
            status[n, 1] = kernels.sequence_backward(
                weights, x[n], tapes[part], dy[n], back, dx[n], own, scratch[part]
            )


def test_gradients_of_sequences_in_a_parallel_loop() -> None:
    rnn = ln.LSTM(3, 17, seed=0)
    weights, rng, f = kernels.plain(rnn), np.random.default_rng(0), np.float32
    x, dy = rng.standard_normal((23, 8, 3)).astype(f), rng.standard_normal((23, 8, 17)).astype(f)
    states, dstate, dx = np.zeros((23, 2, 17), f), np.zeros((23, 2, 17), f), np.empty_like(x)
    grads = np.zeros((4, kernels.parameter_count(weights.parameters)), f)
    tapes = np.empty((4, kernels.tape_size(weights, 8)), f)
    scratch = np.empty((4, kernels.scratch_size(weights, 8, 1, True)), f)
    y, status = np.empty((4, 8, 17), f), np.full((23, 2), -1)
    train_in_parallel(weights, x, states, y, tapes, dstate, dx, grads, scratch, status, dy)
    assert not status.any()
    _, (h, c), tape = rnn.forward(x.transpose(1, 0, 2))
    expected_dx, _, expected = rnn.backward(tape, dy.transpose(1, 0, 2))
    assert_close(states[:, 0], h[0], "forward")
    assert_close(states[:, 1], c[0], "forward")
    assert_close(dx, expected_dx.transpose(1, 0, 2), "backward")
    total = kernels.unflatten(weights.parameters, grads.sum(axis=0))
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        assert_close(getattr(total, name), expected[f"{name}_l0"], "backward", name)


@pytest.mark.parametrize(
    ("part", "faults"),
    [("nothing", []), ("scratch", [0, 1]), ("tapes", [0, 1]), ("grads", [1]), ("dx", [1]), ("states", [0])],
)
def test_what_does_not_fit_is_reported_in_a_parallel_loop(part: str, faults: list[int]) -> None:
    """Every call of the loop says so by its status, and leaves NaN where results would be."""
    rnn = ln.LSTM(3, 5, seed=0)
    weights, count, f = kernels.plain(rnn), 16, np.float32
    room = {
        "x": np.ones((count, 4, 3), f), "states": np.zeros((count, 2, 5), f), "y": np.zeros((count, 4, 5), f),
        "tapes": np.zeros((count, kernels.tape_size(weights, 4)), f), "dstate": np.zeros((count, 2, 5), f),
        "dx": np.zeros((count, 4, 3), f), "grads": np.zeros((count, kernels.parameter_count(weights)), f),
        "scratch": np.zeros((count, kernels.scratch_size(weights, 4, 1, True)), f),
    }  # fmt: skip
    if part in room:  # one number too few, or half of them
        shorter = room[part][..., : room[part].shape[-1] // 2 if part == "scratch" else -1]
        room[part] = np.ascontiguousarray(shorter)
    status = np.full((count, 2), -1)
    # What the forward pass left in y is the backward pass's dy.
    train_in_parallel(weights, *room.values(), status, room["y"])
    for call in (0, 1):
        if call in faults:
            name = {"grads": "weight_hh"}.get(part, part.rstrip("s"))
            assert {kernels.reason(int(s)).split(":")[0].rstrip("s") for s in status[:, call]} == {name}
        else:
            assert (status[:, call] == 0).all()
    # The backward pass reads what the forward pass left.
    spoilt = {"states": faults[:1] == [0], "y": faults[:1] == [0], "dstate": bool(faults), "dx": bool(faults)}
    if part != "grads":
        spoilt["grads"] = bool(faults)
    for output, expected in spoilt.items():
        assert np.isnan(room[output]).all() == expected, output
        assert np.isnan(room[output]).any() == expected, output


@njit
def run_other_parameters(weights, vectors, x, h, scratch):
    for n in range(len(vectors)):
        own = kernels.with_parameters(weights, kernels.unflatten(weights, vectors[n]))
        for t in range(x.shape[0]):
            kernels.step(own, x[t], h[n], scratch)


def test_other_parameters_of_the_same_cell() -> None:
    """An ensemble: every member with weights of its own, in one compiled loop."""
    layers = [ln.GRU(3, 17, seed=n) for n in range(4)]
    weights = kernels.plain(layers[0])
    vectors = np.stack([np.concatenate([p.reshape(-1) for p in r.params.values()]) for r in layers])
    vectors = np.ascontiguousarray(vectors)
    x, h = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32), np.zeros((4, 17), np.float32)
    run_other_parameters(weights, vectors, x, h, np.empty(kernels.scratch_size(weights), np.float32))
    for n, layer in enumerate(layers):
        assert_close(h[n], layer(x[:, None])[1][0, 0], "forward")


@njit(nogil=True)
def run_without_lock(weights, x, h, y, scratch):
    for t in range(x.shape[0]):
        kernels.step(weights, x[t], h, scratch)
        y[t] = h


def test_in_threads_without_the_lock() -> None:
    rnn = ln.GRU(4, 33, seed=0)
    weights = kernels.pack(kernels.plain(rnn))
    x = np.random.default_rng(0).standard_normal((40, 12, 4)).astype(np.float32)

    def one(n: int) -> np.ndarray:
        y, h = np.empty((40, 33), np.float32), np.zeros(33, np.float32)
        scratch = np.empty(kernels.scratch_size(weights), np.float32)
        run_without_lock(weights, np.ascontiguousarray(x[:, n]), h, y, scratch)
        return y

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        outputs = list(pool.map(one, range(12)))
    assert_close(np.stack(outputs, axis=1), rnn(x)[0], "forward")
