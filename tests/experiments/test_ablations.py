"""LSTMs with a part taken away: forward against plain NumPy and against a whole LSTM, gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import reference
from lstm_numba.cells import CELLS, load_cell
from lstm_numba.experiments.ablations import ABLATIONS

Array = np.ndarray[Any, Any]
INPUTS, UNITS, STEPS, BATCH = 3, 5, 6, 2


def same(value: Array) -> Array:
    return value


#: Gates in the order of the weights' row blocks; what stands for i, f, o where there is no such gate, and the
#: two activations.
PARTS: dict[str, tuple[str, Callable[[Array], Array], Callable[[Array], Array]]] = {
    "no-input-gate": ("fgo", np.tanh, np.tanh),
    "no-forget-gate": ("igo", np.tanh, np.tanh),
    "no-output-gate": ("ifg", np.tanh, np.tanh),
    "no-input-act": ("ifgo", same, np.tanh),
    "no-output-act": ("ifgo", np.tanh, same),
}
#: Those whose kernels are compiled unless all slow tests are asked for.
FIRST = ("no-forget-gate", "no-input-act")
COMPILED = [name if name in FIRST else pytest.param(name, marks=pytest.mark.slow) for name in PARTS]


def by_hand(name: str, params: dict[str, Array], x: Array) -> tuple[Array, Array, Array]:
    """Output, and final h and c, from the equations of the paper."""
    gates, inner, outer = PARTS[name]
    h, c = np.zeros((2, x.shape[1], UNITS))
    outputs = []
    for step in x:
        z = step @ params["weight_ih_l0"].T + params["bias_ih_l0"]
        z = z + h @ params["weight_hh_l0"].T + params["bias_hh_l0"]
        parts = {gate: z[:, n * UNITS : (n + 1) * UNITS] for n, gate in enumerate(gates)}
        i, f, o = (expit(parts[gate]) if gate in parts else np.ones_like(h) for gate in "ifo")
        c = f * c + i * inner(parts["g"])
        h = o * outer(c)
        outputs.append(h)
    return np.array(outputs), h, c


def problem(name: str) -> tuple[Any, dict[str, Array], Array]:
    """A layer in float64, its parameters, large enough to tell activations apart, and an input."""
    layer = ln.make_layer(ABLATIONS[name], INPUTS, UNITS, dtype=np.float64, seed=3)
    for value in layer.params.values():
        value *= 3
    return layer, layer.params, np.random.default_rng(4).standard_normal((STEPS, BATCH, INPUTS))


@pytest.mark.parametrize("name", PARTS)
def test_equations_are_those_of_the_paper(name: str) -> None:
    _, params, x = problem(name)
    states = [np.zeros((1, BATCH, UNITS))] * 2
    y, final = reference.run(ABLATIONS[name], params, x, states)
    for got, truth in zip((y, final[0][0], final[1][0]), by_hand(name, params, x), strict=True):
        assert_close(got, truth, "forward")


@pytest.mark.parametrize(
    ("name", "gate"), [(f"no-{word}-gate", word[0]) for word in ("input", "forget", "output")]
)
def test_a_gate_that_is_gone_is_an_open_one(name: str, gate: str) -> None:
    """The built-in LSTM with that gate's weights at zero and a bias that opens it."""
    _, params, x = problem(name)
    own, whole = PARTS[name][0], {}
    for key, value in params.items():
        blocks = dict(zip(own, np.split(value, len(own)), strict=True))
        blocks[gate] = np.full_like(blocks["g"], 50.0 if key == "bias_ih_l0" else 0.0)
        whole[key] = np.concatenate([blocks[one] for one in "ifgo"])
    states = [np.zeros((1, BATCH, UNITS))] * 2
    expected, _ = reference.run("lstm", whole, x, states)
    assert_close(by_hand(name, params, x)[0], expected, "forward")
    assert_close(reference.run(ABLATIONS[name], params, x, states)[0], expected, "forward")


@pytest.mark.parametrize("name", COMPILED)
def test_kernels_and_gradients(name: str) -> None:
    layer, params, x = problem(name)
    assert_close(layer(x)[0], by_hand(name, params, x)[0], "forward")
    ln.check_gradients(ABLATIONS[name])


def test_other_processes_find_them_by_name() -> None:
    assert list(ABLATIONS) == list(PARTS)
    for key in ABLATIONS.values():
        assert key.startswith("lstm_numba.experiments.ablations:No")
        assert type(load_cell(key)) is type(CELLS[key])
