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

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import not_negative, refuse_mask
from lstm_numba.engines import engine_of
from lstm_numba.engines.sparse import SparseRows

Array = npt.NDArray[Any]


class Optimizer:
    """What all optimisers share: the parameters, their state, saving and loading.

    Parameters
    ----------
    params : dict of ndarray
        Live float32 or float64 arrays, C-contiguous; `step` changes them in place.
    lr : float
        Learning rate; the attribute may be changed between steps.
    state_names : tuple of str
        Names of the state arrays that each parameter gets.
    **settings : float
        Other numbers that must not be negative.
    """

    def __init__(
        self, params: Mapping[str, Array], lr: float, state_names: tuple[str, ...] = (), **settings: float
    ) -> None:
        for name, array in params.items():
            refuse_mask(name, array)
            if (
                getattr(array, "dtype", None) not in (np.float32, np.float64)
                or not array.flags["C_CONTIGUOUS"]
            ):
                raise ValueError(
                    "params: expected C-contiguous float32 or float64 arrays, "
                    f"got {getattr(array, 'dtype', type(array).__name__)} for {name}"
                )
        for name, value in {"lr": lr, **settings}.items():
            not_negative(name, value)
        self.params = dict(params)
        self._engine = engine_of(next(iter(params.values()), np.empty(0)))
        self.lr = float(lr)
        self.steps = 0
        self._state = {
            f"{kind}.{name}": self._engine.zeros(array.shape, array.dtype)
            for kind in state_names
            for name, array in params.items()
        }
        self._dense: dict[str, Array] = {}

    def step(
        self, grads: Mapping[str, Array | SparseRows], *, scale: float = 1.0, totals: Array | None = None
    ) -> None:
        """Update the parameters.

        Parameters
        ----------
        grads : dict of ndarray or SparseRows
            A gradient for every parameter.
        scale : float
            Factor of all gradients, e.g. from `lstm_numba.engines.cpu.clipping.clip_factor`.
        totals : ndarray, optional
            What an engine's ``clip_by_norm`` filled: the factor is taken from it. If it is NaN, because loss
            or norm is not finite, all parameters stay as they are.

        Raises
        ------
        ValueError, TypeError
            A gradient is missing, unknown, no array, or has another shape or dtype than its parameter.
        """
        if grads.keys() != self.params.keys():
            odd = sorted(grads.keys() ^ self.params.keys())
            raise ValueError(
                f"grads: expected the names of the parameters; {', '.join(odd)} has no counterpart"
            )
        for name, gradient in grads.items():
            values = gradient.values if isinstance(gradient, SparseRows) else gradient
            refuse_mask(f"grads[{name!r}]", values)
            if not hasattr(values, "dtype"):
                raise TypeError(f"grads[{name!r}]: expected an array, got {type(values).__name__}")
            if gradient.shape != self.params[name].shape or values.dtype != self.params[name].dtype:
                raise ValueError(
                    f"grads[{name!r}]: expected {self.params[name].dtype} {self.params[name].shape}, "
                    f"got {values.dtype} {gradient.shape}"
                )
        self.update(grads, self._engine.factor(scale, totals), self.begin_step())

    def begin_step(self, out: Any = None) -> Any:
        """Count a step, and give its numbers; into those of an earlier one where these are given."""
        self.steps += 1
        return self._engine.numbers(self._numbers(), out)

    @property
    def number_count(self) -> int:
        """How many numbers a step has."""
        return len(self._numbers())

    def update(self, grads: Mapping[str, Any], factor: Any, numbers: Any) -> None:
        """Update all parameters; the gradients are known to fit."""
        self._update(list(self.params.values()), [grads[name] for name in self.params], factor, numbers)

    def _numbers(self) -> tuple[float, ...]:
        """What the rule needs at this step."""
        raise NotImplementedError

    def _update(self, params: list[Array], grads: list[Any], factor: Any, numbers: Any) -> None:
        raise NotImplementedError

    def _arrays_of(self, kind: str) -> list[Array]:
        """A state array of each parameter."""
        return [self._state[f"{kind}.{name}"] for name in self.params]

    @contextlib.contextmanager
    def _dense_gradients(self, grads: Sequence[Array | SparseRows]) -> Iterator[list[Array]]:
        """The gradients as whole arrays; sparse ones in buffers that are zero elsewhere."""
        whole: list[Any] = list(grads)
        sparse = [n for n, gradient in enumerate(grads) if isinstance(gradient, SparseRows)]
        names = list(self.params)
        for n in sparse:
            if names[n] not in self._dense:
                self._dense[names[n]] = self._engine.zeros(whole[n].shape, whole[n].values.dtype)
            whole[n] = self._engine.scatter(whole[n], self._dense[names[n]])
        yield whole
        for n in sparse:
            self._engine.clear_rows(grads[n], whole[n])

    def state_arrays(self) -> dict[str, Array]:
        """The live state arrays, named ``kind.parameter``."""
        return self._state

    def state_dict(self) -> dict[str, Any]:
        """Copies of the state arrays, named ``kind.parameter``, with ``steps`` and ``lr``."""
        arrays = {name: np.array(self._engine.download(array)) for name, array in self._state.items()}
        return {**arrays, "steps": self.steps, "lr": self.lr}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave.

        Raises
        ------
        ValueError, TypeError
            An array is missing, unknown, none, or of another shape or dtype.
        """
        arrays = {name: value for name, value in state.items() if name not in ("steps", "lr")}
        if arrays.keys() != self._state.keys():
            odd = sorted(arrays.keys() ^ self._state.keys())
            raise ValueError(f"state: {odd[0]} has no counterpart in {type(self).__name__}")
        for name, array in self._state.items():
            if not isinstance(arrays[name], np.ndarray):
                raise TypeError(f"state: expected an array for {name}, got {type(arrays[name]).__name__}")
            refuse_mask(f"state: {name}", arrays[name])
            if arrays[name].shape != array.shape or arrays[name].dtype != array.dtype:
                raise ValueError(
                    f"state: expected {array.dtype} {array.shape} for {name}, "
                    f"got {arrays[name].dtype} {arrays[name].shape}"
                )
        for name, array in self._state.items():
            self._engine.upload(arrays[name], out=array)
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

    def _numbers(self) -> tuple[float, ...]:
        beta1, beta2 = self.betas
        return (
            0.0 if self._decoupled else self.weight_decay,
            1.0 - self.lr * self.weight_decay if self._decoupled else 1.0,
            beta1,
            1.0 - beta1,
            beta2,
            1.0 - beta2,
            self.lr / (1.0 - beta1**self.steps),
            1.0 / math.sqrt(1.0 - beta2**self.steps),
            self.eps,
        )

    def _update(self, params: list[Array], grads: list[Any], factor: Any, numbers: Any) -> None:
        state = self._arrays_of("mean"), self._arrays_of("square")
        with self._dense_gradients(grads) as dense:
            self._engine.adam(params, dense, *state, factor, numbers)


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

    def _numbers(self) -> tuple[float, ...]:
        return (self.lr, self.weight_decay, self.alpha, 1.0 - self.alpha, self.eps, self.momentum)

    def _update(self, params: list[Array], grads: list[Any], factor: Any, numbers: Any) -> None:
        state = self._arrays_of("square"), self._arrays_of("momentum")
        with self._dense_gradients(grads) as dense:
            self._engine.rmsprop(params, dense, *state, factor, numbers)


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
