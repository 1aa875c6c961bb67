"""What tests of implementation details share: numbers, and how arrays of several libraries are compared."""

from __future__ import annotations

from typing import Any

import numpy as np


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal ones, float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def close(found: Any, expected: Any, tolerance: float = 1e-6) -> None:
    """Whether arrays agree; those of PyTorch as NumPy's."""
    found, expected = (
        a.detach().numpy() if hasattr(a, "detach") else np.asarray(a) for a in (found, expected)
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
