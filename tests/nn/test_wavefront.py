"""Stacked layers in chunks of time give the same bits as one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_numba.nn.layers import make_layer


@pytest.mark.parametrize("chunks", [2, 3, 50])
@pytest.mark.parametrize("name", ["lstm", "gru-reset-before", "lstm-projected"])
def test_same_bits(name: str, chunks: int, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"proj_size": 3} if name == "lstm-projected" else {}
    layer = make_layer(name.removesuffix("-projected"), 2, 5, 3, device=backend, seed=1, **options)
    monkeypatch.setattr(layer, "_prepared_calls", None)
    if chunks > 2:  # of fewer than three steps, which run in the general kernel anyway
        monkeypatch.setenv("LSTM_NUMBA_CUDA_KERNEL", "general")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((7, 2, 2)).astype(np.float32)
    _, state, _ = layer.forward(x)
    expected, expected_state = layer(x, state)
    asked: list[Any] = []

    def count(*args: Any) -> int:
        asked.append(args)
        return chunks

    monkeypatch.setattr(layer.engine, "wavefront", count, raising=False)
    y, final = layer(x, state)
    ((_, layers, steps, shape, dtype),) = asked
    assert (layers, steps, shape, dtype) == (3, 7, (2, 5, options.get("proj_size", 5)), np.float32)
    np.testing.assert_array_equal(y, expected)
    for got, truth in zip(final, expected_state, strict=True):
        np.testing.assert_array_equal(got, truth)
    # From zeros, too; and with lengths the layers run one after the other.
    np.testing.assert_array_equal(layer(x)[0], layer.forward(x)[0])
    layer(x, lengths=[7, 3])
    layer.forward(x)
    assert len(asked) == 2
