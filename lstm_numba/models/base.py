"""Shared by all models: parameters by name, random streams, reused memory, batches and results."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.arguments import check_arrays
from lstm_numba.cells import display_name
from lstm_numba.engines import engine
from lstm_numba.engines.base import CORRECT, LOSS, Engine
from lstm_numba.nn.recurrent import Recurrent

Array = npt.NDArray[Any]
#: State of the recurrent layers: one array or a tuple of arrays.
State = Any


class SequenceBatch(NamedTuple):
    """Sequences and their classes.

    Attributes
    ----------
    x : ndarray (T, B, I)
    labels : ndarray (B,), int
    lengths : ndarray (B,), int, optional
        True lengths of padded sequences.
    """

    x: Array
    labels: Array
    lengths: Array | None = None


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
        A sequence (T, B, I), or tokens (T, B) as returned by ``Engine.tokens``.
    targets : object
        From ``Engine.targets``.
    predictions : int
        Number of targets of nonzero weight.
    lengths : ndarray (B,), int, optional
    """

    inputs: Any
    targets: Any
    predictions: int
    lengths: Array | None = None


class StepResult:
    """Results of a batch; the first access to a number waits for the device.

    Parameters
    ----------
    engine : Engine
        Engine of the totals.
    totals : ndarray
        From ``Engine.totals``, filled by ``Engine.cross_entropy``.
    count : int
        Number of predictions.
    scale : float
        The objective is the summed loss times this.
    grads : dict, optional
    state : optional

    Attributes
    ----------
    totals : ndarray
        In the engine's memory, indexed by `lstm_numba.engines.base.LOSS` and the others.
    count : int
    grads : dict of ndarray or SparseRows
        Keys as in the model's `params`; empty after `evaluate`. Valid until the model's next call.
    state : ndarray or tuple of ndarray or None
        Final state of the recurrent layers.
    """

    def __init__(
        self,
        engine: Engine,
        totals: Any,
        count: int,
        scale: float,
        grads: dict[str, Any] | None = None,
        state: State = None,
    ) -> None:
        self.totals = totals
        self.count = count
        self.grads = {} if grads is None else grads
        self.state = state
        self._engine = engine
        self._scale = scale
        self._fetched: Callable[[], npt.NDArray[np.float64]] | None = None

    def again(self, count: int) -> StepResult:
        """The result of another batch, when a recorded step is repeated in the same memory."""
        return StepResult(self._engine, self.totals, count, self._scale, None, self.state)

    def fetch(self) -> None:
        """Start copying the totals to the host, with their present values."""
        self._fetched = self._engine.fetch(self.totals)

    def number(self, index: int) -> float:
        """One of the totals."""
        if self._fetched is None:
            self.fetch()
        assert self._fetched is not None
        return float(self._fetched()[index])

    @property
    def loss_sum(self) -> float:
        """Sum of -log p over all predictions, in nats."""
        return self.number(LOSS)

    @property
    def correct(self) -> int:
        """Number of predictions whose most likely class was right."""
        return int(self.number(CORRECT))

    @property
    def objective(self) -> float:
        """The loss that `grads` are the gradients of."""
        return self.loss_sum * self._scale


class Workspace:
    """Arrays reused by every training step instead of being allocated each time.

    A copy of a model gets its own, empty workspace.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._arrays: dict[str, Array] = {}

    def __reduce__(self) -> Any:
        return Workspace, (self._engine,)

    def get(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """The array called `name`, with its old values; a new one if shape or dtype changed."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = self._engine.empty(shape, dtype)
            self._arrays[name] = array
        return array

    def arrays(self) -> list[Array]:
        """All arrays."""
        return list(self._arrays.values())


class Streams(NamedTuple):
    """Independent random streams of one seed."""

    weights: np.random.Generator
    dropout: np.random.Generator


