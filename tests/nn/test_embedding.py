"""Embedding: rows looked up, gradients of repeated tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

from lstm_numba.nn.embedding import Embedding

DTYPES = [np.float32, np.float64]


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
