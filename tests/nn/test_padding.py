"""What stands past a sequence's end does not count, even where it is not a number."""

from __future__ import annotations

from typing import Any

import numpy as np
import own_cells
import pytest
from backends import simulated
from recurrent_problems import Case, Problem, host, unpack

import lstm_numba as ln
from lstm_numba.models import SequenceBatch, SequenceClassifier
from lstm_numba.nn.layers import CELL_NAMES, make_layer

#: Peepholes; two stages with an extra slot, two states and a peephole.
_ODD = ("peephole", own_cells.VARIED[-1])
_CASE = Case(4, 5, 3, 9, 2, True, (4, 0, 2, 1, 3))


def _everything(problem: Problem) -> dict[str, np.ndarray]:
    """Values and gradients, of forward and of a call."""
    called, state = problem.run()
    lengths, states = problem.case.lengths, problem.pack(problem.states)
    y, final, tape = problem.layer.forward(problem.x, states, lengths)
    dx, dstate, grads = problem.layer.backward(tape, problem.dy, problem.pack(problem.dstates))
    found = {"called": called, "y": y, "dx": dx}
    for name, arrays in (("called state", state), ("state", unpack(final)), ("dstate", unpack(dstate))):
        found |= {f"{name} {n}": array for n, array in enumerate(arrays)}
    return found | {name: host(problem.layer, grad) for name, grad in grads.items()}


@pytest.mark.parametrize("name", CELL_NAMES + own_cells.VARIED[-1:])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.filterwarnings("ignore:invalid value")  # of the simulator's Python
def test_padding_does_not_count(name: str, batch_first: bool, backend: str) -> None:
    if backend == "cuda" and simulated() and (name not in _ODD or batch_first):
        pytest.skip("slow in the simulator")
    problem = Problem(name, _CASE, np.float64, batch_first=batch_first, device=backend)
    beyond = np.arange(_CASE.steps)[:, None] >= np.array(_CASE.lengths)
    if batch_first:
        problem.x, problem.dy = (array.swapaxes(0, 1).copy() for array in (problem.x, problem.dy))
        beyond = beyond.T
    problem.x[beyond] = problem.dy[beyond] = 0
    expected = _everything(problem)
    assert all(np.isfinite(array).all() for array in expected.values())
    assert np.abs(expected["weight_ih_l0"]).max() > 0.01
    assert not expected["dx"][beyond].any()
    for x, dy in ((np.nan, np.nan), (np.inf, -np.inf), (1e300, np.nan)):
        problem.x[beyond], problem.dy[beyond] = x, dy
        for what, array in _everything(problem).items():
            np.testing.assert_array_equal(array, expected[what], what)


def test_gradient_beside_padding_is_that_without_it(backend: str) -> None:
    x = np.array([1, np.nan], np.float32).reshape(2, 1, 1)
    rnn = ln.RNN(1, 1, seed=0, device=backend)
    grads = []
    for lengths, given in (([1], x), (None, x[:1])):
        y, _, tape = rnn.forward(given, lengths=lengths)
        grads.append(host(rnn, rnn.backward(tape, np.ones_like(y))[2]["weight_ih_l0"]).item())
    h = np.tanh(sum(float(host(rnn, rnn.params[n]).item()) for n in rnn.params if n != "weight_hh_l0"))
    assert grads == [pytest.approx(1 - h * h, rel=1e-6)] * 2
    assert grads[0] == pytest.approx(0.14748272, rel=1e-6)


def test_sequences_of_no_step_give_their_state_back() -> None:
    rnn = make_layer("gru", 2, 3, seed=0)
    x, h = np.full((3, 2, 2), np.nan, np.float32), np.ones((1, 2, 3), np.float32)
    y, final, tape = rnn.forward(x, h, [0, 0])
    assert not y.any()
    np.testing.assert_array_equal(final, h)
    dx, dh, grads = rnn.backward(tape, np.full_like(y, np.nan), h)
    assert not dx.any()
    np.testing.assert_array_equal(dh, h)
    assert not any(grad.any() for grad in grads.values())


def test_classifier_does_not_see_padding(backend: str) -> None:
    model: Any = SequenceClassifier(3, 4, 2, dropout=0.5, layers=2, seed=0, device=backend)
    lengths = np.array([2, 4, 1])
    x = np.random.default_rng(0).standard_normal((4, 3, 3)).astype(np.float32)
    start, found = model.rng_state(), []
    for value in (0, np.nan):
        x[np.arange(4)[:, None] >= lengths] = value
        model.set_rng_state(start)
        result = model.loss_and_gradients(SequenceBatch(x, np.array([0, 1, 1]), lengths))
        found.append((result.objective, {n: host(model.rnn, g) for n, g in result.grads.items()}))
    assert found[0][0] == found[1][0]
    for name, grad in found[0][1].items():
        assert np.isfinite(grad).all()
        np.testing.assert_array_equal(grad, found[1][1][name], name)
