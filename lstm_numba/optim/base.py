"""Base of the optimizers: parameters, their state, saving and loading; see `lstm_numba.optim.optimizers`."""

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
    """Base of the optimizers: the parameters, their state, saving and loading.

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

    #: Whether `end_evaluation` has to be told losses of data that are not trained on.
    needs_validation: ClassVar[bool] = False

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

    def end_evaluation(self, loss: float) -> bool:
        """Report the loss on validation data, of `averages` where there are any.

        Returns
        -------
        bool
            Whether the parameters are averaged from now on; see `NTASGD`.
        """
        return False

    @property
    def averages(self) -> dict[str, Array]:
        """Averages of the parameters by name, to be used in their place; empty where there are none."""
        return {}

    @contextlib.contextmanager
    def using_averages(self) -> Iterator[None]:
        """In a ``with`` block the parameters are the averages, if there are any."""
        yield

    def history(self) -> dict[str, Any]:
        """What the state holds beside arrays, steps and rate, as JSON values."""
        return {}

    def load_history(self, state: Mapping[str, Any]) -> None:
        """Restore `history`, and make the arrays that belong to it."""

    def state_arrays(self) -> dict[str, Array]:
        """The state arrays themselves, named ``kind.parameter``."""
        return self._state

    def state_dict(self) -> dict[str, Any]:
        """Copies of the state arrays, named ``kind.parameter``, with ``steps``, ``lr`` and `history`."""
        arrays = {name: np.array(self._engine.download(array)) for name, array in self._state.items()}
        return {**arrays, **self.history(), "steps": self.steps, "lr": self.lr}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict`.

        Raises
        ------
        ValueError, TypeError
            An array is missing, unknown, not a NumPy array, or of another shape or dtype.
        """
        others = {"steps", "lr", *self.history()}
        arrays = {name: value for name, value in state.items() if name not in others}
        self.load_history(state)
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
        """An optimizer of some of many models.

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
