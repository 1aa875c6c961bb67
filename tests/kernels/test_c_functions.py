"""A layer's step as a C function."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import kernels, reference

pytestmark = pytest.mark.processor


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
