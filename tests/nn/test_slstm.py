"""sLSTM beside the paper's equations without a stabiliser, and heads, of this cell and of others."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import own_cells
import pytest
from recurrent_problems import Case, Problem, central_differences, pack, unpack
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import kernels, reference
from lstm_numba.errors import WeightsError
from lstm_numba.interop.state_dict import cell_name
from lstm_numba.nn.layers import make_layer

Array = np.ndarray[Any, Any]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def unstabilised(x: Array, h: Array, c: Array, n: Array, p: dict[str, Array]) -> tuple[Array, Array, Array]:
    """Equations 8 to 14 of the paper for one head, with dense matrices: c and n as they are."""
    z = x @ p["weight_ih"].T + p["bias_ih"] + h @ p["weight_hh"].T + p["bias_hh"]
    i, f, g, o = np.split(z, 4, axis=1)
    c = sigmoid(f) * c + np.exp(i) * np.tanh(g)
    n = sigmoid(f) * n + np.exp(i)
    return sigmoid(o) * c / n, c, n


def expected(problem: Problem, heads: int) -> tuple[Array, list[Array]]:
    """Outputs, and final h, c, n without the factor, by a loop over everything."""
    case, params = problem.case, problem.layer.params
    first = [problem.states[0], *(s * np.exp(problem.states[3]) for s in problem.states[1:3])]
    finals = [s.copy() for s in first]
    lengths = case.lengths or (case.steps,) * case.batch
    y, width = problem.x, case.hidden // heads
    for layer in range(case.layers):
        out = np.zeros((case.steps, case.batch, problem.layer.directions * case.hidden))
        for direction in range(problem.layer.directions):
            index = layer * problem.layer.directions + direction
            end = f"_l{layer}" + "_reverse" * direction
            for b, head in np.ndindex(case.batch, heads):
                rows, units = (
                    slice(4 * width * head, 4 * width * (head + 1)),
                    slice(width * head, width * (head + 1)),
                )
                own = {
                    name: params[name + end][rows]
                    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                }
                state = [s[index, b : b + 1, units] for s in first]
                times = range(lengths[b])
                for t in reversed(times) if direction else times:
                    state = list(unstabilised(y[t, b : b + 1], *state, own))
                    out[t, b, direction * case.hidden :][units] = state[0]
                for final, value in zip(finals, state, strict=True):
                    final[index, b, units] = value
        y = out
    return y, finals


def slstm(case: Case, heads: int, dtype: Any = np.float64) -> Problem:
    problem = Problem("slstm", case, dtype, heads=heads)
    problem.states[2][...] = 1 + np.abs(problem.states[2])  # a normaliser is a sum of positive numbers
    return problem


CASES = [Case(5, 3, 4, 20), Case(4, 3, 2, 8, 2, True, (4, 0, 2))]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("heads", [1, 4])
def test_outputs_and_states_of_the_equations_without_stabiliser(heads: int, case: Case) -> None:
    problem = slstm(case, heads)
    y, finals = expected(problem, heads)
    kept = problem.layer.forward(problem.x, pack(problem.states), case.lengths)
    by_reference = reference.run(
        "slstm", problem.layer.params, problem.x, problem.states,
        num_layers=case.layers, bidirectional=case.bidirectional, lengths=case.lengths, heads=heads,
    )  # fmt: skip
    for found, state in (problem.run(), (kept[0], unpack(kept[1])), by_reference):
        assert_close(found, y, "forward", "y")
        h, c, n, m = state
        for name, value, truth in (
            ("h", h, finals[0]),
            ("c", c * np.exp(m), finals[1]),
            ("n", n * np.exp(m), finals[2]),
        ):
            assert_close(value, truth, "forward", name)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("case", [Case(4, 2, 2, 4, 2, True, (4, 1)), Case(3, 2, 3, 4)])
def test_every_gradient_against_central_differences(case: Case, heads: int) -> None:
    """Of a loss that weights y and all of the final h, c, n and m."""
    problem = slstm(case, heads)
    gradients, variables = problem.gradients(), problem.variables()
    assert gradients.keys() == variables.keys()
    for key, array in variables.items():
        assert_close(gradients[key], central_differences(problem, array), "central differences", f"d{key}")


def test_states_begin_at_zero_and_large_gates_do_not_overflow() -> None:
    """The output of float32 where exp(z_i) is beyond it, and the gradients, beside float64's."""
    single, double = slstm(Case(6, 3, 2, 5), 1, np.float32), slstm(Case(6, 3, 2, 5), 1)
    for problem in (single, double):
        for name, value in problem.layer.params.items():
            value[...] = single.layer.params[name]
        problem.layer.params["bias_ih_l0"][:5] = 100
        problem.x[...] = 10 * single.x if problem is double else single.x
        problem.dy[...] = single.dy
    single.x *= 10
    found = []
    for problem in (single, double):
        y, state, tape = problem.layer.forward(problem.x)
        dx, dstate, grads = problem.layer.backward(tape, problem.dy)
        found.append([y, *unpack(state), dx, *unpack(dstate), *grads.values()])
    for got, truth in zip(*found, strict=True):
        assert np.isfinite(got).all()
        assert_close(got, truth, "backward")


