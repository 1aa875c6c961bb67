"""Gradients of states between steps against central differences of the reference; theory, where exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tolerances import assert_close

from lstm_numba import make_layer, reference
from lstm_numba.experiments import flow
from lstm_numba.nn.recurrent import Recurrent

Array = npt.NDArray[np.float64]

T, B, INPUTS, H = 16, 2, 3, 8


def layer(cell: str, **options: Any) -> Recurrent:
    return make_layer(cell, INPUTS, H, dtype=np.float64, seed=3, **options)


def inputs(steps: int = T) -> Array:
    return np.random.default_rng(4).standard_normal((steps, B, INPUTS))


def arrays(state: Any) -> list[Array]:
    return [np.array(a) for a in (state if isinstance(state, tuple) else (state,))]


def by_differences(rnn: Recurrent, cell: str, x: Array, weight: Array, distance: int) -> dict[str, Array]:
    """Gradient of sum(weight * last h) with respect to the states `distance` steps before the end."""

    def go(states: list[Array], steps: Array) -> list[Array]:
        if cell == "clockwork":  # which the reference has not: the layer itself, from a common multiple on
            return arrays(rnn(steps, states[0])[1]) if len(steps) else states
        _, finals = reference.run(cell, rnn.state_dict(), steps, states)
        return [np.array(a) for a in finals]

    before = go(arrays(rnn.zero_state(B)), x[: len(x) - distance])
    found = {}
    for n, name in enumerate(rnn.plain_cell.states):
        gradient = np.zeros((B, H))
        for place in np.ndindex(B, H):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [array.copy() for array in before]
                moved[n][0][place] += step
                ends.append(float(np.sum(weight * go(moved, x[len(x) - distance :])[0][0])))
            gradient[place] = (ends[0] - ends[1]) / 2e-5
        found[name] = gradient
    return found


def check(cell: str, distances: tuple[int, ...]) -> None:
    rnn, x = layer(cell), inputs()
    weight = np.random.default_rng(5).standard_normal((B, H))
    state, tapes = flow.run_in_steps(rnn, x)
    assert_close(arrays(state)[0], arrays(rnn(x)[1])[0], "forward")
    found = flow.state_gradients(rnn, tapes, weight)
    assert np.array_equal(found["h"][0], weight)
    for distance in distances:
        expected = by_differences(rnn, cell, x, weight, distance)
        for name, gradient in expected.items():
            at = found[name][distance // flow.stride_of(rnn)]
            assert_close(at, gradient, "central differences", f"{cell}: d{name} at {distance}")


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_gradients_between_steps(cell: str) -> None:
    check(cell, (1, 5))


def test_gradients_between_steps_of_a_clockwork_rnn() -> None:
    check("clockwork", (8, 16))


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["rnn-relu", "coupled", "peephole", "peephole-full", "use-gate", "slstm"])
def test_gradients_between_steps_of_other_cells(cell: str) -> None:
    check(cell, (3,))


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["gru-reset-before", "layer-norm-lstm", "layer-norm-gru"])
def test_gradients_between_steps_of_cells_with_two_products(cell: str) -> None:
    check(cell, (3,))


def test_the_last_gradient_is_that_of_one_call() -> None:
    rnn, x = layer("lstm"), inputs()
    weight = np.random.default_rng(5).standard_normal((B, H))
    found = flow.state_gradients(rnn, flow.run_in_steps(rnn, x)[1], weight)
    _, _, tape = rnn.forward(x)
    _, initial, _ = rnn.backward(tape, None, (weight[None], np.zeros((1, B, H))))
    assert_close(found["h"][T], initial[0][0], "backward")
    assert_close(found["c"][T], initial[1][0], "backward")


@pytest.mark.smoke
def test_norms_and_rates() -> None:
    gradients = np.array([[[3.0, 4.0], [0.0, 0.0]], [[0.0, 1.0], [1.0, 2.0]]])
    assert flow.norms(gradients) == pytest.approx([np.sqrt(12.5), np.sqrt(3.0)])
    distances = np.array([8, 16, 24])
    assert flow.rate(distances, 5.0 * 0.7**distances) == pytest.approx(0.7, rel=1e-12)
    assert flow.rate(distances, np.array([1.0, 0.0, 0.25])) == pytest.approx(0.25 ** (1 / 16), rel=1e-12)
    assert flow.rate(distances, np.array([1.0, 0.0, 0.0])) is None


def measured(rnn: Recurrent, x: Array, dh: Array, ends: int) -> tuple[float, flow.Theory]:
    """Rate of the carried state, between the first and last steps, and theory."""
    gradients = flow.state_gradients(rnn, flow.run_in_steps(rnn, x)[1], dh)
    known = flow.theory(rnn, x, gradients, ends)
    assert known is not None
    stride = flow.stride_of(rnn)
    distances = stride * np.arange(len(x) // stride + 1)
    kept = (distances >= ends) & (distances <= len(x) - ends)
    values = flow.norms(gradients[flow.memory_of(rnn)])
    found = flow.rate(distances[kept], values[kept])
    assert found is not None
    return found, known


def test_theory_is_exact_for_a_linear_rnn() -> None:
    """A relu whose units are all active, and R with known singular values and eigenvalues."""
    rnn, rng = layer("rnn-relu"), np.random.default_rng(6)
    q = np.linalg.qr(rng.standard_normal((H, H)))[0]
    rnn.params["weight_hh_l0"][...] = 0.8 * np.eye(H)
    rnn.params["weight_ih_l0"][...] = 0.0
    rnn.params["bias_ih_l0"][...], rnn.params["bias_hh_l0"][...] = 1.0, 0.0
    rate, known = measured(rnn, inputs(), rng.standard_normal((B, H)), 2)
    assert (rate, *known) == pytest.approx((0.8, 0.8, 0.8), rel=1e-12)
    # A matrix that is not normal: its largest singular value is above its spectral radius.
    rnn.params["weight_hh_l0"][...] = np.abs(q) @ np.diag([0.3] * 7 + [0.05]) @ np.abs(q)
    weight = rnn.params["weight_hh_l0"]
    rate, known = measured(rnn, inputs(64), rng.standard_normal((B, H)), 16)
    assert known.simple == pytest.approx(np.linalg.svd(weight)[1][0], rel=1e-12)
    assert known.refined == pytest.approx(np.abs(np.linalg.eigvals(weight)).max(), rel=1e-12)
    assert rate == pytest.approx(known.refined, rel=1e-6)
    assert rate < known.simple


def test_slopes_of_a_plain_rnn() -> None:
    rnn, x = layer("rnn"), inputs()
    h = np.array(rnn(x)[0])[3 : T - 3]
    weight, slopes = rnn.params["weight_hh_l0"], 1.0 - h**2
    _, known = measured(rnn, x, np.ones((B, H)), 3)
    assert known.simple == pytest.approx(np.linalg.svd(weight)[1][0] * slopes.mean(), rel=1e-12)
    jacobian = np.diag(slopes.mean(axis=(0, 1))) @ weight
    assert known.refined == pytest.approx(np.abs(np.linalg.eigvals(jacobian)).max(), rel=1e-9)


@pytest.mark.parametrize(("cell", "block"), [("lstm", 1), ("gru", 1)])
def test_theory_is_exact_where_nothing_comes_back_but_through_the_gate(cell: str, block: int) -> None:
    """No recurrent weights, so the gates are those of their biases: 0.3, or 0.9 in half of the units."""
    rnn = layer(cell)
    rnn.params["weight_hh_l0"][...] = 0.0
    rnn.params["weight_ih_l0"][...] = 0.0
    gate = np.array([0.3] * 4 + [0.9] * 4)
    rnn.params["bias_ih_l0"][block * H : (block + 1) * H] = np.log(gate / (1 - gate))
    rnn.params["bias_hh_l0"][...] = 0.0
    dh = np.tile(np.array([1.0] * 4 + [0.0] * 4), (B, 1))
    rate, known = measured(rnn, inputs(), dh, 2)
    assert known.simple == pytest.approx(np.sqrt(0.3 * 0.9), rel=1e-12)
    assert (rate, known.refined) == pytest.approx((0.3, 0.3), rel=1e-12)
    rate, known = measured(rnn, inputs(64), np.ones((B, H)), 16)
    assert (rate, known.refined) == pytest.approx((0.9, 0.9), rel=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_product_of_gates_that_differ_from_step_to_step(cell: str) -> None:
    """Without recurrent weights it is all there is, so that measured and predicted rates are the same."""
    rnn = layer(cell)
    rnn.params["weight_hh_l0"][...] = 0.0
    x = inputs() * np.linspace(0.0, 4.0, T)[:, None, None]
    rate, known = measured(rnn, x, np.random.default_rng(6).standard_normal((B, H)), 2)
    assert known.refined == pytest.approx(rate, rel=1e-10)
    gates = np.array(rnn.trace(x)["f_l0" if cell == "lstm" else "z_l0"])[2 : T - 2]
    assert known.simple == pytest.approx(np.exp(np.mean(np.log(gates))), rel=1e-12)
    assert gates.std(axis=0).min() > 0.05


def test_a_clockwork_rnn_keeps_what_its_slowest_group_keeps() -> None:
    rnn = layer("clockwork")
    for name, array in rnn.params.items():
        array[...] = 0.0
        if name.startswith("weight_hh"):
            array[...] = 0.5 * np.eye(H // 4)
    for group, period in enumerate((1, 2, 4, 8)):
        dh = np.zeros((B, H))
        dh[:, 2 * group : 2 * group + 2] = 1.0
        rate, known = measured(rnn, np.zeros((64, B, INPUTS)), dh, 8)
        assert rate == pytest.approx(0.5 ** (1 / period), rel=1e-12)
        assert known == pytest.approx((0.5 ** (1 / 8), 0.5 ** (1 / 8)), rel=1e-12)
