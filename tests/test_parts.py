"""Linear layer, embedding and dropout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

from lstm_numba.dropout import draw_mask
from lstm_numba.embedding import Embedding, SparseRows
from lstm_numba.engines import engine
from lstm_numba.linear import Linear, column_sums

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


@pytest.mark.parametrize("columns", [1, 255, 256, 257, 1000])
def test_column_sums(columns: int) -> None:
    matrix = np.random.default_rng(1).standard_normal((33, columns)).astype(np.float32)
    assert_close(column_sums(matrix), matrix.sum(axis=0, dtype=np.float64), "product", "sums")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [1, 7, 130])
def test_embedding_looks_up_and_sums_repeated_tokens(dtype: Any, dim: int) -> None:
    rng = np.random.default_rng(2)
    layer = Embedding(11, dim, dtype=dtype, rng=rng)
    ids = rng.integers(0, 11, (6, 5)).astype(np.int32)
    ids[:, 0] = 3  # at least one token occurs often
    np.testing.assert_array_equal(layer.forward(ids), layer.params["weight"][ids])
    dy = rng.standard_normal((6, 5, dim)).astype(dtype)
    sparse = layer.backward(ids, dy)
    one_hot = np.eye(11)[ids.reshape(-1)]
    assert_close(sparse.to_dense(), one_hot.T @ dy.reshape(-1, dim).astype(np.float64), "product", "table")
    np.testing.assert_array_equal(sparse.indices, np.unique(ids))


def test_embedding_refuses_tokens_outside_the_table() -> None:
    layer = Embedding(4, 2)
    for wrong in (-1, 4):
        with pytest.raises(ValueError, match=f"ids: expected values from 0 to 3, got {wrong}"):
            layer.forward(np.array([[0, wrong]]))
    with pytest.raises(TypeError, match="ids: expected integers, got float64"):
        layer.forward(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"dy: expected shape \(2, 1, 2\), got \(2, 1, 3\)"):
        layer.backward(np.zeros((2, 1), int), np.zeros((2, 1, 3), np.float32))


def test_sparse_rows_add_to_a_matrix() -> None:
    rows = SparseRows(np.array([1, 3]), np.array([[1.0, 2.0], [3.0, 4.0]]), (4, 2))
    dense = np.ones((4, 2))
    engine("cpu").add_rows(rows, dense)
    np.testing.assert_array_equal(dense, [[1, 1], [2, 3], [1, 1], [4, 5]])


def test_dropout_masks() -> None:
    shape = (200, 500)
    mask = draw_mask(np.random.default_rng(0), shape, 0.3)
    assert set(np.unique(mask)) == {np.float32(0), np.float32(1 / 0.7)}
    # The mean is 1; its standard deviation is sqrt(p / (1 - p) / n).
    assert abs(mask.mean(dtype=np.float64) - 1) < 5 * np.sqrt(0.3 / 0.7 / mask.size)
    again = draw_mask(np.random.default_rng(0), shape, 0.3, np.float64)
    np.testing.assert_array_equal(again > 0, mask > 0)  # both precisions drop the same units
    np.testing.assert_array_equal(draw_mask(np.random.default_rng(0), (3, 3), 0.0), 1)
    for wrong in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match="dropout: expected a probability"):
            draw_mask(np.random.default_rng(0), (2,), wrong)
