"""Layers to export and import, and how two of them are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

from lstm_numba.interop.state_dict import cell_name
from lstm_numba.nn.layers import make_layer
from lstm_numba.nn.recurrent import Recurrent

KERAS = ("lstm", "gru", "gru-reset-before", "rnn", "rnn-relu")


FORMS = pytest.mark.parametrize(
    ("layers", "both", "bias"), [(1, False, True), (2, True, True), (3, False, False), (1, True, False)]
)


def layer(name: str, layers: int = 1, both: bool = False, bias: bool = True, **more: Any) -> Recurrent:
    """A layer of odd sizes, with zeros of both signs among its weights."""
    rnn = make_layer(name, 3, 5, layers, bidirectional=both, bias=bias, seed=4, **more)
    for array in rnn.params.values():
        array.flat[0], array.flat[1] = 0.0, -0.0
    return rnn


def assert_same(actual: Recurrent, expected: Recurrent) -> None:
    """The same cell, sizes and bits."""
    assert cell_name(actual) == cell_name(expected)
    assert actual.dtype == expected.dtype
    assert actual.params.keys() == expected.params.keys()
    for name, array in expected.params.items():
        assert actual.params[name].tobytes() == array.tobytes(), name


def random_input(rnn: Recurrent, steps: int = 6, batch: int = 4) -> tuple[Any, list[Any]]:
    """Input and initial states."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((batch, steps, 3) if rnn.batch_first else (steps, batch, 3))
    shape = (rnn.num_layers * rnn.directions, batch, 5)
    return x.astype(rnn.dtype), [rng.standard_normal(shape).astype(rnn.dtype) for _ in rnn.cell.states]


def call(rnn: Recurrent, x: Any, states: list[Any], lengths: Any = None) -> list[Any]:
    """Output and final states in one list."""
    y, final = rnn(x, tuple(states) if len(states) > 1 else states[0], lengths)
    return [y, *final] if isinstance(final, tuple) else [y, final]


def compare(actual: list[Any], expected: list[Any]) -> None:
    """Outputs and final states."""
    for name, a, e in zip(("y", "h", "c"), actual, expected, strict=False):
        assert_close(a, e, "forward", name)
