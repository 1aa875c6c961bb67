"""Which gate decides what is kept: read from equations, checked by what the cell does."""

from __future__ import annotations

import numpy as np
import own_cells
import pytest

import lstm_numba as ln
from lstm_numba.cells import BUILT_IN, find_cell, sigmoid, tanh
from lstm_numba.cells.registration import make_cell
from lstm_numba.examples.janet import JANET
from lstm_numba.traces.keeping import keeping

EXPECTED = {
    "rnn": None, "rnn-relu": None, "lstm": "f", "coupled": "f", "peephole": "f", "peephole-full": "f",
    "use-gate": "f", "slstm": "f", "gru": "z", "gru-reset-before": "z", "layer-norm-lstm": "f",
    "layer-norm-gru": "z",
}  # fmt: skip


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_librarys_cells(name: str) -> None:
    found = keeping(find_cell(name))
    assert (None if found is None else str(found)) == EXPECTED[name]


def test_cells_of_ones_own() -> None:
    assert str(keeping(JANET.cell)) == "f"
    assert str(keeping(own_cells.CoupledPeepholes.cell)) == "f"
    found = keeping(own_cells.MinimalGatedUnit.cell)  # h = (1 - f) h + f g
    assert found is not None
    assert found.inverted
    assert str(found) == "1 − f"


class Hidden:
    """The state is kept by a product of two gates, which is none of them."""

    gates = ("a", "b", "g")
    states = ("h",)

    def forward(self, z, v):  # type: ignore[no-untyped-def]
        """The new state."""
        return {"h": sigmoid(z.a) * sigmoid(z.b) * v.h + tanh(z.g)}


class Subtracted:
    """The state times a gate is taken away."""

    gates = ("f", "g")
    states = ("h",)

    def forward(self, z, v):  # type: ignore[no-untyped-def]
        """The new state."""
        return {"h": tanh(z.g) - sigmoid(z.f) * v.h}


@pytest.mark.parametrize("plain", [Hidden, Subtracted])
def test_no_single_gate(plain: type) -> None:
    assert keeping(make_cell(plain, f"tests:{plain.__name__}")) is None


@pytest.mark.parametrize(("name", "rest"), [("lstm", "i g"), ("gru", "1-z n")])
def test_that_is_what_the_cell_does(name: str, rest: str) -> None:
    layer = ln.make_layer(name, 3, 4, dtype=np.float64, seed=0)
    found = keeping(layer.plain_cell)
    assert found is not None
    values = layer.trace(np.random.default_rng(0).standard_normal((6, 2, 3))).of()
    state, kept = values[found.state], values[found.gate]
    written = values["i"] * values["g"] if rest == "i g" else (1 - values["z"]) * values["n"]
    np.testing.assert_allclose(state[1:], kept[1:] * state[:-1] + written[1:], atol=1e-12)
