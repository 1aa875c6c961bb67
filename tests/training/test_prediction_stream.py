"""A model that is fed step by step: what missing samples leave, and in which units it answers."""

from __future__ import annotations

import numpy as np
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba.data.scaling import Scaler


def test_before_the_first_sample_the_state_is_zero() -> None:
    """Steps without numbers leave what there is: at the beginning, and after a reset, the bias alone."""
    model = ln.SequenceRegressor(3, 19, 2, seed=1)
    targets = Scaler(np.array([10.0, -10.0]), np.array([2.0, 3.0]))
    stream = ln.PredictionStream(model, targets=targets)
    bias = np.float64(model.output.params["bias"]) * targets.scale + targets.mean
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(stream.step([np.nan] * 3), bias)
        for t in range(4):
            found = stream.step(x[t]).copy()
            expected = model.predict(x[: t + 1, None])[0, :, 0] * targets.scale + targets.mean
            assert_close(found, expected, "forward", dtype=np.float32)
        np.testing.assert_array_equal(stream.step([np.nan] * 3), found)
        stream.reset()
