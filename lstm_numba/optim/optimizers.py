"""Optimisers: SGD, Adam, AdamW and RMSprop, by the update rules of ``torch.optim``.

An update is one parallel, elementwise pass over parameter, gradient and state; the result has the same bits
for any number of threads. Clipping needs no pass of its own: ``step(grads, scale=...)`` scales the gradients
within the update.

Sources: B. T. Polyak (1964) for momentum; I. Sutskever et al., "On the importance of initialization and
momentum in deep learning" (2013) for Nesterov's; D. P. Kingma, J. Ba, "Adam" (2015); I. Loshchilov,
F. Hutter, "Decoupled weight decay regularization" (2019); T. Tieleman, G. Hinton, RMSprop, lecture 6.5 of
"Neural networks for machine learning" (2012).
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import check_arrays, non_negative, read_only, refuse_mask
from lstm_numba.engines import engine_of
from lstm_numba.engines.sparse import SparseRows
from lstm_numba.wording import shown

Array = npt.NDArray[Any]


class Optimizer:
    """Base of the optimisers: the parameters, their state, saving and loading.

    Parameters
    ----------
    params : dict of ndarray
        C-contiguous float32 or float64 arrays, which `step` updates in place.
    lr : float or ndarray (N,)
        Learning rate; the attribute may be changed between steps. An array holds one for each of many models,
        whose parameters have a leading axis of them.
    state_names : tuple of str
        Names of the state arrays that each parameter gets.
    **settings : float
        Other hyperparameters, checked to be finite and not negative.
    """

    def __init__(
        self,
        params: Mapping[str, Array],
        lr: float | Array,
        state_names: tuple[str, ...] = (),
        **settings: float,
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
            if read_only(array):
                raise ValueError(f"params: {name} is read-only; a layer may be frozen, see its unfreeze()")
        rates = np.atleast_1d(np.asarray(lr, np.float64)).tolist()
        rates = {f"lr[{n}]" if np.ndim(lr) else "lr": rate for n, rate in enumerate(rates)}
        for name, value in {**rates, **settings}.items():
            non_negative(name, value)
        self.params = dict(params)
        self._engine = engine_of(next(iter(params.values()), np.empty(0)))
        self.lr: Any = np.array(lr, np.float64) if np.ndim(lr) else float(lr)
        self.steps: Any = 0  # an array where some of many models took less
        self._state = {
            f"{kind}.{name}": self._engine.zeros(array.shape, array.dtype)
            for kind in state_names
            for name, array in params.items()
        }
        self._dense: dict[str, Array] = {}

    def __repr__(self) -> str:
        return shown(self, always=("lr",), never=("params",))

    def step(
        self,
        grads: Mapping[str, Array | SparseRows],
        *,
        scale: float | Array = 1.0,
        totals: Array | None = None,
    ) -> None:
        """Update the parameters.

        Parameters
        ----------
        grads : dict of ndarray or SparseRows
            A gradient for every parameter.
        scale : float or ndarray (N,)
            Factor of all gradients, e.g. from `lstm_numba.engines.cpu.clipping.clip_factor`; or those of many
            models.
        totals : ndarray, optional
            Totals after ``Engine.clip_by_norm``, whose factor replaces `scale`. A NaN factor (loss or norm
            not finite) leaves parameters and state unchanged.

        Raises
        ------
        ValueError, TypeError
            A gradient is missing, unknown or no array, or its shape or dtype is not the parameter's.
        """
        if grads.keys() != self.params.keys():
            mismatched = ", ".join(sorted(grads.keys() ^ self.params.keys()))
            raise ValueError(f"grads: expected the names of the parameters; {mismatched} has no counterpart")
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

    def begin_step(self, out: Any = None, taking: Array | None = None) -> Any:
        """Count a step and return its hyperparameters, see ``Engine.numbers`` (also for `out`).

        `taking` (N,) says which of many models take it; for the others the factor has to be NaN.
        """
        self.steps = self.steps + (1 if taking is None else taking.astype(np.int64))
        return self._engine.numbers(self._numbers(), out)

    @property
    def number_count(self) -> int:
        """Number of hyperparameters that ``begin_step`` returns."""
        return len(self._numbers())

    def update(self, grads: Mapping[str, Any], factor: Any, numbers: Any) -> None:
        """Update all parameters; the gradients are not checked."""
        if np.ndim(self.lr) and self._engine.name != "cpu":
            raise ValueError(f"lr: expected one for all models on {self._engine.name}, got {len(self.lr)}")
        if np.ndim(self.lr) and not np.ndim(factor):
            factor = np.full(len(self.lr), factor)
        self._update(list(self.params.values()), [grads[name] for name in self.params], factor, numbers)

    def _numbers(self) -> tuple[float, ...]:
        """Hyperparameters of this step, in the order of the engine's method."""
        raise NotImplementedError

    def _update(self, params: list[Array], grads: list[Any], factor: Any, numbers: Any) -> None:
        raise NotImplementedError

    def _arrays_of(self, kind: str) -> list[Array]:
        """The state arrays of one kind, in the order of the parameters."""
        return [self._state[f"{kind}.{name}"] for name in self.params]

    @contextlib.contextmanager
    def _dense_gradients(self, grads: Sequence[Array | SparseRows]) -> Iterator[list[Array]]:
        """The gradients as dense arrays; sparse ones are scattered into zeroed buffers."""
        dense: list[Any] = list(grads)
        sparse = [n for n, gradient in enumerate(grads) if isinstance(gradient, SparseRows)]
        names = list(self.params)
        for n in sparse:
            if names[n] not in self._dense:
                self._dense[names[n]] = self._engine.zeros(dense[n].shape, dense[n].values.dtype)
            dense[n] = self._engine.scatter(dense[n], self._dense[names[n]])
        yield dense
        for n in sparse:
            self._engine.clear_rows(grads[n], dense[n])

    def state_arrays(self) -> dict[str, Array]:
        """The state arrays themselves, named ``kind.parameter``."""
        return self._state

    def state_dict(self) -> dict[str, Any]:
        """Copies of the state arrays, named ``kind.parameter``, with ``steps`` and ``lr``."""
        arrays = {name: np.array(self._engine.download(array)) for name, array in self._state.items()}
        return {**arrays, "steps": self.steps, "lr": self.lr}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`.

        Raises
        ------
        ValueError, TypeError
            An array is missing, unknown, not a NumPy array, or of another shape or dtype.
        """
        arrays = {name: value for name, value in state.items() if name not in ("steps", "lr")}
        if arrays.keys() != self._state.keys():
            mismatched = sorted(arrays.keys() ^ self._state.keys())
            raise ValueError(f"state: {mismatched[0]} has no counterpart in {type(self).__name__}")
        check_arrays("state", arrays, self._state)
        for name, array in self._state.items():
            self._engine.upload(arrays[name], out=array)
        self.steps, self.lr = (
            np.array(value, kind) if np.ndim(value) else kind(value)
            for value, kind in ((state["steps"], int), (state["lr"], float))
        )

    def select(self, indices: Any, params: Mapping[str, Array]) -> Optimizer:
        """An optimiser of some of many models.

        Parameters
        ----------
        indices : sequence of int
            Which ones.
        params : dict of ndarray
            Their parameters.

        Returns
        -------
        Optimizer
            It goes on where this one is for each of them.
        """
        other, engine = copy.copy(self), self._engine
        other.params, other._dense, other._state = dict(params), {}, {}
        for name, array in self._state.items():
            other._state[name] = engine.empty((len(indices), *array.shape[1:]), array.dtype)
            for k, n in enumerate(indices):
                engine.assign(other._state[name][k], array[n])
        other.lr, other.steps = (
            value[list(indices)] if np.ndim(value) else value for value in (self.lr, self.steps)
        )
        return other


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
) -> Optimizer:
    """Make an optimiser by its name in a run's configuration.

    Parameters
    ----------
    name : {"sgd", "adam", "adamw", "rmsprop"}
    params, lr, momentum, nesterov, weight_decay
        See the classes.

    Raises
    ------
    ValueError
        Unknown name, or momentum for an optimiser that has none.
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
