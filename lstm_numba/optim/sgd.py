"""Stochastic gradient descent; see `lstm_numba.optim.optimizers` for sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstm_numba.optim.base import Array, Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent, optionally with momentum.

    ``v = momentum * v + g``, ``p -= lr * v``; Nesterov: ``p -= lr * (g + momentum * v)``. Without momentum
    and weight decay, a sparse gradient updates its own rows only.

    Parameters
    ----------
    params, lr
        See `Optimizer`.
    momentum : float
    nesterov : bool
        Needs `momentum` > 0.
    weight_decay : float
        L2 penalty: ``weight_decay * p`` is added to the gradient.

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_numba as ln
    >>> params = {"w": np.array([1.0, 2.0])}
    >>> ln.SGD(params, lr=0.5).step({"w": np.array([1.0, -1.0])})
    >>> params["w"].tolist()
    [0.5, 2.5]
    """

    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float | Array,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        if nesterov and not momentum > 0:
            raise ValueError(f"nesterov: expected a positive momentum with it, got {momentum}")
        state_names = ("momentum",) if momentum else ()
        super().__init__(params, lr, state_names, momentum=momentum, weight_decay=weight_decay)
        self.momentum = float(momentum)
        self.nesterov = bool(nesterov)
        self.weight_decay = float(weight_decay)

    @property
    def _plain(self) -> bool:
        return self.momentum == 0 and self.weight_decay == 0

    def _numbers(self) -> tuple[float, ...]:
        return (self.lr,) if self._plain else (self.lr, self.weight_decay, self.momentum)

    def _update(self, params: list[Array], grads: list[Any], factor: Any, numbers: Any) -> None:
        if self._plain:
            self._engine.sgd(params, grads, factor, numbers)
            return
        velocities = self._arrays_of("momentum") if self.momentum else None
        with self._dense_gradients(grads) as dense:
            self._engine.momentum(params, dense, velocities, factor, numbers, self.nesterov)
