"""Every cell through the layers: forward against the reference, backward against central differences."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import own_cells
import pytest
from backends import simulated
from recurrent_problems import DISTINCT, Case, Problem, central_differences, host, pack, unpack
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import reference
from lstm_numba.nn.layers import make_layer

DTYPES = ("float32", "float64")
#: The library's cells, and one that a user registered.
NAMES = DISTINCT + own_cells.VARIED[-1:]
#: The same; some are compiled for other processors too: with one product and with two, with peepholes.
EVERY_NAME = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.processor] * (name in ("lstm", "gru-reset-before", "peephole")))
        for name in NAMES
    ],
)


CASES = [
    Case(1, 1, 1, 1),
    Case(5, 3, 4, 17),
    Case(4, 5, 3, 9, 2, True, (4, 0, 2, 1, 3)),
    Case(3, 40, 70, 65, 1, True),
    Case(6, 13, 5, 32, 3, False, tuple(range(6)) + (6,) * 7, False),
]


@pytest.mark.parametrize("dtype", DTYPES)
@EVERY_NAME
def test_forward_against_reference(name: str, dtype: str, plan: str) -> None:
    for case in CASES:
        problem = Problem(name, case, dtype)
        expected_y, expected_states = reference.run(
            name, problem.layer.params, problem.x, problem.states,
            num_layers=case.layers, bidirectional=case.bidirectional, lengths=case.lengths,
        )  # fmt: skip
        kept_y, kept_state, _ = problem.layer.forward(problem.x, problem.pack(problem.states), case.lengths)
        for kind, (y, states) in {
            "inference": problem.run(),
            "forward": (kept_y, unpack(kept_state)),
        }.items():
            assert_close(y, expected_y, "forward", f"y ({kind}, {case})")
            for n, (got, truth) in enumerate(zip(states, expected_states, strict=True)):
                assert_close(got, truth, "forward", f"state {n} ({kind}, {case})")


GRADIENT_CASES = [
    Case(3, 3, 2, 2, 2, True, (3, 0, 2)),
    Case(4, 2, 2, 3),
]


@EVERY_NAME
def test_every_gradient_against_central_differences(name: str, plan: str) -> None:
    for case in GRADIENT_CASES:
        problem = Problem(name, case, np.float64)
        gradients = problem.gradients()
        variables = problem.variables()
        assert gradients.keys() == variables.keys()
        for key, array in variables.items():
            slopes = central_differences(problem, array)
            assert_close(gradients[key], slopes, "central differences", f"d{key} ({case})")


@EVERY_NAME
def test_wide_gradients_along_random_directions(name: str, plan: str) -> None:
    """Sizes beyond a tile and a vector, where trying every number would take too long."""
    rng = np.random.default_rng(0)
    for case in CASES:
        problem = Problem(name, case, np.float64)
        gradients = problem.gradients()
        for key, array in problem.variables().items():
            direction = rng.standard_normal(array.shape)
            direction /= np.linalg.norm(direction)
            exact = float(np.vdot(gradients[key], direction))
            slope = slope_along(problem, array, direction)
            assert_close([exact], [slope], "central differences", f"d{key} ({case})", dtype=np.float64)


def slope_along(problem: Problem, array: np.ndarray, direction: np.ndarray, step: float = 1e-5) -> float:
    """Derivative of the loss along a direction in which an array moves."""
    kept = array.copy()
    array += step * direction
    high = problem.loss()
    array[...] = kept - step * direction
    low = problem.loss()
    array[...] = kept
    return (high - low) / (2 * step)


@EVERY_NAME
def test_single_precision_gradients_against_double(name: str, plan: str) -> None:
    for case in CASES:
        single, double = Problem(name, case, np.float32), Problem(name, case, np.float64)
        for key, value in double.variables().items():
            value[...] = single.variables()[key]
        double.dy[...] = single.dy
        for target, source in zip(double.dstates, single.dstates, strict=True):
            target[...] = source
        expected = double.gradients()
        for key, value in single.gradients().items():
            assert_close(value, expected[key], "backward", f"d{key} ({case})")


def test_dropout_gradients_with_the_masks_of_a_seed() -> None:
    problem = Problem("lstm", Case(3, 2, 3, 4, 3, True), np.float64, dropout=0.4)
    layer = problem.layer

    def loss() -> float:
        layer.rng = np.random.default_rng(11)
        y, state, _ = layer.forward(problem.x, problem.pack(problem.states))
        pairs = [(y, problem.dy), *zip(unpack(state), problem.dstates, strict=True)]
        return float(sum(np.vdot(a, b) for a, b in pairs))

    problem.loss = loss  # type: ignore[method-assign]
    layer.rng = np.random.default_rng(11)
    gradients = problem.gradients()
    for key in ("x", "weight_ih_l0", "weight_ih_l1", "weight_hh_l2_reverse", "bias_hh_l1_reverse", "state 1"):
        slopes = central_differences(problem, problem.variables()[key])
        assert_close(gradients[key], slopes, "central differences", f"d{key}")


def test_dropout_only_in_training_and_only_between_layers() -> None:
    layer = ln.GRU(3, 40, 2, dropout=0.5, seed=0)
    plain = ln.GRU(3, 40, 2, seed=0)
    x = np.ones((4, 50, 3), np.float32)
    expected, _ = plain(x)
    np.testing.assert_array_equal(layer(x)[0], expected)
    np.testing.assert_array_equal(layer.forward(x, training=False)[0], expected)
    layer.rng = np.random.default_rng(1)
    _, state, tape = layer.forward(x)
    mask = tape.masks[1]
    assert tape.masks[0] is None
    assert mask is not None
    assert set(np.unique(mask)) == {0.0, 2.0}
    assert abs(np.mean(mask == 0) - 0.5) < 0.02
    np.testing.assert_array_equal(state[0], plain(x)[1][0])  # the first layer saw no mask


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(threads)


@pytest.mark.parametrize("name", DISTINCT)
def test_one_thread_agrees_and_repeats_to_the_bit(name: str, one_thread: None) -> None:
    problem = Problem(name, CASES[3], np.float32)
    first, again = problem.gradients(), problem.gradients()
    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
    shared, repeated = problem.gradients(), problem.gradients()
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key])
        np.testing.assert_array_equal(shared[key], repeated[key])
        assert_close(shared[key], value, "backward", f"d{key}")


#: Steps, sequences, inputs and units that the simulator, which takes a thread at a time, is done with soon.
_FEW = (2, 2, 3, 3) if simulated() else (3, 4, 3, 18)


@pytest.mark.parametrize("reads", ["output", "state"])
def test_what_is_not_given_is_zero(reads: str, backend: str) -> None:
    steps, batch, inputs, hidden = _FEW
    for name in ("lstm", "gru-reset-before"):
        layer = make_layer(name, inputs, hidden, 2, bidirectional=True, seed=1, device=backend)
        rng = np.random.default_rng(2)
        x = rng.standard_normal((steps, batch, inputs)).astype(np.float32)
        zeros = [np.zeros((4, batch, hidden), np.float32) for _ in layer.cell.states]
        y, state, tape = layer.forward(x)
        y2, state2, tape2 = layer.forward(x, pack(zeros))
        np.testing.assert_array_equal(y, y2)
        np.testing.assert_array_equal(unpack(state), unpack(state2))
        np.testing.assert_array_equal(layer(x)[0], layer(x, pack(zeros))[0])
        if reads == "output":
            dy, given = rng.standard_normal(y.shape).astype(np.float32), None
            full = (dy, pack(zeros))
        else:
            dy = None
            given = pack([rng.standard_normal(z.shape).astype(np.float32) for z in zeros])
            full = (np.zeros_like(y), given)
        dx, dstate, grads = layer.backward(tape, dy, given)
        dx2, dstate2, grads2 = layer.backward(tape2, *full)
        np.testing.assert_array_equal(dx, dx2)
        np.testing.assert_array_equal(unpack(dstate), unpack(dstate2))
        for key, value in grads.items():
            np.testing.assert_array_equal(host(layer, value), host(layer, grads2[key]), err_msg=key)


@pytest.mark.parametrize("batch_first", [False, True])
def test_the_inputs_gradient_may_be_left_out(batch_first: bool, backend: str) -> None:
    steps, batch, inputs, hidden = _FEW
    options = {"bidirectional": True, "seed": 1, "batch_first": batch_first, "device": backend}
    layer = ln.PeepholeLSTM(inputs, hidden, 2, **options)
    shape = (batch, steps, inputs) if batch_first else (steps, batch, inputs)
    x = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    results = []
    for wanted in (True, False):
        y, _, tape = layer.forward(x)
        results.append(layer.backward(tape, np.ones_like(y), input_gradient=wanted))
    (dx, dstate, grads), (nothing, dstate2, grads2) = results
    assert dx.shape == x.shape
    assert nothing is None
    np.testing.assert_array_equal(unpack(dstate), unpack(dstate2))
    for key, value in grads.items():
        np.testing.assert_array_equal(host(layer, value), host(layer, grads2[key]), err_msg=key)


def test_padding_may_hold_anything(backend: str) -> None:
    """What is stored beyond a sequence's end changes neither outputs nor gradients."""
    for name in DISTINCT if simulated() else NAMES:
        case = CASES[2]._replace(hidden=3, layers=1) if simulated() else CASES[2]
        problem = Problem(name, case, np.float64, device=backend)
        y, states = problem.run()
        clean = problem.gradients()
        beyond = np.arange(4)[:, None] >= np.array(problem.case.lengths)
        assert np.all(y[beyond] == 0)
        problem.x[beyond] = 1e6
        problem.dy[beyond] = 1e6
        again, states2 = problem.run()
        np.testing.assert_array_equal(again, y)
        np.testing.assert_array_equal(states2[0], states[0])
        for key, value in problem.gradients().items():
            np.testing.assert_array_equal(value, clean[key], err_msg=f"{name} d{key}")


def test_state_carries_a_sequence_across_calls(backend: str) -> None:
    hidden = 4 if simulated() else 20
    for name in DISTINCT:
        layer = make_layer(name, 3, hidden, 2, dtype=np.float64, seed=0, device=backend)
        x = np.random.default_rng(1).standard_normal((9, 2, 3))
        whole, final = layer(x)
        first, state = layer(x[:4])
        second, end = layer(x[4:], state)
        assert_close(np.concatenate([first, second]), whole, "forward", name)
        assert_close(np.stack(unpack(end)), np.stack(unpack(final)), "forward", name)


def test_a_nan_in_one_sequence_shows_there_and_only_there(backend: str) -> None:
    layer = ln.LSTM(3, 20, seed=0, device=backend)
    x = np.zeros((5, 6, 3), np.float32)
    x[2, 4] = np.nan
    y, _ = layer(x)
    assert np.isnan(y[2:, 4]).all()
    assert np.isfinite(y[:2]).all()
    assert np.isfinite(np.delete(y, 4, axis=1)).all()
