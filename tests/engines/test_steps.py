"""Copies between arrays whose steps are at other times, on both engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

from lstm_numba.engines import engine
from lstm_numba.engines.base import Steps

#: Each to another step, some to the same, many to few, few to many, none at all.
CASES = [
    (Steps(1, 0, 1), 6, 6),
    (Steps(3, 1, 1), 4, 12),
    (Steps(2, 1, 3), 7, 6),
    (Steps(5, 4, 3), 4, 9),
    (Steps(1, 9, 9), 20, 4),
    (Steps(1, 0, 2), 0, 3),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_copied_and_added_step_by_step(case: tuple[Steps, int, int], dtype: Any, backend: str) -> None:
    steps, count, times = case
    rng, own = np.random.default_rng(0), engine(backend)
    near, far = (rng.standard_normal((n, 3, width)).astype(dtype) for n, width in ((count, 5), (times, 4)))
    indices = [(s * steps.multiply + steps.add) // steps.divide for s in range(count)]
    copied, added = near.copy(), far.copy()
    for s, t in enumerate(indices):
        copied[s, :, 2:5] = far[t, :, 1:4]
        added[t, :, 1:3] += near[s, :, 2:4]
    out = own.upload(near.copy())
    own.copy_steps(own.upload(far), 1, out, 2, 3, steps)
    np.testing.assert_array_equal(own.download(out), copied)
    out = own.upload(far.copy())
    own.add_steps(own.upload(near), 2, out, 1, 2, steps)
    assert_close(own.download(out), added, "optimizer", "sums")
