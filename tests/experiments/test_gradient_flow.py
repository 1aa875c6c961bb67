"""What is measured of a small network, against the reference; what the claims say of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

from lstm_numba import reference
from lstm_numba.data import first_symbol
from lstm_numba.errors import UserError
from lstm_numba.experiments import gradient_flow as experiment
from lstm_numba.experiments.flow import Theory
from lstm_numba.experiments.gradient_flow import Found, Measured, Part


def part(cell: str, gain: float = 1.0) -> Part:
    return Part(cell, gain, (7,), 8, 32, 3, "cpu")


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_gradients_of_the_loss(cell: str) -> None:
    """Central differences of the mean cross-entropy by the reference, three steps before the end."""
    model = experiment._network(part(cell), 7)
    x, labels = first_symbol.draw(1, 9, 5)
    found, accuracy = experiment.loss_gradients(model, x, labels)
    weight, bias = model.output.params["weight"], model.output.params["bias"]
    params = model.rnn.state_dict()
    zeros = [np.zeros((1, 5, 8)) for _ in found]
    _, states = reference.run(cell, params, x[:6], zeros)

    def loss(states: Any) -> tuple[float, Any]:
        _, finals = reference.run(cell, params, x[6:], states)
        logits = finals[0][0] @ weight.T + bias
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return float(-logits[np.arange(5), labels].mean()), logits

    assert accuracy == np.mean(loss(states)[1].argmax(axis=1) == labels)
    for n, gradient in enumerate(found.values()):
        expected = np.zeros((5, 8))
        for place in np.ndindex(5, 8):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [state.copy() for state in states]
                moved[n][0][place] += step
                ends.append(loss(moved)[0])
            expected[place] = (ends[0] - ends[1]) / 2e-5
        assert_close(gradient[3], expected, "central differences")


def test_what_is_measured() -> None:
    model = experiment._network(part("rnn"), 7)
    found = experiment.measure(model, 7, 32)
    x, labels = first_symbol.draw(7, 32, 64)
    gradients, accuracy = experiment.loss_gradients(model, x, labels)
    norms = [np.sqrt(np.mean(np.sum(gradient**2, axis=1))) for gradient in gradients["h"]]
    assert found.distances == list(range(33))
    assert found.norms["h"] == pytest.approx([norm / norms[0] for norm in norms], rel=1e-12)
    slope = np.polyfit(np.arange(8, 25), np.log(norms[8:25]), 1)[0]
    assert found.rates["h"] == pytest.approx(np.exp(slope), rel=1e-12)
    assert found.accuracy == accuracy


def test_the_gain_is_that_of_the_recurrent_weights() -> None:
    plain = experiment._network(part("rnn"), 7).params
    scaled = experiment._network(part("rnn", 2.5), 7).params
    for name, array in plain.items():
        factor = 2.5 if name == "rnn.weight_hh_l0" else 1.0
        assert np.array_equal(scaled[name], factor * array)


def test_a_loss_without_a_gradient() -> None:
    model = experiment._network(part("rnn"), 7)
    model.params["output.weight"][...] = 0.0
    found = experiment.measure(model, 7, 32)
    assert found.rates == {"h": None}
    assert found.norms["h"] == [0.0] * 33


@pytest.mark.parametrize(("steps", "hidden", "name"), [(36, 8, "steps"), (24, 8, "steps"), (32, 6, "hidden")])
def test_sizes(steps: int, hidden: int, name: str) -> None:
    with pytest.raises(UserError, match=f"^{name}: expected a multiple of "):
        experiment.run(steps=steps, hidden=hidden)


def found(rates: list[float | None], trained: list[float | None], theory: Theory, gated: bool) -> Found:
    """Of two seeds; the theory is that of the start."""

    def measured(rate: float | None, known: Theory) -> Measured:
        return Measured([0, 1], {"h": [1.0, rate]}, {"h": rate}, known, 1.0)

    return Found(
        "h",
        gated,
        [measured(rate, theory) for rate in rates],
        [measured(rate, Theory(0.5, 0.95)) for rate in trained],
    )


GOOD = {
    "rnn": found([0.5, 0.6], [0.2, 0.7], Theory(1.0, 0.55), False),
    "rnn-relu, R x 4": found([1.2, 1.1], [0.5, None], Theory(2.0, 1.1), False),
    "gru": found([0.62, 0.7], [0.9, 0.99], Theory(0.64, 0.65), True),
}


def held(**changes: Found) -> list[bool]:
    """Whether each claim held, with other findings for some networks."""
    named = {"rnn": "rnn", "gru": "gru", "scaled": "rnn-relu, R x 4"}
    return [c.held for c in experiment.claims(GOOD | {named[key]: value for key, value in changes.items()})]


def test_claims_that_hold_and_do_not() -> None:
    # Further at the start; mean of the gates before and after, product before and after; vanishes; explodes;
    # further after training; all of the last three.
    assert held() == [True, True, False, True, True, True, True, True, True]
    far = found([0.5, 0.6], [0.2, 0.7], Theory(1.0, 0.8), False)
    assert held(rnn=far)[-4:] == [False, True, True, False]
    above_the_bound = found([0.5, 0.6], [0.2, 0.7], Theory(0.55, 0.55), False)
    assert held(rnn=above_the_bound)[-4:] == [False, True, True, False]
    grows = found([1.01, 1.05], [0.2, 0.7], Theory(2.0, 1.0), False)
    assert held(rnn=grows)[-4:] == [False, True, True, False]
    one_shrinks = found([1.2, 0.99], [0.5, 0.5], Theory(2.0, 1.1), False)
    assert held(scaled=one_shrinks)[-4:] == [True, False, True, False]
    forgets = found([0.62, 0.7], [0.99, 0.69], Theory(0.64, 0.65), True)
    assert held(gru=forgets) == [True, True, False, True, True, True, True, False, False]
    lost = found([0.59, 0.7], [0.9, None], Theory(0.4, 0.3), True)
    assert held(gru=lost) == [False, False, False, False, True, True, True, False, False]


def test_claims_say_the_numbers() -> None:
    last = experiment.claims(GOOD)[-1].because
    for number in (
        "rnn 0.548 per step, radius 0.550, bound 1.000",
        "rnn-relu, R x 4 1.149",
        "gru 0.900",
        "rnn 0.700",
    ):
        assert number in last


def test_a_tanh_that_does_not_explode_is_said_by_itself() -> None:
    claims = experiment.claims({**GOOD, "rnn, R x 4": found([1.2, 0.8], [0.5, 0.5], Theory(2.0, 1.1), False)})
    (tanh,) = [claim for claim in claims if claim.text == "at the start the gradient of rnn, R x 4 explodes"]
    assert not tanh.held
    assert claims[-1].held
    assert "rnn, R x 4" not in claims[-1].because


def test_without_gated_cells_and_gain() -> None:
    (vanishes, last) = experiment.claims({"rnn": GOOD["rnn"]})
    assert vanishes.held
    assert last.text == "a plain RNN's gradient vanishes at about the rate that theory predicts"


def test_rows_are_geometric_means() -> None:
    (row,) = experiment._rows("gru", GOOD["gru"])
    assert row["rate"] == pytest.approx(np.sqrt(0.62 * 0.7))
    assert row["trained rate"] == pytest.approx(np.sqrt(0.9 * 0.99))
    assert (row["theory"], row["refined"], row["trained refined"]) == pytest.approx((0.64, 0.65, 0.95))
    (row,) = experiment._rows("rnn-relu, R x 4", GOOD["rnn-relu, R x 4"])
    assert row["trained rate"] == pytest.approx(0.5)
