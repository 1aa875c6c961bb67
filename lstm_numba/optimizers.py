"""Optimisers: SGD, Adam, AdamW and RMSprop, by the update rules of ``torch.optim``.

Every update is one pass over the memory of a parameter, its gradient and its state, in parallel, and
rounds as written, so it gives the same bits for any number of threads. Gradient clipping costs no pass of
its own: ``step(grads, scale=...)`` multiplies the gradients on the way.

Sources: B. T. Polyak (1964) for momentum; I. Sutskever et al., "On the importance of initialization and
momentum in deep learning" (2013) for Nesterov's; D. P. Kingma, J. Ba, "Adam" (2015); I. Loshchilov,
F. Hutter, "Decoupled weight decay regularization" (2019); T. Tieleman, G. Hinton, RMSprop, lecture 6.5 of
"Neural networks for machine learning" (2012).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lstm_numba import updates
from lstm_numba.embedding import SparseRows

Array = npt.NDArray[Any]


class Optimizer:
    """What all optimisers share: the parameters, their state, saving and loading.

    Parameters
    ----------
    params : dict of ndarray
        Live float32 or float64 arrays, C-contiguous; `step` changes them in place.
    lr : float
        Learning rate; the attribute may be changed between steps.
    slots : tuple of str
        Names of the state arrays that each parameter gets.
    **settings : float
        Other numbers that must not be negative.
    """

    def __init__(
        self, params: Mapping[str, Array], lr: float, slots: tuple[str, ...] = (), **settings: float
    ) -> None:
        for name, array in params.items():
            if array.dtype not in (np.float32, np.float64) or not array.flags.c_contiguous:
                raise ValueError(
                    f"params: expected C-contiguous float32 or float64 arrays, got {array.dtype} for {name}"
                )
        for name, value in {"lr": lr, **settings}.items():
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: expected a finite number that is not negative, got {value}")
        self.params = dict(params)
        self.lr = float(lr)
        self.steps = 0
        self._state = {
            f"{slot}.{name}": np.zeros_like(array) for slot in slots for name, array in params.items()
        }
        self._dense: dict[str, Array] = {}

    def step(self, grads: Mapping[str, Array | SparseRows], *, scale: float = 1.0) -> None:
        """Update the parameters.

        Parameters
        ----------
        grads : dict of ndarray or SparseRows
            A gradient for every parameter.
        scale : float
            Factor of all gradients, e.g. from `lstm_numba.clipping.clip_factor`.

        Raises
        ------
        ValueError
            A gradient is missing, unknown, or has another shape or dtype than its parameter.
        """
        if grads.keys() != self.params.keys():
            odd = sorted(grads.keys() ^ self.params.keys())
            raise ValueError(
                f"grads: expected the names of the parameters; {', '.join(odd)} has no counterpart"
            )
        for name, gradient in grads.items():
            values = gradient.values if isinstance(gradient, SparseRows) else gradient
            if gradient.shape != self.params[name].shape or values.dtype != self.params[name].dtype:
                raise ValueError(
                    f"grads[{name!r}]: expected {self.params[name].dtype} {self.params[name].shape}, "
                    f"got {values.dtype} {gradient.shape}"
                )
        self.steps += 1
        for name, gradient in grads.items():
            self._update(name, gradient, scale)

    def _update(self, name: str, gradient: Array | SparseRows, scale: float) -> None:
        raise NotImplementedError

    def _slot(self, slot: str, name: str) -> Array:
        return self._state[f"{slot}.{name}"].reshape(-1)

    def _flat(self, name: str, gradient: Array | SparseRows) -> Array:
        """The gradient as a flat array; a sparse one in a buffer that is zero elsewhere."""
        if not isinstance(gradient, SparseRows):
            return np.ascontiguousarray(gradient).reshape(-1)
        if name not in self._dense:
            self._dense[name] = np.zeros(gradient.shape, gradient.values.dtype)
        self._dense[name][gradient.indices] = gradient.values
        return self._dense[name].reshape(-1)

    def _clear(self, name: str, gradient: Array | SparseRows) -> None:
        if isinstance(gradient, SparseRows):
            self._dense[name][gradient.indices] = 0

    def state_arrays(self) -> dict[str, Array]:
        """The live state arrays, named ``slot.parameter``."""
        return self._state

    def state_dict(self) -> dict[str, Any]:
        """Copies of the state arrays, named ``slot.parameter``, with ``steps`` and ``lr``."""
        arrays = {name: array.copy() for name, array in self._state.items()}
        return {**arrays, "steps": self.steps, "lr": self.lr}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave.

        Raises
        ------
        ValueError
            An array is missing, unknown or of another shape or dtype.
        """
        arrays = {name: value for name, value in state.items() if name not in ("steps", "lr")}
        if arrays.keys() != self._state.keys():
            odd = sorted(arrays.keys() ^ self._state.keys())
            raise ValueError(f"state: {odd[0]} has no counterpart in {type(self).__name__}")
        for name, array in self._state.items():
            if arrays[name].shape != array.shape or arrays[name].dtype != array.dtype:
                raise ValueError(
                    f"state: expected {array.dtype} {array.shape} for {name}, "
                    f"got {arrays[name].dtype} {arrays[name].shape}"
                )
        for name, array in self._state.items():
            array[...] = arrays[name]
        self.steps = int(state["steps"])
        self.lr = float(state["lr"])


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum where asked for.

    ``v = momentum * v + g``, ``p -= lr * v``; Nesterov: ``p -= lr * (g + momentum * v)``. Without momentum
    and weight decay a sparse gradient touches its own rows only.

    Parameters
    ----------
    params, lr
        See `Optimizer`.
    momentum : float
    nesterov : bool
        Needs momentum.
    weight_decay : float
        Factor of an L2 penalty.
    """

    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        if nesterov and not momentum > 0:
            raise ValueError(f"nesterov: expected a positive momentum with it, got {momentum}")
        slots = ("momentum",) if momentum else ()
        super().__init__(params, lr, slots, momentum=momentum, weight_decay=weight_decay)
        self.momentum = float(momentum)
        self.nesterov = bool(nesterov)
        self.weight_decay = float(weight_decay)

    def _update(self, name: str, gradient: Array | SparseRows, scale: float) -> None:
        p = self.params[name]
        number = p.dtype.type
        if self.momentum == 0 and self.weight_decay == 0:
            rate = number(self.lr * scale)
            if isinstance(gradient, SparseRows):
                rows = (p, gradient.indices, gradient.values)
                updates.sweep(updates.sgd_rows, updates.sgd_rows_parallel, rows, rate)
            else:
                flats = (p.reshape(-1), self._flat(name, gradient))
                updates.sweep(updates.sgd, updates.sgd_parallel, flats, rate)
            return
        flat = self._flat(name, gradient)
        velocity = self._slot("momentum", name) if self.momentum else np.zeros_like(flat)
        updates.sweep(
            updates.with_momentum,
            updates.with_momentum_parallel,
            (p.reshape(-1), flat, velocity),
            number(self.lr),
            number(scale),
            number(self.weight_decay),
            number(self.momentum),
            self.nesterov,
        )
        self._clear(name, gradient)


class Adam(Optimizer):
    """Adam, with weight decay as an L2 penalty.

    Parameters
    ----------
    params, lr
        See `Optimizer`.
    betas : tuple of float
        Decay of the running means of gradient and squared gradient.
    eps : float
        Added to the root of the squared gradient's mean.
    weight_decay : float
    """

    _decoupled: ClassVar[bool] = False

    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float = 1e-3,
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

    def _update(self, name: str, gradient: Array | SparseRows, scale: float) -> None:
        p = self.params[name]
        number = p.dtype.type
        beta1, beta2 = self.betas
        updates.sweep(
            updates.adam,
            updates.adam_parallel,
            (
                p.reshape(-1),
                self._flat(name, gradient),
                self._slot("mean", name),
                self._slot("square", name),
            ),
            number(scale),
            number(0.0 if self._decoupled else self.weight_decay),
            number(1.0 - self.lr * self.weight_decay if self._decoupled else 1.0),
            number(beta1),
            number(1.0 - beta1),
            number(beta2),
            number(1.0 - beta2),
            number(self.lr / (1.0 - beta1**self.steps)),
            number(1.0 / math.sqrt(1.0 - beta2**self.steps)),
            number(self.eps),
        )
        self._clear(name, gradient)


class AdamW(Adam):
    """Adam with decoupled weight decay: ``p *= 1 - lr * weight_decay`` beside the update.

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
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)


