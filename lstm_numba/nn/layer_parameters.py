"""The parameters of a recurrent layer: under which names, copied in and out, moved to another device."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lstm_numba.arguments import read_only
from lstm_numba.cells.parameters import parameter_names, stack_shapes, suffix
from lstm_numba.engines import engine, host_array
from lstm_numba.engines.base import Array, Engine
from lstm_numba.nn.heads import HeadParams, dense
from lstm_numba.nn.initial_weights import initial_weights
from lstm_numba.nn.many import Generators, draw_each

Layer = TypeVar("Layer", bound="LayerParameters")


class _LayerDirection(NamedTuple):
    """One direction of one layer; `names` maps its parameters' names without suffix to the full ones."""

    layer: int
    direction: int
    names: dict[str, str]


class LayerParameters:
    """Part of `Recurrent`, which documents it."""

    plain_cell: Any
    input_size: int
    hidden_size: int
    proj_size: int
    output_size: int
    num_layers: int
    directions: int
    heads: int
    bias: bool
    dtype: np.dtype[Any]
    device: str
    engine: Engine
    models: int | None
    rng: Generators
    params: dict[str, Array]

    def _make_params(self, init: str) -> None:
        """Draw the parameters."""
        cell = self.plain_cell
        self._layer_directions = [
            _LayerDirection(n, d, {name: name + suffix(n, d) for name in parameter_names(cell, self.bias)})
            for n in range(self.num_layers)
            for d in range(self.directions)
        ]
        self._forget_weights()
        self._shapes = stack_shapes(
            cell, self.input_size, self.hidden_size, self.num_layers, self.directions, self.bias, self.heads,
            self.proj_size or None,
        )  # fmt: skip
        self.params = draw_each(self.engine, self.rng, lambda rng: self._draw_params(init, rng))
        self.engine.synchronize()

    def _draw_params(self, init: str, rng: np.random.Generator) -> dict[str, Array]:
        """The parameters of one model."""
        drawn = initial_weights(init, self.plain_cell, self._shapes, self.hidden_size // self.heads, rng)
        return {name: self.engine.upload(weights.astype(self.dtype)) for name, weights in drawn}

    @property
    def _lead(self) -> tuple[int, ...]:
        """The axis of models, if there is one."""
        return (self.models,) if self.models else ()

    def model(self: Layer, n: int) -> Layer:
        """One of many models as a layer of its own.

        Parameters
        ----------
        n : int
            From 0 on, or from the last, -1, down.

        Returns
        -------
        Recurrent
            Its parameters are views of this layer's, and its `rng` is the model's: what one changes the other
            sees.

        Raises
        ------
        ValueError
            The layer has no axis of models.
        IndexError
            There is no such model.
        """
        n = self._index(n)
        return self._with({name: value[n] for name, value in self._checked_params().items()}, self.rng[n])

    def select(self: Layer, indices: Any) -> Layer:
        """A layer of some of the models.

        Parameters
        ----------
        indices : sequence of int

        Returns
        -------
        Recurrent
            Its parameters are copies; each `rng` is the model's.

        Raises
        ------
        ValueError
            The layer has no axis of models, or none is chosen.
        IndexError
            There is no such model.
        """
        chosen = [self._index(n) for n in indices]
        if not chosen:
            raise ValueError("indices: expected one model at least, got none")
        params, engine = {}, self.engine
        for name, value in self._checked_params().items():
            params[name] = engine.empty((len(chosen), *value.shape[1:]), self.dtype)
            for k, n in enumerate(chosen):
                engine.assign(params[name][k], value[n])
        return self._with(params, [self.rng[n] for n in chosen], len(chosen))

    def _index(self, n: int) -> int:
        if not self.models:
            raise ValueError("models: this layer is one model, made without that option")
        if not -self.models <= n < self.models:
            raise IndexError(f"model: expected 0 to {self.models - 1}, got {n}")
        return n % self.models

    def _refuse_models(self) -> None:
        if self.models:
            raise ValueError(f"models: expected one model, got {self.models}; layer.model(n) gives one")

    def _with(self: Layer, params: dict[str, Array], rng: Generators, models: int | None = None) -> Layer:
        """A layer that differs in its parameters alone."""
        other = copy.copy(self)
        other.params, other.rng, other.models = params, rng, models
        other._forget_weights()
        return other

    def _forget_weights(self) -> None:
        """Begin anew with what is remembered of the parameters."""
        count = len(self._layer_directions)
        self._prepared_calls = None if self.models else self.engine.prepared_calls()
        self._weight_caches = [self.engine.weight_cache() for _ in range(self.heads * count)]
        self._head_params = [HeadParams(self.heads, len(self._lead)) for _ in range(count)]

    def layer_params(self) -> list[dict[str, Array]]:
        """The parameters of each layer and direction, from the first layer on, names without suffix.

        Raises
        ------
        TypeError
            A parameter was replaced by something that is no array of the layer's dtype.
        ValueError
            There is more than one head.
        """
        if self.heads > 1:
            raise ValueError(f"heads: expected 1, kernels read the weights of one head, got {self.heads}")
        return self._local_params()

    def dense_params(self) -> list[dict[str, Any]]:
        """As `layer_params`, in the host's memory; of several heads those of one that computes the same."""
        download = self.engine.download
        return [
            dense({name: download(array) for name, array in params.items()}, self.heads)
            for params in self._local_params()
        ]

    def _local_params(self) -> list[dict[str, Array]]:
        self._refuse_models()
        params = self._checked_params()
        return [
            {name: params[full] for name, full in entry.names.items()} for entry in self._layer_directions
        ]

    def _checked_params(self) -> dict[str, Array]:
        """The parameters as the engine's arrays; users may have replaced them."""
        return {name: self.engine.from_user(name, value, self.dtype) for name, value in self.params.items()}

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters as NumPy arrays, under PyTorch's names."""
        return {name: np.array(self.engine.download(value)) for name, value in self._checked_params().items()}

    def to(self: Layer, device: str) -> Layer:
        """Move the layer to a device, as new arrays in `params`.

        Parameters
        ----------
        device : {"cpu", "cuda"}

        Returns
        -------
        Recurrent
            The layer itself.

        Raises
        ------
        DeviceError
            CUDA cannot be used here.
        """
        target = engine(device)
        if target is not self.engine:
            for name, value in self._checked_params().items():
                self.params[name] = target.upload(self.engine.download(value))
            target.synchronize()
            self.engine, self.device = target, device
            self._forget_weights()
        return self

    def freeze(self: Layer) -> Layer:
        """Make the parameters unchangeable, which spares calls looking whether they have changed.

        A call for inference reads all parameters for that: 3 or 4 % of its time where weights are large. On
        the CPU `params` then holds copies that NumPy lets nobody write to; what holds the arrays of before,
        as an optimizer does, no longer changes the layer. On CUDA, where nothing is looked for, they stay as
        they are. A copy of the layer, or one read from a pickle, is not frozen.

        Returns
        -------
        Recurrent
            The layer itself.
        """
        for name, value in self._checked_params().items():
            self.params[name] = self.engine.fixed(value)
        return self

    def unfreeze(self: Layer) -> Layer:
        """Undo `freeze`: parameters that cannot be written to become copies, as new arrays in `params`.

        Returns
        -------
        Recurrent
            The layer itself.
        """
        for name, value in self.params.items():
            if read_only(value):
                self.params[name] = self.engine.upload(np.array(value))
        return self

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Copy parameters in, e.g. the ``state_dict`` of a PyTorch ``LSTM``, ``GRU`` or ``RNN``.

        Parameters
        ----------
        state : mapping of str to array_like
            All parameters by name; anything that `numpy.asarray` takes, or an array on a CUDA device; cast to
            the layer's dtype.

        Raises
        ------
        ValueError, TypeError
            A name is missing or unknown, a shape does not fit, an array is not of real numbers, or the layer
            is frozen. No parameter is changed then.
        """
        missing, unknown = self.params.keys() - state.keys(), state.keys() - self.params.keys()
        if missing or unknown:
            raise ValueError(
                f"state: expected the parameters {sorted(self.params)}; "
                f"missing {sorted(missing)}, unknown {sorted(unknown)}"
            )
        arrays = {name: host_array(state[name], name) for name in self.params}
        for name, value in arrays.items():
            if read_only(self.params[name]):
                raise ValueError(f"{name}: the layer's is read-only; call unfreeze() first")
            if value.shape != self.params[name].shape:
                raise ValueError(f"{name}: expected shape {self.params[name].shape}, got {value.shape}")
        for name, value in arrays.items():
            self.engine.upload(value.astype(self.dtype, copy=False), out=self.params[name])
        self.engine.synchronize()
