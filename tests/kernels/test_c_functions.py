"""A layer's step as a C function."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import kernels, reference

pytestmark = pytest.mark.processor


def test_a_projected_layer_steps() -> None:
    rnn = ln.LSTM(3, 17, 2, proj_size=6, seed=1)
    step = kernels.CStep(rnn, 4)
    x = np.random.default_rng(0).standard_normal((6, 4, 3)).astype(np.float32)
    expected, final = rnn(x)
    assert step.state_shapes == [(2, 4, 6), (2, 4, 17)]
    state, y = np.zeros(step.state_shape, np.float32), np.full((4, 6), np.nan, np.float32)
    for t in range(6):
        step.function(step.handle, x[t].ctypes, state.ctypes, y.ctypes)
        assert_close(y, expected[t], "forward")
    assert_close(state, np.concatenate([array.ravel() for array in final]), "forward")


@pytest.mark.parametrize(("cell", "dtype"), [("lstm", "float32"), ("gru-reset-before", "float64")])
def test_a_c_function_steps(cell: str, dtype: str) -> None:
    rnn = ln.make_layer(cell, 3, 17, 2, seed=1, dtype=dtype)
    step = kernels.CStep(rnn, 4)
    x = np.random.default_rng(0).standard_normal((6, 4, 3)).astype(dtype)
    states = [np.random.default_rng(n).standard_normal((2, 4, 17)) for n in range(len(rnn.cell.states))]
    expected, final = reference.run(cell, rnn.params, x, states, num_layers=2)
    state, y = np.array(states, dtype), np.empty((4, 17), dtype)
    assert state.shape == step.state_shape
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(step.address)  # as anybody would
    for t in range(6):
        call(step.handle, x[t].ctypes.data, state.ctypes.data, y.ctypes.data)
        assert_close(y, expected[t], "forward")
    for got, want in zip(state, final, strict=True):
        assert_close(got, want, "forward")