def random_streams(seed: int | None) -> Streams:
    """Streams for the initial weights and for dropout.

    Dropout's is a Philox, a counter-based generator: a GPU can compute any of its numbers independently.

    Parameters
    ----------
    seed : int or None
        ``None`` takes entropy from the operating system.
    """
    weights, dropout = np.random.SeedSequence(seed).spawn(2)
    return Streams(
        np.random.Generator(np.random.PCG64(weights)), np.random.Generator(np.random.Philox(dropout))
    )


def _as_json(value: Any) -> Any:
    """A bit generator's state with arrays of 64-bit integers as lists."""
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
        Draws the dropout masks.
    dtype : dtype
    device : {"cpu", "cuda"}
    engine : Engine
        Engine of the device.
    """

    def __init__(self, rnn: Recurrent, params: Mapping[str, dict[str, Array]], streams: Streams) -> None:
        self.rnn = rnn
        self.rng = streams.dropout
        rnn.rng = streams.dropout
        self.dtype = rnn.dtype
        self._parts = params
        self._collect_params()

    def _collect_params(self) -> None:
        """Set `params` from all parts; an array that two parts share gets its first name only."""
        self.engine, self.device = self.rnn.engine, self.rnn.device
        self.workspace = Workspace(self.engine)
        named = {
            f"{part}.{name}": array for part, arrays in self._parts.items() for name, array in arrays.items()
        }
        first = {id(array): name for name, array in reversed(named.items())}
        self.params: dict[str, Array] = {n: array for n, array in named.items() if first[id(array)] == n}

    def to(self, device: str) -> Model:
        """Move the model to a device, as new arrays in `params`; tied parameters stay tied.

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
        """
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
        """Number of trainable parameters, tied ones counted once."""
        return sum(array.size for array in self.params.values())

    def config(self) -> dict[str, Any]:
        """Constructor arguments except seed and device, as JSON values."""
        raise NotImplementedError

    def zero_state(self, batch: int) -> State:
        """Initial state of zeros for `batch` sequences."""
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
            Make all array sizes depend on the shape of the batch alone, for a recorded step.
        out : Placed, optional
            Earlier result with `fixed` for a batch of the same shape, to overwrite.
        """
        raise NotImplementedError

    def loss_and_gradients(self, batch: Any, state: State = None) -> StepResult:
        """Loss and gradients of a batch, with dropout; changes no parameter."""
        return self.learn(self.place(batch), state)

    def learn(self, placed: Placed, state: State = None) -> StepResult:
        """As `loss_and_gradients`, for a batch from `place`."""
        raise NotImplementedError

    def evaluate(self, batch: Any, state: State = None) -> StepResult:
        """Loss of a batch, without dropout and gradients."""
        raise NotImplementedError

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
            name = mismatched[0]
            raise ValueError(f"params: {name} is {'unknown' if name in params else 'missing'}")
        check_arrays("params", params, self.params)
        for name, array in self.params.items():
            self.engine.upload(params[name], out=array)

    def rng_state(self) -> dict[str, Any]:
        """State of the dropout generator, as JSON values."""
        return _as_json(self.rng.bit_generator.state)

    def set_rng_state(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `rng_state`."""
        self.rng.bit_generator.state = _from_json(state)

    def _initialise(self, init_range: float | None, forget_bias: float, weights: np.random.Generator) -> None:
        """Draw parameters from U(-init_range, init_range) unless None; add `forget_bias` to forget gates."""
        if init_range is not None:
            if not (math.isfinite(init_range) and init_range > 0):
                raise ValueError(f"init_range: expected a positive number, got {init_range}")
            for array in self.params.values():
                array[...] = weights.uniform(-init_range, init_range, array.shape)
        if forget_bias:
            gates = self.rnn.cell.gates
            if "f" not in gates:
                raise ValueError(f"forget_bias: {display_name(self.rnn.cell)} has no forget gate")
            first = gates.index("f") * self.rnn.hidden_size
            for name, array in self.rnn.params.items():
                if name.startswith("bias_ih"):
                    array[first : first + self.rnn.hidden_size] += array.dtype.type(forget_bias)
