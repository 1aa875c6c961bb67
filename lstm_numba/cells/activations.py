"""The functions that the engines implement, on Python numbers.

Equations use them through `lstm_numba.cells.functions`. Each engine has its own implementation
(`engines.cpu.activations`, `engines.cuda.activations`), also of ``abs``, ``min`` and ``max`` of two numbers
and of `FUNCTIONS` of Python's ``math``.
"""

from __future__ import annotations

import math

#: Functions of `math` that the CPU engine computes one vector lane at a time, which is slow.
LANE_BY_LANE = (math.sin, math.cos, math.tan, math.atan, math.sinh, math.cosh, math.erf)
#: Functions of `math` that they implement.
FUNCTIONS = (
    math.exp, math.tanh, math.sqrt, math.fabs, math.log, math.log1p, math.log2, math.expm1, *LANE_BY_LANE,
)  # fmt: skip


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
    """1 where x > 0, else 0: the derivative of `relu`, 0 at 0 as in PyTorch."""
    return 1.0 if x > 0 else 0.0


def rsqrt(x: float) -> float:
    """``1 / sqrt(x)``."""
    return 1.0 / math.sqrt(x)


#: Those of this module.
DEFINITIONS = (sigmoid, tanh, relu, positive, rsqrt)
