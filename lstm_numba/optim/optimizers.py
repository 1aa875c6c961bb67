"""Optimizers: SGD, Adam, AdamW and RMSprop, by the update rules of ``torch.optim``.

An update is one parallel, elementwise pass over parameter, gradient and state; the result has the same bits
for any number of threads. Clipping needs no pass of its own: ``step(grads, scale=...)`` scales the gradients
within the update.

Sources: B. T. Polyak (1964) for momentum; I. Sutskever et al., "On the importance of initialization and
momentum in deep learning" (2013) for Nesterov's; D. P. Kingma, J. Ba, "Adam" (2015); I. Loshchilov,
F. Hutter, "Decoupled weight decay regularization" (2019); T. Tieleman, G. Hinton, RMSprop, lecture 6.5 of
"Neural networks for machine learning" (2012).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from lstm_numba.optim.base import Array, Optimizer
from lstm_numba.optim.nt_asgd import NONMONO, NTASGD
from lstm_numba.optim.sgd import SGD
from lstm_numba.wording import nearest

__all__ = ["NTASGD", "SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "make_optimizer"]


class Adam(Optimizer):
    """Adam, with weight decay as an L2 penalty.

    Parameters
    ----------
    params, lr
        See `Optimizer`.
    betas : tuple of float
        Decay rates of the running means of the gradient and of its square.
    eps : float
        Added to the square root of the second mean.
    weight_decay : float

    Examples
    --------
    >>> import numpy as np
    >>> import lstm_numba as ln
    >>> params = {"w": np.array([1.0, 2.0])}
    >>> ln.Adam(params, lr=0.5).step({"w": np.array([3.0, -0.1])})  # the first step has the length lr
    >>> params["w"].round(4).tolist()
    [0.5, 2.5]
    """

    _decoupled: ClassVar[bool] = False

    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float | Array = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, ("mean", "square"), eps=eps, weight_decay=weight_decay)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas: expected two numbers in [0, 1), got {betas}")
        self.betas = (float(betas[0]), float(betas[1]))
        self.eps = float(eps)
        self.weight_decay = float(weight_decay)

    def _numbers(self) -> tuple[float, ...]:
        beta1, beta2 = self.betas
        return (
            0.0 if self._decoupled else self.weight_decay,
            1.0 - self.lr * self.weight_decay if self._decoupled else 1.0,
            beta1,
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            self.lr / self._corrections(beta1),
            1.0 / np.sqrt(self._corrections(beta2)),
            self.eps,
        )

    def _corrections(self, beta: float) -> Any:
        """1 - beta**steps, of many models for each: by the same function as of one, for the same bits."""
        if not np.ndim(self.steps):
            return 1.0 - beta**self.steps
        return np.array([1.0 - beta ** max(steps, 1) for steps in self.steps.tolist()])

    def _update(self, params: list[Array], grads: list[Any], factor: Any, numbers: Any) -> None:
        state = self._arrays_of("mean"), self._arrays_of("square")
        with self._dense_gradients(grads) as dense:
            self._engine.adam(params, dense, *state, factor, numbers)


class AdamW(Adam):
    """Adam with decoupled weight decay: ``p *= 1 - lr * weight_decay`` before the update.

    Parameters
    ----------
    params, lr, betas, eps
        See `Adam`.
    weight_decay : float
    """

    _decoupled = True

    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float | Array = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)


class RMSprop(Optimizer):
    """RMSprop: the gradient divided by its running root mean square, optionally with momentum.

    Parameters
    ----------
    params, lr
        See `Optimizer`.
    alpha : float
        Decay rate of the running mean of the squared gradient.
    eps : float
        Added to its square root.
    momentum : float
    weight_decay : float
        L2 penalty: ``weight_decay * p`` is added to the gradient.
    """

    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float | Array = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        settings = {"eps": eps, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, lr, ("square", "momentum"), **settings)
        if not 0 <= alpha < 1:
            raise ValueError(f"alpha: expected a number in [0, 1), got {alpha}")
        self.alpha = float(alpha)
        self.eps = float(eps)
        self.momentum = float(momentum)
        self.weight_decay = float(weight_decay)

    def _numbers(self) -> tuple[float, ...]:
        return (self.lr, self.weight_decay, self.alpha, 1.0 - self.alpha, self.eps, self.momentum)

    def _update(self, params: list[Array], grads: list[Any], factor: Any, numbers: Any) -> None:
        state = self._arrays_of("square"), self._arrays_of("momentum")
        with self._dense_gradients(grads) as dense:
            self._engine.rmsprop(params, dense, *state, factor, numbers)


def make_optimizer(
    name: str,
    params: Mapping[str, Array],
    lr: float | Array,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    nonmono: int = NONMONO,
) -> Optimizer:
    """Make an optimizer by its name in a run's configuration.

    Parameters
    ----------
    name : {"sgd", "adam", "adamw", "rmsprop", "nt-asgd"}
    params, lr, momentum, nesterov, weight_decay, nonmono
        See the classes.

    Raises
    ------
    ValueError
        Unknown name, or momentum for an optimizer that has none.
    """
    if name == "sgd":
        return SGD(params, lr, momentum, nesterov, weight_decay)
    if name == "rmsprop" and not nesterov:
        return RMSprop(params, lr, momentum=momentum, weight_decay=weight_decay)
    known = ("sgd", "rmsprop", "adam", "adamw", "nt-asgd")
    if name not in known:
        hint = nearest(str(name), known)
        raise ValueError(f"optimizer: expected one of {', '.join(known)}, got {name!r}{hint}")
    if nesterov or momentum:
        raise ValueError(f"{'nesterov' if nesterov else 'momentum'}: {name} has none; sgd does")
    if name == "nt-asgd":
        return NTASGD(params, lr, nonmono, weight_decay)
    return (Adam if name == "adam" else AdamW)(params, lr, weight_decay=weight_decay)
