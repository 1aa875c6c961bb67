"""What all models share: parameters, random streams, reused memory, batches and results."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import check_arrays
from lstm_numba.cells import display_name
from lstm_numba.engines import engine
from lstm_numba.engines.base import CORRECT, LOSS, Engine
from lstm_numba.engines.dropout_masks import check_probability
from lstm_numba.models.network import Network
from lstm_numba.nn.dropout import check_kind
from lstm_numba.nn.many import Generators, seeds
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.wording import nearest, plural

Array = npt.NDArray[Any]
#: State of the recurrent layers: one array or a tuple of arrays.
State = Any
#: Is given gradients by the names of their parameters, each as soon as it is final.
Ready = Callable[[Mapping[str, Any]], None]

M = TypeVar("M", bound="Model")


class SequenceBatch(NamedTuple):
    """Sequences and what is to be predicted of them.

    Attributes
    ----------
    x : ndarray (T, B, I)
    labels : ndarray
        Classes (B,), int; of a `SequenceRegressor` numbers (B, M), or (T, B, M).
    lengths : ndarray (B,), int, optional
        True lengths of padded sequences.
    weights : ndarray, optional
        Of the sequences (B,), not negative; what a `SequenceRegressor` takes besides is said there.

    Notes
    -----
    For many models each has a leading axis of them, but for what is the same for all: that may be without.
    """

    x: Array
    labels: Array
    lengths: Array | None = None
    weights: Array | None = None


class TokenBatch(NamedTuple):
    """A window of text and the tokens that follow.

    Attributes
    ----------
    inputs, targets : ndarray (T, B), int
    weights : ndarray (T, B), optional
        0 where there is no target.
    """

    inputs: Array
    targets: Array
    weights: Array | None = None


class Placed(NamedTuple):
    """A batch in the engine's memory.

    Attributes
    ----------
    inputs : object
        A sequence (T, B, I), or the engine's form of tokens (T, B).
    targets : object
        The engine's form of targets and weights.
    predictions : float, or ndarray (N,)
        Number of predictions, or the sum of their weights, of each of many models.
    lengths : ndarray (B,), int, optional
    fraction : float
        Of the predictions of a whole batch, of which these are a share: the objective is that of the whole.
    """

    inputs: Any
    targets: Any
    predictions: Any
    lengths: Array | None = None
    fraction: float = 1.0


class StepResult:
    """Result of a batch; reading a number first waits for the device.

    Parameters
    ----------
    engine : Engine
        Engine of the totals.
    totals : ndarray
        From ``Engine.totals``, filled by ``Engine.cross_entropy`` or ``Engine.number_loss``.
    count : float
        Number of predictions, or the sum of their weights.
    scale : float
        The objective is the summed loss times this. For many models arrays of one for each, as all numbers.
    grads : dict, optional
    state : optional

    Attributes
    ----------
    totals : ndarray
        In the engine's memory; see `lstm_numba.engines.base.LOSS`.
    count : float
    grads : dict of ndarray or SparseRows
        By the names of the model's `params`; empty for an evaluation. Valid until the next call.
    scale : float
    state : ndarray or tuple of ndarray or None
        Final state of the recurrent layers.
    """

    def __init__(
        self,
        engine: Engine,
        totals: Any,
        count: Any,
        scale: Any,
        grads: dict[str, Any] | None = None,
        state: State = None,
    ) -> None:
        self.totals = totals
        self.count = count
        self.grads = {} if grads is None else grads
        self.state = state
        self._engine = engine
        self.scale = scale
        self._fetched: Callable[[], npt.NDArray[np.float64]] | None = None

    def __repr__(self) -> str:
        # What the device may not have computed yet is not waited for.
        numbers = "on its device"
        if self.totals.ndim > 1:
            numbers = plural(len(self.totals), "model")
        elif self._fetched is not None or not self._engine.in_flight:
            totals = (self._fetched or self._engine.fetch(self.totals))()
            numbers = f"loss_sum={totals[LOSS]:.6g}, correct={totals[CORRECT]:g}"
        grads = f", gradients of {plural(len(self.grads), 'parameter')}" if self.grads else ""
        return f"StepResult(count={np.sum(self.count):g}, {numbers}{grads})"

    def again(self, count: Any) -> StepResult:
        """The result of the next batch when the same computation is replayed in the same memory."""
        return StepResult(self._engine, self.totals, count, self.scale, None, self.state)

    def fetch(self) -> None:
        """Start copying the totals to the host."""
        self._fetched = self._engine.fetch(self.totals)

    def number(self, index: int) -> Any:
        """One of the totals."""
        if self._fetched is None:
            self.fetch()
        assert self._fetched is not None
        found = self._fetched()[..., index]
        return found if found.ndim else float(found)

    @property
    def loss_sum(self) -> Any:
        """Sum of the losses of all predictions; of classes and tokens -log p, in nats."""
        return self.number(LOSS)

    @property
    def correct(self) -> Any:
        """Number of correct predictions."""
        found = self.number(CORRECT)
        return found.astype(np.int64) if np.ndim(found) else int(found)

    @property
    def objective(self) -> Any:
        """The loss that `grads` are the gradients of."""
        return self.loss_sum * self.scale


class Workspace:
    """Named arrays that are reused at every step; each thread has its own.

    A copy of a model gets a new, empty workspace.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._of_thread = threading.local()

    @property
    def _arrays(self) -> dict[str, Array]:
        found: dict[str, Array] = self._of_thread.__dict__
        return found

    def __reduce__(self) -> Any:
        return Workspace, (self._engine,)

    def get(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """The array called `name`, uninitialised; reallocated if shape or dtype changed."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = self._engine.empty(shape, dtype)
            self._arrays[name] = array
        return array

    def constant(self, name: str, value: npt.NDArray[Any]) -> Array:
        """An array called `name` that holds `value` and is copied to the device only once."""
        if name not in self._arrays:
            self._arrays[name] = self._engine.upload(value)
        return self._arrays[name]

    def lend(self, name: str, array: Array) -> None:
        """Have `get` return this array, as long as it is asked for one of its shape and dtype."""
        self._arrays[name] = array

    def arrays(self) -> list[Array]:
        """All arrays."""
        return list(self._arrays.values())


class Streams(NamedTuple):
    """Independent random streams of one seed."""

    weights: Generators
    dropout: Generators


def random_streams(seed: Any, models: int = 0) -> Streams:
    """Streams for the initial weights and for dropout.

    Dropout uses Philox, whose numbers a GPU can compute independently.

    Parameters
    ----------
    seed : int or None
        ``None`` takes entropy from the operating system. For many models as `lstm_numba.nn.many.generators`
        takes it.
    models : int
        With many, each of the streams is a list of one for each.
    """
    if models:
        of_each = [random_streams(one) for one in seeds(seed, models)]
        return Streams([one.weights for one in of_each], [one.dropout for one in of_each])
    weights, dropout = np.random.SeedSequence(seed).spawn(2)
    return Streams(
        np.random.Generator(np.random.PCG64(weights)), np.random.Generator(np.random.Philox(dropout))
    )


def _as_json(value: Any) -> Any:
    """A bit generator's state with lists in place of arrays."""
    if isinstance(value, Mapping):
        return {name: _as_json(item) for name, item in value.items()}
    return [int(item) for item in value] if isinstance(value, np.ndarray) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _from_json(item) for name, item in value.items()}
    return np.array(value, np.uint64) if isinstance(value, list) else value


