"""The nonlinearities that cell equations are written with.

These are the definitions, on plain numbers. Each engine brings its own implementation: vectors on the
CPU (`lstm_numba.cpu.activations`).
"""

from __future__ import annotations

import math


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
