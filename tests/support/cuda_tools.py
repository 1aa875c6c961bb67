"""What the tests of the CUDA engine share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lstm_numba.engines.cuda.driver import SIMULATED
from lstm_numba.engines.cuda.memory import download, upload

DTYPES = [np.float32, np.float64]


def cases(small: list[Any], large: list[Any]) -> list[Any]:
    """Sizes to test: on a GPU also large ones, which would take hours in the simulator."""
    return small if SIMULATED else small + large


def normal(shape: Any, dtype: Any, seed: int = 0) -> npt.NDArray[Any]:
    """Normal numbers."""
    result: npt.NDArray[Any] = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return result


def totals(*values: float) -> Any:
    """Float64 numbers on the device."""
    return upload(np.array(values, np.float64))


__all__ = ["DTYPES", "cases", "download", "normal", "totals", "upload"]
