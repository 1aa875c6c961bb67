"""The optimizers' update rules for one parameter element; see `lstm_numba.optim.optimizers` for sources.

Undecorated scalar functions; each engine compiles them into its loops, in the precision of the parameter and
without contraction or reordering. Throughout, `scale` is the factor of the gradient.
"""

from __future__ import annotations

import math
from typing import Any


def momentum(
    p: Any, g: Any, velocity: Any, rate: Any, scale: Any, weight_decay: Any, factor: Any, nesterov: Any
) -> Any:
    """``v = factor * v + d``, ``p -= rate * v``; with `nesterov` ``p -= rate * (d + factor * v)``.

    ``d = scale * g + weight_decay * p``. Returns the new p and velocity.
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
    """Adam; `l2` is its weight decay, `1 - keep` that of AdamW; `rate` and `correction` correct the bias.

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
    """``v = factor * v + d / (sqrt(s) + eps)``, ``p -= rate * v``; s is the running mean of ``d**2``.

    Returns the new p, square and velocity.
    """
    d = scale * g + weight_decay * p
    s = alpha * square + rest * (d * d)
    v = factor * velocity + d / (math.sqrt(s) + eps)
    return p - rate * v, s, v
