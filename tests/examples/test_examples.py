"""The examples: gradients through whole simulations, and what each of them is said to achieve."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba import carray, cfunc, types
from scipy.ndimage import generic_filter1d
from scipy.signal import lfilter
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import kernels
from lstm_numba.examples import amplifier, c_callbacks, closure, controller, streams
from lstm_numba.examples.flat import flat_model

pytestmark = pytest.mark.processor

Array = np.ndarray[Any, Any]


def _central_differences(loss: Callable[[], float], theta: Array, step: float = 1e-5) -> Array:
    """The gradient of what `loss` makes of theta, number by number."""
    gradient = np.empty_like(theta)
    for k, value in enumerate(theta.copy()):
        theta[k] = value + step
        above = loss()
        theta[k] = value - step
        gradient[k] = (above - loss()) / (2 * step)
        theta[k] = value
    return gradient


# A controller


def _small_controller(seed: int = 0) -> tuple[Array, Any, Array, Any]:
    theta, model = flat_model(ln.LSTM(1, 5, seed=seed, dtype="float64"))
    theta[-6:] = np.random.default_rng(1).standard_normal(6)
    trials = controller.draw_trials(6, 2, np.float64)
    return theta, model, trials, controller.make_work(model, 2, 25, 3)


def test_the_gradient_through_the_simulation() -> None:
    theta, model, trials, work = _small_controller()
    gradient = np.empty_like(theta)
    found = controller.loss_and_gradient(model, trials, work, gradient)

    def loss() -> float:
        return float(controller.loss_and_gradient(model, trials, work, np.empty(0)))

    assert loss() == found
    assert_close(gradient, _central_differences(loss, theta), "central differences")


def test_the_simulation_against_the_layer_in_numpy() -> None:
    theta, model, trials, work = _small_controller()
    found = controller.loss_and_gradient(model, trials, work, np.empty(0))
    rnn = ln.LSTM(1, 5, seed=0, dtype="float64")
    stream, total = ln.Stream(rnn, batch=6), 0.0
    s = np.zeros((6, 4))
    s[:, 0] = s[:, 2] = trials[:, 0]
    for _ in range(25):
        u = stream.step(np.ascontiguousarray(s[:, 2:3])) @ theta[-6:-1] + theta[-1]
        for n in range(6):
            controller.plant.py_func(s[n], u[n], trials[n], s[n])
        total += float(np.sum(s[:, 2] ** 2) + controller.EFFORT * np.sum(u**2))
    assert_close(np.array(found), np.array(total / 150), "forward")


def test_the_controller_learns_and_beats_what_needs_no_memory() -> None:
    trials, fresh = controller.draw_trials(32, 0, np.float64), controller.draw_trials(64, 1, np.float64)
    model, losses = controller.train(trials, 120, hidden=8, batch=8, updates=120, lr=2e-2)
    assert losses[-1] < 0.15 * losses[0]
    found = controller.evaluate(model, fresh, 120, batch=8)
    gains = controller.tune_pid(trials, 120, 1)
    assert found < 0.6 * controller.pid_loss(gains, fresh, 120)
    assert found < 0.2 * controller.pid_loss(np.zeros(3), fresh, 120)


def test_a_training_gives_the_same_bits_again() -> None:
    trials = controller.draw_trials(16, 0, np.float64)
    runs = [controller.train(trials, 30, hidden=8, batch=4, updates=5, seed=seed)[1] for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


# An ODE


@pytest.fixture(scope="module")
def motions() -> tuple[Array, Array]:
    return closure.draw_trials(8, 80, 0)


@pytest.mark.slow
def test_the_gradient_through_the_integration(motions: tuple[Array, Array]) -> None:
    waves, truth = motions[0][:4], np.ascontiguousarray(motions[1][:4, :13, :2])
    theta, model = flat_model(ln.GRU(2, 4, seed=0, dtype="float64"))
    theta[-5:] = np.random.default_rng(1).standard_normal(5)
    work, gradient, other = closure.make_work(model, 2, 12, 2), np.empty_like(theta), np.empty_like(theta)
    closure.loss_and_gradient(model, waves, truth, work, gradient)

    def loss() -> float:
        return float(closure.loss_and_gradient(model, waves, truth, work, other))

    assert_close(gradient, _central_differences(loss, theta), "central differences")


def test_the_right_hand_side_is_a_function_of_its_arguments(motions: tuple[Array, Array]) -> None:
    rnn = ln.GRU(2, 4, seed=0, dtype="float64")
    theta, model = flat_model(rnn)
    theta[-5:] = np.random.default_rng(1).standard_normal(5)
    points = np.random.default_rng(2).standard_normal((6, 6))
    waves, times = motions[0][0], np.linspace(0, 3, 6)

    def slopes(order: Any) -> dict[int, Array]:
        return {n: closure.closed_system(times[n], points[n], waves, model) for n in order}

    before, first, second = points.copy(), slopes(range(6)), slopes([3, 3, 0, 5, 1, 5, 2, 4, 3])
    np.testing.assert_array_equal(points, before)
    for n, expected in first.items():
        np.testing.assert_array_equal(second[n], expected)
        h = rnn(points[None, n : n + 1, :2], points[None, n : n + 1, 2:])[0][0, 0]
        assert_close(expected[2:], (h - points[n, 2:]) / closure.TAU, "forward")
        force = closure.drive.py_func(times[n], waves) - points[n, 2:] @ theta[-5:-1] - theta[-1]
        x, v = points[n, :2]
        assert_close(expected[:2], [v, force - closure.DAMPING * v - closure.STIFFNESS * x], "forward")


@pytest.mark.slow
def test_the_closure_improves_the_forecast(motions: tuple[Array, Array]) -> None:
    waves, truth = motions
    model, losses = closure.train(waves, truth[..., :2], hidden=8, batch=4, updates=120)
    assert losses[-1] < 0.1 * losses[0]
    waves, truth = closure.draw_trials(4, 120, 1)
    times, size = closure.DT * np.arange(121), 2 + model.readout.size - 1

    def error(*solving: Any, **options: Any) -> float:
        motions = [closure.solve(*solving[:2], w, times, *solving[2:], **options) for w in waves]
        return float(np.sqrt(np.mean((np.array(motions)[..., 0] - truth[..., 0]) ** 2)))

    found = error(closure.closed_system, size, model)
    assert found < 0.15 * error(closure.linear_system, 2, np.zeros(2))
    gains = np.linalg.lstsq(motions[1][..., :2].reshape(-1, 2), motions[1][..., 2].ravel(), rcond=None)[0]
    assert found < 0.6 * error(closure.linear_system, 2, gains)
    # Well-posed: a solver that steps otherwise finds the same motion, the training's fixed steps too.
    loose, tight = (
        closure.solve(closure.closed_system, size, waves[0], times, model, rtol=rtol, atol=1e-9)
        for rtol in (1e-5, 1e-9)
    )
    assert 0 < np.abs(loose - tight).max() < 1e-3
    work = closure.make_work(model, 1, 120, 1)
    fixed = np.ascontiguousarray(tight[None, :, :2])
    gradient = np.empty(kernels.parameter_count(model.plain.parameters) + model.readout.size)
    assert closure.loss_and_gradient(model, waves[:1], fixed, work, gradient) < 1e-8


# Streams


@pytest.mark.parametrize("loop", ["blocks", "one by one"])
def test_streams_that_get_samples_when_they_come(loop: str) -> None:
    count, ticks, rng = 150, 12, np.random.default_rng(0)
    rnn = ln.LSTM(1, 16, seed=2)
    weights = kernels.pack(kernels.plain(rnn))
    h, c = np.zeros((2, count, 16), "f")
    scratch, rows = streams.make_scratch(weights), streams.make_rows(1, 16, rnn.dtype)
    given: list[list[float]] = [[] for _ in range(count)]
    for _ in range(ticks):
        x, arrived = rng.standard_normal((count, 1), "f"), rng.random(count) < 0.4
        arrived[64:128] &= rng.random() < 0.5  # Blocks without any arrival.
        for stream in np.flatnonzero(arrived):
            given[stream].append(x[stream, 0])
        if loop == "blocks":
            streams.tick_arrived(weights, x, arrived, h, c, rows, scratch)
        else:
            streams.tick_each(weights, x, arrived, h, c, scratch)
    for stream, samples in enumerate(given):
        if samples:
            _, (h_end, c_end) = rnn(np.array(samples, "f")[:, None, None])
            assert_close(h[stream], h_end[0, 0], "forward")
            assert_close(c[stream], c_end[0, 0], "forward")
        else:
            assert not h[stream].any()


def test_streams_that_all_get_a_sample() -> None:
    rnn = ln.LSTM(1, 16, seed=2)
    weights = kernels.pack(kernels.plain(rnn))
    x, (h, c) = np.random.default_rng(0).standard_normal((5, 150, 1)).astype("f"), np.zeros((2, 150, 16), "f")
    for samples in x:
        streams.tick_all(weights, samples, h, c, streams.make_scratch(weights))
    assert_close(h, rnn(x)[0][-1], "forward")


def test_scores_tell_who_stumbles() -> None:
    rnn, readout = streams.train(streams.draw_samples(40, 64, 0)[0], updates=100)
    x, odd = streams.draw_samples(100, 600, 1, odd=0.1)
    arrivals = np.ones(x.shape, bool)
    scores = streams.score_streams(rnn, readout, x, arrivals)
    arrivals[:, :70] = False
    silent = streams.score_streams(rnn, readout, x, arrivals)
    assert not silent[:70].any()
    np.testing.assert_array_equal(silent[70:], scores[70:])
    assert streams.area(scores, odd) > 0.9
    y, _ = rnn(x[:-1, :, None])
    expected = np.zeros(600)
    for surprise in [x[0] ** 2, *(x[1:] - y @ readout[:-1] - readout[-1]) ** 2]:
        expected += 0.1 * (surprise - expected)
    # The prediction before the first sample is the readout of a state of zeros.
    expected += 0.9 ** (len(x) - 1) * 0.1 * ((x[0] - readout[-1]) ** 2 - x[0] ** 2)
    assert_close(scores, expected, "forward", dtype="float32")


@pytest.mark.smoke
def test_area_under_the_curve() -> None:
    scores, odd = np.array([0.1, 0.9, 0.4, 0.5]), np.array([False, True, True, False])
    # Of the four pairs of an odd and another one, (0.4, 0.5) alone is the wrong way round.
    assert streams.area(scores, odd) == 0.75


def test_a_thread_pool_of_kernels_gives_what_one_thread_gives() -> None:
    rnn = ln.LSTM(4, 24, seed=0)
    weights = kernels.pack(kernels.plain(rnn))
    x = np.random.default_rng(0).standard_normal((16, 50, 4)).astype("f")

    def run(sequence: Array) -> Array:
        h, c, scratch = np.zeros(24, "f"), np.zeros(24, "f"), np.empty(kernels.scratch_size(weights), "f")
        for sample in sequence:
            kernels.step(weights, sample, (h, c), scratch)
        return h

    serial = [run(sequence) for sequence in x]
    with ThreadPoolExecutor(8) as pool:
        parallel = list(pool.map(run, x))
    np.testing.assert_array_equal(parallel, serial)


# An amplifier


def _small_amplifier(hidden: int, seconds: float) -> tuple[Array, Any, Array, Array, ln.LSTM]:
    rnn = ln.LSTM(1, hidden, seed=0, dtype="float64")
    theta, model = flat_model(rnn)
    theta[-hidden - 1 :] = np.random.default_rng(1).standard_normal(hidden + 1)
    return theta, model, *amplifier.draw_pair(seconds, 0, np.float64), rnn


def test_the_amplifier_and_its_ratio_in_numpy() -> None:
    dry, wet = amplifier.draw_pair(0.01, 0, np.float64)
    pole = np.exp(-2 * np.pi * 3_000 / 44_100)
    assert_close(wet, lfilter([1 - pole], [1, -pole], np.tanh(6 * dry)), "forward")
    found = lfilter([1, -0.85], [1], dry - wet)
    expected = np.sum(found**2) / np.sum(lfilter([1, -0.85], [1], wet) ** 2)
    assert_close(np.array(amplifier.esr(dry, wet)), expected, "forward")


def test_the_gradient_through_a_chunk() -> None:
    theta, model, dry, wet, _ = _small_amplifier(4, 0.002)
    work, rng = amplifier.make_work(model, theta, 20, 3), np.random.default_rng(2)
    x, target = dry[:60].reshape(20, 3, 1), wet[:60].reshape(20, 3)
    before = rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.standard_normal(3)

    def loss() -> float:
        work.h[:], work.c[:], work.error[0] = before
        kernels.repack(model.weights, model.plain.parameters)
        return float(amplifier.chunk_gradient(model, x, target, 0.7, work))

    loss()
    assert_close(work.gradient.copy(), _central_differences(loss, theta), "central differences")


def test_chunks_carry_on_and_blocks_are_the_layer() -> None:
    theta, model, dry, wet, rnn = _small_amplifier(5, 0.01)
    dry, wet = dry[:400], wet[:400]
    y, _ = rnn(dry[:, None, None])
    expected = dry + y[:, 0] @ theta[-6:-1] + theta[-1]
    found, _ = amplifier.play(model, dry)
    assert_close(found, expected, "forward")
    np.testing.assert_array_equal(amplifier.play(model, dry, 400)[0], found)
    work, scale = amplifier.make_work(model, theta, 100, 1), 1 / amplifier.energy(wet)
    ratio, updates = amplifier.train_epoch(
        theta, model, dry[:, None, None], wet[:, None], scale, 0.0, 0, work
    )
    assert updates == 4
    assert_close(np.array(ratio), amplifier.esr(expected, wet), "forward")


def test_the_amplifier_is_learnt() -> None:
    model, ratios = amplifier.train(*amplifier.draw_pair(2, 0), hidden=8, stretches=8, steps=128, epochs=10)
    assert ratios[-1] < 0.05 * ratios[0]
    dry, wet = amplifier.draw_pair(0.5, 1)
    assert amplifier.esr(amplifier.play(model, dry)[0], wet) < 0.01 * amplifier.esr(dry, wet)


# C


@pytest.fixture(scope="module")
def cleaner() -> tuple[ln.GRU, Array]:
    rnn, readout = c_callbacks.train(*c_callbacks.draw_signals(32, 60, 0), hidden=8, updates=150)
    return rnn, readout


def test_a_filter_inside_scipy(cleaner: tuple[ln.GRU, Array]) -> None:
    noisy, clean = c_callbacks.draw_signals(20, 80, 1)
    expected = c_callbacks.by_layer(*cleaner, noisy)
    filter_ = c_callbacks.scipy_filter(kernels.CStep(cleaner[0]), cleaner[1])
    for _ in range(2):  # No line and no call sees the state of the one before.
        assert_close(generic_filter1d(noisy, filter_, filter_size=1, axis=1), expected, "forward")
    assert_close(generic_filter1d(noisy.T.copy(), filter_, filter_size=1, axis=0), expected.T, "forward")
    assert_close(c_callbacks.by_ctypes(*cleaner, noisy[:3]), expected[:3], "forward")
    error = float(np.mean((expected - clean) ** 2))
    assert error < 0.5 * np.mean((noisy - clean) ** 2)
    assert error < min(c_callbacks.smoothing_error(noisy, clean, rate) for rate in np.linspace(0.05, 1, 20))


def test_smoothing() -> None:
    noisy, clean = np.array([[1.0, 3.0]]), np.array([[1.0, 1.0]])
    assert c_callbacks.smoothing_error(noisy, clean, 0.5) == 0.5  # 1, 2 against 1, 1


PROGRAM = """
typedef void (*step_t)(const void *, const double *, double *, double *);

