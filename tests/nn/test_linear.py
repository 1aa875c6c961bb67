"""Linear layer: its formulas, given arrays, what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

from lstm_numba.nn.linear import Linear

DTYPES = [np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 1, 1), (3, 5, 2), (20, 17, 300)])
def test_linear_matches_formulas(dtype: Any, rows: int, inputs: int, outputs: int) -> None:
    rng = np.random.default_rng(0)
    layer = Linear(inputs, outputs, dtype=dtype, rng=rng)
    x = rng.standard_normal((rows, inputs)).astype(dtype)
    dy = rng.standard_normal((rows, outputs)).astype(dtype)
    weight, bias = (layer.params[name].astype(np.float64) for name in ("weight", "bias"))
    assert_close(layer.forward(x), x.astype(np.float64) @ weight.T + bias, "product", "y")
    dx, grads = layer.backward(x, dy)
    assert_close(dx, dy.astype(np.float64) @ weight, "product", "dx")
    assert_close(grads["weight"], dy.T.astype(np.float64) @ x, "product", "weight")
    assert_close(grads["bias"], dy.sum(axis=0, dtype=np.float64), "product", "bias")
    assert layer.backward(x, dy, need_dx=False)[0] is None


def test_linear_writes_to_given_arrays_and_works_without_bias() -> None:
    layer = Linear(3, 2, bias=False, rng=np.random.default_rng(0))
    x = np.ones((4, 3), np.float32)
    out = np.full((4, 2), 9, np.float32)
    assert layer.forward(x, out=out) is out
    np.testing.assert_allclose(out[0], layer.params["weight"].sum(axis=1), rtol=1e-6)
    gradient = np.empty((2, 3), np.float32)
    _, grads = layer.backward(x, np.ones((4, 2), np.float32), out={"weight": gradient})
    assert grads.keys() == {"weight"}
    assert grads["weight"] is gradient
    np.testing.assert_array_equal(gradient, 4)


def test_linear_names_what_does_not_fit() -> None:
    layer = Linear(3, 2)
    with pytest.raises(ValueError, match=r"x: expected shape \(N, 3\), got \(4, 2\)"):
        layer.forward(np.zeros((4, 2), np.float32))
    with pytest.raises(TypeError, match="x: expected dtype float32, got float64"):
        layer.forward(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="dy: expected 4 rows, got 5"):
        layer.backward(np.zeros((4, 3), np.float32), np.zeros((5, 2), np.float32))
