"""The functions that cell equations are written with.

These are the definitions, on plain numbers. Each engine brings its own implementation: vectors on the
CPU (`lstm_numba.engines.cpu.activations`), CUDA's library on a graphics processor
(`lstm_numba.engines.cuda.scalar`). Beside
the four below these are operators, ``abs``, ``min`` and ``max`` of two, and `FUNCTIONS` of Python's ``math``.
"""

from __future__ import annotations

import math

#: Functions of `math` whose vectors the CPU engine computes number by number, which takes its time.
LANE_BY_LANE = (
    math.log, math.log1p, math.log2, math.expm1, math.sin, math.cos, math.tan, math.atan, math.sinh,
    math.cosh, math.erf,
)  # fmt: skip
#: Functions of `math` that equations may use.
FUNCTIONS = (math.exp, math.tanh, math.sqrt, math.fabs, *LANE_BY_LANE)


def sigmoid(x: float) -> float:
    """Logistic function ``1 / (1 + exp(-x))``."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def tanh(x: float) -> float:
    """Hyperbolic tangent."""
    return math.tanh(x)


def relu(x: float) -> float:
    """``max(x, 0)``; a NaN stays NaN."""
    return 0.0 if x <= 0 else x


def positive(x: float) -> float:
    """1 where x > 0, else 0: the slope of `relu`, zero at zero as in PyTorch."""
    return 1.0 if x > 0 else 0.0