void run(step_t step, const void *handle, const double *x, int steps, int inputs, double *state, double *y)
{
    for (int t = 0; t < steps; t++)
        step(handle, x + t * inputs, state, y);
}
"""


def test_called_by_a_program_in_c(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    source, library = tmp_path / "run.c", tmp_path / "run.so"
    source.write_text(PROGRAM)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    rnn = ln.GRU(3, 6, 2, seed=0, dtype="float64")
    step, x = kernels.CStep(rnn), np.random.default_rng(0).standard_normal((9, 3))
    state, y = np.zeros(step.state_shape), np.empty(6)
    pointer = ctypes.c_void_p
    ctypes.CDLL(str(library)).run(
        pointer(step.address), step.handle, pointer(x.ctypes.data), 9, 3, pointer(state.ctypes.data),
        pointer(y.ctypes.data),
    )  # fmt: skip
    expected, final = rnn(x[:, None])
    assert_close(y, expected[-1, 0], "forward")
    assert_close(state[0], final, "forward")


def test_c_step_takes_arrays_and_pointers() -> None:
    rnn = ln.make_layer("gru-reset-before", 2, 5, 2, seed=0, dtype="float64")
    step = kernels.CStep(rnn, 3)
    cell, zero, numbers = step.cell, step.zero, types.CPointer(types.float64)

    @cfunc(types.void(types.voidptr, numbers, numbers, numbers, types.int64))
    def run(handle, x, state, y, steps):  # type: ignore[no-untyped-def]
        samples, memory = carray(x, (steps, 3, 2)), carray(state, 64)
        for t in range(steps):
            kernels.c_step(cell, zero, handle, samples[t], memory, y)

    x = np.random.default_rng(0).standard_normal((4, 3, 2))
    state, y = np.zeros(64), np.empty((3, 5))
    pointer = ctypes.POINTER(ctypes.c_double)
    run.ctypes(step.handle, *(array.ctypes.data_as(pointer) for array in (x, state, y)), 4)
    assert_close(y, rnn(x)[0][-1], "forward")
