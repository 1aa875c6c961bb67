"""The optimisers' rules for one number, written once for all devices; see `lstm_numba.optim.optimizers`.

Undecorated functions of numbers of one precision; each engine compiles them into its loops. They round as
written, operation by operation.
"""

from __future__ import annotations

import math
from typing import Any


def momentum(
    p: Any, g: Any, velocity: Any, rate: Any, scale: Any, weight_decay: Any, factor: Any, nesterov: Any
) -> Any:
    """``v = factor * v + d``; ``p`` goes along v, or, after Nesterov, along ``d + factor * v``.

    Returns the new p and velocity.
    """
    d = scale * g + weight_decay * p
    v = factor * velocity + d
    if nesterov:
        return p - rate * (d + factor * v), v
    return p - rate * v, v


def adam(
    p: Any, g: Any, mean: Any, square: Any, scale: Any, l2: Any, keep: Any, beta1: Any, rest1: Any,
    beta2: Any, rest2: Any, rate: Any, correction: Any, eps: Any,
) -> Any:  # fmt: skip
    """`keep` shrinks p (AdamW), `l2` adds to its gradient (Adam); `rate`, `correction` undo the bias.

    Returns the new p, mean and square.
    """
    d = scale * g + l2 * p
    m = beta1 * mean + rest1 * d
    v = beta2 * square + rest2 * (d * d)
    return keep * p - rate * (m / (math.sqrt(v) * correction + eps)), m, v


def rmsprop(
    p: Any, g: Any, square: Any, velocity: Any, rate: Any, scale: Any, weight_decay: Any, alpha: Any,
    rest: Any, eps: Any, factor: Any,
) -> Any:  # fmt: skip
    """``d`` over the root of its mean square, through momentum.

    Returns the new p, square and velocity.
    """
    d = scale * g + weight_decay * p
    s = alpha * square + rest * (d * d)
    v = factor * velocity + d / (math.sqrt(s) + eps)
    return p - rate * v, s, v
