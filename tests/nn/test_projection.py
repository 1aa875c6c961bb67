"""`proj_size`: an LSTM whose output is projected, however the threads share the work."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import own_cells
import pytest
from recurrent_problems import Case, Problem, unpack
from scipy.special import expit

import lstm_numba as ln
from lstm_numba import reference
from lstm_numba.engines.dropout_masks import draw_mask
from lstm_numba.nn.layers import make_layer

#: The projection is smaller than a vector, a whole number of vectors, and about as large as the hidden units.
CASES = [
    (Case(5, 3, 4, 9, lengths=(5, 0, 3)), 1),
    (Case(4, 3, 3, 41, 2, True, (4, 2, 3)), 16),
    (Case(3, 40, 20, 34), 33),
]
WITH_CASE = pytest.mark.parametrize(("case", "proj_size"), CASES, ids=["1 of 9", "16 of 41", "33 of 34"])


def problem_of(case: Case, proj_size: int, **options: Any) -> Problem:
    return Problem("lstm-projected", case, np.float64, proj_size=proj_size, **options)


@WITH_CASE
@pytest.mark.processor
def test_output_and_states_against_the_reference(case: Case, proj_size: int, plan: str) -> None:
    problem = problem_of(case, proj_size)
    y, finals = problem.run()
    expected, states = reference.run(
        "lstm-projected", problem.layer.params, problem.x, problem.states, num_layers=case.layers,
        bidirectional=case.bidirectional, lengths=case.lengths,
    )  # fmt: skip
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-12)
    for final, state in zip(finals, states, strict=True):
        np.testing.assert_allclose(final, state, rtol=1e-11, atol=1e-12)


@WITH_CASE
def test_every_gradient_against_central_differences(case: Case, proj_size: int, plan: str) -> None:
    problem = problem_of(case, proj_size)
    gradients, rng = problem.gradients(), np.random.default_rng(1)
    for key, array in problem.variables().items():
        assert gradients[key].shape == array.shape
        direction = rng.standard_normal(array.shape)
        kept, losses = array.copy(), []
        for step in (1e-5, -1e-5):
            array[...] = kept + step * direction
            losses.append(problem.loss())
        array[...] = kept
        expected = (losses[0] - losses[1]) / 2e-5
        np.testing.assert_allclose(np.vdot(gradients[key], direction), expected, rtol=2e-7, atol=2e-7)


def test_by_hand() -> None:
    """Sak et al. 2014: m = o tanh(c), h = W_hr m."""
    layer = ln.LSTM(2, 3, proj_size=2, seed=0, dtype=np.float64)
    p = {name.removesuffix("_l0"): array for name, array in layer.params.items()}
    x = np.random.default_rng(0).standard_normal((4, 1, 2))
    h, c = np.zeros(2), np.zeros(3)
    y, (last_h, last_c) = layer(x)
    for t in range(4):
        z = p["weight_ih"] @ x[t, 0] + p["bias_ih"] + p["weight_hh"] @ h + p["bias_hh"]
        i, f, g, o = np.split(z, 4)
        c = expit(f) * c + expit(i) * np.tanh(g)
        h = p["weight_hr"] @ (expit(o) * np.tanh(c))
        np.testing.assert_allclose(y[t, 0], h, rtol=1e-12)
    np.testing.assert_allclose(last_h[0, 0], h, rtol=1e-12)
    np.testing.assert_allclose(last_c[0, 0], c, rtol=1e-12)


def test_masks_have_the_sizes_of_their_states() -> None:
    problem = problem_of(Case(5, 3, 4, 9, lengths=(5, 2, 3)), 5, zoneout=(0.2, 0.4), recurrent_dropout=0.3)
    layer, resets = problem.layer, np.random.default_rng(0).random((5, 3)) < 0.3

    def forward() -> Any:
        layer.rng = np.random.default_rng(3)
        return layer.forward(problem.x, tuple(problem.states), problem.case.lengths, resets)

    def loss() -> float:
        y, finals, _ = forward()
        return float(np.vdot(y, problem.dy) + sum(map(np.vdot, finals, problem.dstates)))

    forward()
    drawn = np.random.default_rng(3)
    for size, p in (((5, 3, 5), 0.2), ((5, 3, 9), 0.4), ((1, 3, 5), 0.3)):
        draw_mask(drawn, size, p, np.float64)
    assert layer.rng.random() == drawn.random()  # so many numbers were drawn
    dx, dstate, grads = layer.backward(forward()[2], problem.dy, tuple(problem.dstates))
    found = {"x": dx, "state 0": dstate[0], "state 1": dstate[1], **grads}
    rng = np.random.default_rng(1)
    for key, array in problem.variables().items():
        direction, kept, losses = rng.standard_normal(array.shape), array.copy(), []
        for step in (1e-5, -1e-5):
            array[...] = kept + step * direction
            losses.append(loss())
        array[...] = kept
        expected = (losses[0] - losses[1]) / 2e-5
        np.testing.assert_allclose(np.vdot(found[key], direction), expected, rtol=2e-7, atol=2e-7)


def test_shapes_copies_and_names() -> None:
    layer = ln.LSTM(3, 9, 2, proj_size=5, bidirectional=True, batch_first=True)
    shapes = {name: array.shape for name, array in layer.params.items()}
    assert (shapes["weight_ih_l0"], shapes["weight_ih_l1_reverse"]) == ((36, 3), (36, 10))
    assert (shapes["weight_hh_l1"], shapes["weight_hr_l0_reverse"]) == ((36, 5), (5, 9))
    assert [state.shape for state in unpack(layer.zero_state(7))] == [(4, 7, 5), (4, 7, 9)]
    y, state, tape = layer.forward(np.ones((7, 2, 3), np.float32))
    assert (y.shape, [s.shape for s in state]) == ((7, 2, 10), [(4, 7, 5), (4, 7, 9)])
    dx, _, _ = layer.backward(tape, y)
    assert dx.shape == (7, 2, 3)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(other(np.ones((7, 2, 3), np.float32))[0], y)
    assert "proj_size=5" in repr(layer)
    assert "proj_size" not in repr(ln.LSTM(3, 9))
    assert make_layer("lstm", 3, 9, proj_size=5).output_size == 5


@pytest.mark.parametrize("init", ["xavier", "orthogonal"])
def test_initial_weights(init: str) -> None:
    layer = ln.LSTM(3, 9, proj_size=5, init=init, seed=0, dtype=np.float64)
    projection, recurrent = layer.params["weight_hr_l0"], layer.params["weight_hh_l0"]
    if init == "orthogonal":
        np.testing.assert_allclose(projection @ projection.T, np.eye(5), atol=1e-12)
        for gate in np.split(recurrent, 4):
            np.testing.assert_allclose(gate.T @ gate, np.eye(5), atol=1e-12)
    else:
        bound = np.sqrt(6 / 14)
        assert 0.8 * bound < np.abs(projection).max() <= bound
        assert 0.8 * bound < np.abs(recurrent).max() <= bound


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"proj_size": 9}, "proj_size: expected less than the 9 hidden units, got 9"),
        ({"proj_size": -1}, "proj_size: expected an integer >= 1, got -1"),
        ({"proj_size": 2.0}, "proj_size: expected an integer, got float"),
        ({"proj_size": 3, "heads": 3}, "heads: expected 1 beside weight_hr, got 3"),
    ],
)
def test_what_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        ln.LSTM(3, 9, **options)
    with pytest.raises(ValueError, match="proj_size: expected 0, GRUCell has no projection"):
        ln.GRU(3, 9, proj_size=2)
    layer = ln.LSTM(3, 9, proj_size=2)
    with pytest.raises(TypeError, match=r"needs weight_hr, which layers have"):
        ln.kernels.plain(layer)
    with pytest.raises(ValueError, match="reset_to: expected zeros beside proj_size"):
        layer(np.ones((1, 2, 3), np.float32), None, None, np.ones((1, 2), bool), "initial")
    with pytest.raises(ValueError, match=r"state: expected shape \(1, 2, 2\), got \(1, 2, 9\)"):
        layer(np.ones((1, 2, 3), np.float32), (np.ones((1, 2, 9), np.float32),) * 2)


def test_h_has_no_gradient_beyond_its_units() -> None:
    """A cell in which units of h meet those of c, which has more."""

    layer_class = ln.register_cell(own_cells.HAndCTogether)
    ln.check_gradients(layer_class)
    layer = layer_class(2, 3, proj_size=2, zoneout=0.3)
    assert layer.params["weight_mr_l0"].shape == (2, 3)