def test_nothing_divided_by_nothing_is_zero() -> None:
    """An input gate so far below the forget gate that n stays 0."""
    layer = ln.SLSTM(1, 3, seed=0)
    for value in layer.params.values():
        value[...] = 0
    layer.params["bias_ih_l0"][:3] = -1000
    layer.params["bias_ih_l0"][6:9] = 1
    y, state, tape = layer.forward(np.ones((3, 2, 1), np.float32))
    assert not y.any()
    assert not state[2].any()
    dx, dstate, grads = layer.backward(tape, np.ones_like(y))
    for value in (dx, *dstate, *grads.values()):
        assert np.isfinite(value).all()


# -- heads of any cell --------------------------------------------------------------------------------

HEADED = ("lstm", "peephole", "gru-reset-before", *own_cells.VARIED[:1])


@pytest.mark.parametrize("name", HEADED)
def test_heads_are_recurrences_of_their_own(name: str) -> None:
    """Each head is a layer of its rows, its units of the states and its columns of the output."""
    case = Case(4, 3, 5, 6, 1, True, (4, 0, 3))
    problem = Problem(name, case, np.float64, heads=2)
    y, state, tape = problem.layer.forward(problem.x, pack(problem.states), case.lengths)
    dx, dstate, grads = problem.layer.backward(tape, problem.dy, pack(problem.dstates))
    total = np.zeros_like(dx)
    for head in range(2):
        units = slice(3 * head, 3 * head + 3)
        own = make_layer(name, 5, 3, bidirectional=True, dtype=np.float64)
        assert problem.layer.params["weight_hh_l0"].shape == (2 * own.params["weight_hh_l0"].shape[0], 3)
        own.load_state_dict({key: np.split(value, 2)[head] for key, value in problem.layer.params.items()})
        columns = [np.split(array, 2, axis=2) for array in (y, problem.dy)]
        own_y, own_state, own_tape = own.forward(
            problem.x, pack([s[..., units] for s in problem.states]), case.lengths
        )
        own_dy = np.concatenate([part[..., units] for part in columns[1]], axis=2)
        own_dx, own_dstate, own_grads = own.backward(
            own_tape, own_dy, pack([s[..., units] for s in problem.dstates])
        )
        total += own_dx
        np.testing.assert_array_equal(np.concatenate([p[..., units] for p in columns[0]], axis=2), own_y)
        for all_heads, one in ((state, own_state), (dstate, own_dstate)):
            for array, part in zip(unpack(all_heads), unpack(one), strict=True):
                np.testing.assert_array_equal(array[..., units], part)
        for key, value in own_grads.items():
            np.testing.assert_array_equal(np.split(grads[key], 2)[head], value)
    assert_close(dx, total, "backward", "dx")


def test_heads_of_stacked_layers_against_central_differences() -> None:
    problem = Problem("peephole", Case(3, 2, 2, 4, 2, True, (3, 1)), np.float64, heads=2, weight_drop=0.3)

    def seeded() -> None:
        problem.layer.rng = np.random.default_rng(4)

    def loss() -> float:
        seeded()
        y, state, _ = problem.layer.forward(problem.x, pack(problem.states), problem.case.lengths)
        pairs = [(y, problem.dy), *zip(unpack(state), problem.dstates, strict=True)]
        return float(sum(np.vdot(a, b) for a, b in pairs))

    problem.loss = loss  # type: ignore[method-assign]
    seeded()
    gradients = problem.gradients()
    for key, array in problem.variables().items():
        assert_close(gradients[key], central_differences(problem, array), "central differences", f"d{key}")


@pytest.mark.parametrize("name", HEADED)
def test_a_stream_of_several_heads(name: str) -> None:
    layer = make_layer(name, 3, 6, 2, heads=3, dtype=np.float64, seed=1)
    x = np.random.default_rng(2).standard_normal((4, 1, 3))
    stream = ln.Stream(layer)
    stepped = np.array([stream.step(row).copy() for row in x])
    assert_close(stepped, layer(x)[0], "forward")


def test_copies_and_changed_parameters_of_several_heads() -> None:
    layer = ln.LSTM(3, 4, heads=2, seed=0)
    x = np.ones((3, 2, 3), np.float32)
    first, _ = layer(x)
    twin = pickle.loads(pickle.dumps(layer))
    layer.params["weight_hh_l0"] *= 3  # in place
    changed, _ = layer(x)
    assert not np.allclose(changed, first)
    np.testing.assert_array_equal(twin(x)[0], first)
    layer.params["weight_hh_l0"] = twin.params["weight_hh_l0"]  # and by another array
    np.testing.assert_array_equal(layer(x)[0], first)


def test_initial_weights_are_those_of_each_head() -> None:
    layer = ln.SLSTM(3, 8, heads=2, init="orthogonal", dtype=np.float64, seed=0)
    for block in np.split(layer.params["weight_hh_l0"], 2 * 4):
        assert_close(block @ block.T, np.eye(4), "forward")


def test_what_knows_no_heads_says_so() -> None:
    with pytest.raises(ValueError, match="heads: expected a divisor of the 6 hidden units, got 4"):
        ln.LSTM(3, 6, heads=4)
    layer = ln.LSTM(3, 6, heads=2)
    assert "heads=2" in repr(layer)
    with pytest.raises(ValueError, match="heads: expected 1, kernels read the weights of one head, got 2"):
        kernels.plain(layer)
    with pytest.raises(WeightsError, match="rnn: expected one head, which all formats have, got heads=2"):
        cell_name(layer)
    layer.params["weight_hh_l0"] = np.zeros((25, 3), np.float32)
    with pytest.raises(ValueError, match=r"weight_hh_l0: expected shape \(24, 3\)"):
        layer(np.zeros((2, 2, 3), np.float32))