class RMSprop(Optimizer):
    """RMSprop: the gradient over the root of the mean of its square, with momentum where asked for.

    Parameters
    ----------
    params, lr
        See `Optimizer`.
    alpha : float
        Decay of the mean of the squared gradient.
    eps : float
        Added to its root.
    momentum : float
    weight_decay : float
        Factor of an L2 penalty.
    """

    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float = 1e-2,
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

    def _update(self, name: str, gradient: Array | SparseRows, scale: float) -> None:
        p = self.params[name]
        number = p.dtype.type
        updates.sweep(
            updates.rmsprop,
            updates.rmsprop_parallel,
            (
                p.reshape(-1),
                self._flat(name, gradient),
                self._slot("square", name),
                self._slot("momentum", name),
            ),
            number(self.lr),
            number(scale),
            number(self.weight_decay),
            number(self.alpha),
            number(1.0 - self.alpha),
            number(self.eps),
            number(self.momentum),
        )
        self._clear(name, gradient)


def make_optimizer(
    name: str,
    params: Mapping[str, Array],
    lr: float,
    *,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> Optimizer:
    """Make an optimiser by the name that a run's configuration uses.

    Parameters
    ----------
    name : {"sgd", "adam", "adamw", "rmsprop"}
    params, lr, momentum, nesterov, weight_decay
        See the classes.

    Raises
    ------
    ValueError
        No such optimiser, or one without momentum was given some.
    """
    if name == "sgd":
        return SGD(params, lr, momentum, nesterov, weight_decay)
    if name == "rmsprop" and not nesterov:
        return RMSprop(params, lr, momentum=momentum, weight_decay=weight_decay)
    if name not in ("adam", "adamw", "rmsprop"):
        raise ValueError(f"optimizer: expected sgd, adam, adamw or rmsprop, got {name!r}")
    if nesterov or momentum:
        raise ValueError(f"{'nesterov' if nesterov else 'momentum'}: {name} has none; sgd does")
    return (Adam if name == "adam" else AdamW)(params, lr, weight_decay=weight_decay)
