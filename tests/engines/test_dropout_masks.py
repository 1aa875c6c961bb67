"""Dropout masks: values, mean, the same units in both precisions."""

from __future__ import annotations

import numpy as np
import pytest

from lstm_numba.engines.dropout_masks import draw_mask

DTYPES = [np.float32, np.float64]


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