class Model:
    """Base of the models.

    Attributes
    ----------
    params : dict of ndarray
        The parameters, updated in place, by prefixed names: ``rnn.weight_ih_l0``, ``output.weight``, ...
    rnn : Recurrent
        The recurrent layers; they draw dropout masks from `rng` too.
    rng : numpy.random.Generator
        Draws the dropout masks; of many models a list of one for each.
    dropout, output_dropout : float
        Probability of dropping between the recurrent layers, and before the output.
    dropout_kind : {"element", "sequence"}
    dtype : dtype
    device : {"cpu", "cuda"}
    engine : Engine
        Engine of the device.
    """

    def __init__(
        self,
        network: Network,
        rnn: Recurrent,
        params: Mapping[str, dict[str, Array]],
        streams: Streams,
        device: str,
        **sizes: Any,
    ) -> None:
        self.rnn = rnn
        self.rng = streams.dropout
        rnn.rng = streams.dropout
        self.dropout, self.dropout_kind = rnn.dropout, check_kind(network.dropout_kind)
        self.output_dropout = self._rate("output_dropout", network.output_dropout)
        self.dtype = rnn.dtype
        checked = {"dropout": self.dropout, "weight_drop": rnn.weight_drop, "dtype": self.dtype.name}
        self._config = {**sizes, **network._asdict(), **checked}
        self._parts = params
        self._collect_params()
        self._initialise(network, streams.weights)
        self.to(device)

    def _rate(self, name: str, value: float | None) -> float:
        """A probability of dropping; that between the layers where it is None."""
        return self.dropout if value is None else check_probability(value, name)

    def __repr__(self) -> str:
        lines = [f"({part}): {getattr(self, part)!r}" for part in self._parts]
        where = "" if self.device == "cpu" else f", on {self.device}"
        lines += [*self._facts(), f"parameters: {self.parameter_count:,}{where}"]
        return "\n  ".join([f"{type(self).__name__}(", *lines]) + "\n)"

    def _facts(self) -> list[str]:
        """Lines of the model's text beside its parts."""
        return []

    def _collect_params(self) -> None:
        """Name the parameters of all parts; a shared array is listed under its first name only."""
        self.engine, self.device = self.rnn.engine, self.rnn.device
        self.workspace = Workspace(self.engine)
        named = {
            f"{part}.{name}": array for part, arrays in self._parts.items() for name, array in arrays.items()
        }
        first = {id(array): name for name, array in reversed(named.items())}
        self.params: dict[str, Array] = {n: array for n, array in named.items() if first[id(array)] == n}

    def to(self: M, device: str) -> M:
        """Move the model to a device: its parameters become new arrays, shared ones stay shared.

        Parameters
        ----------
        device : {"cpu", "cuda"}

        Returns
        -------
        Model
            The model itself.

        Raises
        ------
        DeviceError
            CUDA cannot be used here.
        ValueError
            There are many models: of these only recurrent layers alone are computed by CUDA so far.
        """
        if self.models and device != "cpu":
            raise ValueError(f"device: expected cpu beside models={self.models}, got {device}")
        target, before = engine(device), self.engine
        if target is not before:
            self.rnn.to(device)
            moved: dict[int, Array] = {}
            for part in self._parts.values():
                if part is not self.rnn.params:
                    for name, array in part.items():
                        if id(array) not in moved:
                            moved[id(array)] = target.upload(before.download(array))
                        part[name] = moved[id(array)]
            self._collect_params()
        return self

    @property
    def parameter_count(self) -> int:
        """Number of trainable parameters."""
        return sum(array.size for array in self.params.values())

    def config(self) -> dict[str, Any]:
        """Constructor arguments, as JSON can hold them, but for seed and device."""
        return dict(self._config)

    @classmethod
    def from_config(
        cls: type[M], config: Mapping[str, Any], seed: int | None = None, device: str = "cpu"
    ) -> M:
        """Make a model of what `config` gave."""
        return cls(**config, seed=seed, device=device)

    def zero_state(self, batch: int) -> State:
        """Initial state of a sequence."""
        return self.rnn.zero_state(batch)

    def place(
        self, batch: Any, gradient: bool = True, fixed: bool = False, out: Placed | None = None
    ) -> Placed:
        """Copy a batch to the engine's memory.

        Parameters
        ----------
        batch : SequenceBatch or TokenBatch
        gradient : bool
            Whether the result is for `learn`.
        fixed : bool
            Make all arrays of a step the same size for all batches of one shape.
        out : Placed, optional
            The result for an earlier batch of that shape, with `fixed`; it is overwritten.
        """
        raise NotImplementedError

    def predictions(self, batch: Any) -> float:
        """Number of predictions in a batch, or the sum of their weights."""
        raise NotImplementedError

    def loss_and_gradients(self, batch: Any, state: State = None) -> StepResult:
        """Loss and gradients of a batch, with dropout."""
        return self.learn(self.place(batch), state)

    def learn(self, placed: Placed, state: State = None, ready: Ready | None = None) -> StepResult:
        """`loss_and_gradients` of a batch from `place`; `ready` is given each gradient when it is final."""
        raise NotImplementedError

    def evaluate(self, batch: Any, state: State = None) -> StepResult:
        """Loss of a batch, without dropout and gradients."""
        raise NotImplementedError

    def _of_rnn(self, ready: Ready | None) -> Ready | None:
        """What the recurrent layers call for `ready`, which knows their parameters by the model's names."""
        if ready is None:
            return None
        return lambda grads: ready({f"rnn.{name}": gradient for name, gradient in grads.items()})

    def gradient_places(self) -> dict[str, str]:
        """Gradients that are computed in the workspace: the parameter's name -> the name there."""
        return {}

    def load_params(self, params: Mapping[str, Array]) -> None:
        """Copy parameters from NumPy arrays into `params`.

        Raises
        ------
        ValueError, TypeError
            A parameter is missing, unknown or no array, or its shape or dtype does not fit. No parameter is
            changed then.
        """
        mismatched = sorted(params.keys() ^ self.params.keys())
        if mismatched:
            unknown = [name for name in mismatched if name in params]
            if not unknown:
                raise ValueError(f"params: {mismatched[0]} is missing")
            hint = nearest(unknown[0], self.params) or f"; there are {', '.join(self.params)}"
            raise ValueError(f"params: {unknown[0]} is unknown{hint}")
        check_arrays("params", params, self.params)
        for name, array in self.params.items():
            self.engine.upload(params[name], out=array)

    @property
    def models(self) -> int | None:
        """How many models there are on a leading axis; None for one without it."""
        return self.rnn.models

    def model(self: M, n: int) -> M:
        """One of many models as one of its own, whose parameters and generator are views of this one's."""
        return self._of(self.rnn.model(n), lambda array: array[n])

    def select(self: M, indices: Sequence[int]) -> M:
        """Some of many models, with copies of their parameters."""

        def chosen(array: Array) -> Array:
            found = self.engine.empty((len(indices), *array.shape[1:]), array.dtype)
            for k, n in enumerate(indices):
                self.engine.assign(found[k], array[n])
            return found

        return self._of(self.rnn.select(indices), chosen)

    def _of(self: M, rnn: Recurrent, pick: Callable[[Array], Array]) -> M:
        """A model that differs in its parameters, and in how many models it is."""
        other, parts = copy.copy(self), {}
        for part, arrays in self._parts.items():
            if arrays is self.rnn.params:
                other.rnn, parts[part] = rnn, rnn.params
            else:
                layer = copy.copy(getattr(self, part))
                layer.params = {name: pick(array) for name, array in arrays.items()}
                setattr(other, part, layer)
                parts[part] = layer.params
        other._parts, other.rng = parts, rnn.rng
        other._config = {name: value for name, value in self._config.items() if name != "models"}
        if rnn.models:
            other._config["models"] = rnn.models
        other._collect_params()
        return other

    def rng_state(self) -> Any:
        """State of the dropout generator, or a list of those of many models, as JSON values."""
        if isinstance(self.rng, list):
            return [_as_json(one.bit_generator.state) for one in self.rng]
        return _as_json(self.rng.bit_generator.state)

    def set_rng_state(self, state: Any) -> None:
        """Restore a state from `rng_state`."""
        if isinstance(self.rng, list):
            for one, its_state in zip(self.rng, state, strict=True):
                one.bit_generator.state = _from_json(its_state)
        else:
            self.rng.bit_generator.state = _from_json(state)

    def _initialise(self, network: Network, weights: Generators) -> None:
        """Draw all parameters from U(-init_range, init_range) if given; raise the forget biases."""
        init_range, forget_bias = network.init_range, network.forget_bias
        if init_range is not None:
            if network.init != "uniform":
                raise ValueError(f"init_range: expected None beside init {network.init}, got {init_range}")
            if not (math.isfinite(init_range) and init_range > 0):
                raise ValueError(f"init_range: expected a positive number, got {init_range}")
            for array in self.params.values():
                for one, rng in zip(array, weights, strict=True) if self.models else [(array, weights)]:
                    one[...] = rng.uniform(-init_range, init_range, one.shape)
        if forget_bias:
            if not network.bias:
                raise ValueError(f"forget_bias: expected 0 beside bias=False, got {forget_bias}")
            gates, heads = self.rnn.cell.gates, self.rnn.heads
            if "f" not in gates:
                raise ValueError(f"forget_bias: {display_name(self.rnn.plain_cell)} has no forget gate")
            width = self.rnn.hidden_size // heads
            for name, array in self.rnn.params.items():
                if name.startswith("bias_ih"):
                    for head in range(heads):
                        first = (head * len(gates) + gates.index("f")) * width
                        array[..., first : first + width] += array.dtype.type(forget_bias)
