"""Layer-normalised cells against plain NumPy, written from the paper, however the threads share the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from recurrent_problems import Case, Problem, unpack
from scipy.special import expit

import lstm_numba as ln
from lstm_numba.cells import Phase, Product, exp

Array = np.ndarray

CASES = [
    Case(5, 3, 4, 17, lengths=(5, 0, 3)),
    Case(4, 13, 3, 24, bidirectional=True),
]


def norm(a: Array) -> Array:
    """Ba et al. 2016, eq. 15, without gain and bias."""
    return (a - a.mean(axis=-1, keepdims=True)) / np.sqrt(a.var(axis=-1, keepdims=True) + 1e-5)


def lstm_step(p: dict[str, Array], x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """Eq. 20 to 22: one norm over the four gates of each product, one of c."""
    v = p["weight_ph"].reshape(14, -1)
    z = v[:4].ravel() * norm(p["weight_ih"] @ x) + v[4:8].ravel() * norm(p["weight_hh"] @ h) + v[8:12].ravel()
    i, f, g, o = np.split(z, 4)
    c = expit(f) * c + expit(i) * np.tanh(g)
    return expit(o) * np.tanh(v[12] * norm(c) + v[13]), c


def gru_step(p: dict[str, Array], x: Array, h: Array) -> tuple[Array]:
    """Eq. 23 to 25: one norm over the two gates of each product, one of each for the candidate."""
    v, n = p["weight_ph"].reshape(10, -1), len(h)
    wx, wh = p["weight_ih"] @ x, p["weight_hh"] @ h
    gates = v[:2].ravel() * norm(wx[: 2 * n]) + v[3:5].ravel() * norm(wh[: 2 * n]) + v[6:8].ravel()
    r, z = np.split(expit(gates), 2)
    candidate = np.tanh(v[2] * norm(wx[2 * n :]) + v[8] + r * (v[5] * norm(wh[2 * n :]) + v[9]))
    return ((1 - z) * candidate + z * h,)


STEPS: dict[str, Callable[..., tuple[Array, ...]]] = {
    "layer-norm-lstm": lstm_step,
    "layer-norm-gru": gru_step,
}


def by_hand(problem: Problem) -> tuple[Array, list[Array]]:
    """Output and final states, one sequence and step after the other."""
    case, layer = problem.case, problem.layer
    y = np.zeros((case.steps, case.batch, layer.directions * case.hidden))
    finals = [state.copy() for state in problem.states]
    for direction in range(layer.directions):
        end = "_l0_reverse" if direction else "_l0"
        p = {n.removesuffix(end): a for n, a in layer.params.items() if n.endswith(end)}
        columns = slice(direction * case.hidden, (direction + 1) * case.hidden)
        for b in range(case.batch):
            current = tuple(state[direction, b] for state in problem.states)
            times = range(case.lengths[b] if case.lengths else case.steps)
            for t in reversed(times) if direction else times:
                current = STEPS[problem.name](p, problem.x[t, b], *current)
                y[t, b, columns] = current[0]
            for final, value in zip(finals, current, strict=True):
                final[direction, b] = value
    return y, finals


def with_random_vectors(problem: Problem) -> Problem:
    """Gains and shifts that are not 1 and 0."""
    for name, array in problem.layer.params.items():
        if "weight_ph" in name:
            array[...] = np.random.default_rng(0).normal(0.5, 0.5, array.shape)
    return problem


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(
    "name", ["layer-norm-lstm", pytest.param("layer-norm-gru", marks=pytest.mark.processor)]
)
def test_output_and_states_are_the_papers(name: str, case: Case, plan: str) -> None:
    problem = with_random_vectors(Problem(name, case, np.float64))
    y, finals = problem.run()
    expected, states = by_hand(problem)
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-12)
    for final, state in zip(finals, states, strict=True):
        np.testing.assert_allclose(final, state, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", STEPS)
def test_every_gradient_against_central_differences(name: str, case: Case, plan: str) -> None:
    problem = with_random_vectors(Problem(name, case, np.float64))
    gradients, rng = problem.gradients(), np.random.default_rng(1)
    for key, array in problem.variables().items():
        direction = rng.standard_normal(array.shape)
        kept, losses = array.copy(), []
        for step in (1e-5, -1e-5, 5e-6, -5e-6):
            array[...] = kept + step * direction
            losses.append(problem.loss())
        array[...] = kept
        coarse, fine = (losses[0] - losses[1]) / 2e-5, (losses[2] - losses[3]) / 1e-5
        expected = (4 * fine - coarse) / 3
        np.testing.assert_allclose(np.vdot(gradients[key], direction), expected, rtol=2e-7, atol=2e-7)


@pytest.mark.parametrize("name", STEPS)
def test_scaled_and_shifted_products_are_the_same(name: str) -> None:
    """Ba et al. 2016, section 5.1: invariant to the scale of the weights and to a shift of them all."""
    problem = Problem(name, CASES[0], np.float64)
    y, _ = problem.run()
    shift = np.random.default_rng(2).standard_normal(problem.case.inputs)
    for array in problem.layer.params.values():
        if array.shape[-1] == problem.case.inputs:
            array += shift  # of all gates
        if array.ndim == 2:
            array *= 1000  # ε is nothing beside the variance
    problem.layer.params["weight_ih_l0"] /= 1000
    scaled, _ = problem.run()
    assert np.abs(scaled - y).max() < 1e-3 < np.abs(y).max()


def test_parameters_and_what_is_refused() -> None:
    layer = ln.LayerNormLSTM(3, 5, 2, bidirectional=True)
    assert set(layer.params) == {
        f"{name}_l{n}{end}"
        for name in ("weight_ih", "weight_hh", "weight_ph")
        for n in (0, 1)
        for end in ("", "_reverse")
    }
    gains, shifts = np.split(layer.params["weight_ph_l1"], [40])
    assert (gains == 1).all()
    np.testing.assert_array_equal(shifts, np.repeat([0, 0, 0, 0, 1, 0], 5))
    assert set(np.unique(ln.LayerNormGRU(3, 5).params["weight_ph_l0"])) == {0, 1}
    with pytest.raises(ValueError, match="proj_size"):
        ln.LayerNormLSTM(3, 5, proj_size=2)


def test_a_stream_is_the_layer() -> None:
    layer = ln.LayerNormLSTM(3, 21, 2, seed=0)
    x = np.random.default_rng(0).standard_normal((6, 4, 3)).astype(np.float32)
    y, state = layer(x)
    stream = ln.Stream(layer, batch=4)
    steps = np.array([np.array(stream.step(one)) for one in x])
    np.testing.assert_allclose(steps, y, rtol=2e-6, atol=2e-6)
    for got, expected in zip(unpack(stream.state), unpack(state), strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6)


def test_heads_are_normalised_each_by_itself() -> None:
    layer = ln.LayerNormGRU(3, 8, seed=0, dtype=np.float64, heads=2)
    x = np.random.default_rng(0).standard_normal((5, 2, 3))

    def loss(x: Array) -> float:
        layer.rng = np.random.default_rng(7)
        y, _, _ = layer.forward(x)
        return float(np.square(y).sum() / 2)

    layer.rng = np.random.default_rng(7)
    y, _, tape = layer.forward(x)
    dx, _, _ = layer.backward(tape, y)
    direction = np.random.default_rng(1).standard_normal(x.shape)
    expected = (loss(x + 1e-6 * direction) - loss(x - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(np.vdot(dx, direction), expected, rtol=1e-6)


def test_means_are_of_the_hidden_units_only() -> None:
    """What the vectors hold beside them counts nowhere, even if it is not zero."""

    @ln.register_cell
    class Shares:
        states, means = ("h",), ("total",)

        def first(self, z: Any, v: Any) -> dict[str, Any]:
            return {"total": exp(z.a)}

        def second(self, z: Any, v: Any) -> dict[str, Any]:
            return {"h": exp(z.a) / v.total}

        products = (Product("weight_ih", "x", ("a",)), Product("weight_hh", "h", ("a",)))
        phases = (Phase(products, first), Phase((), second))

    layer = Shares(3, 5, seed=0, dtype=np.float64)
    x, h = np.random.default_rng(0).standard_normal((4, 1, 3)), np.zeros(5)
    w, r, b, c = layer.params.values()
    for t, found in enumerate(layer(x)[0]):
        z = np.exp(w @ x[t, 0] + r @ h + b + c)
        h = z / z.mean()
        np.testing.assert_allclose(found[0], h, rtol=1e-12)
