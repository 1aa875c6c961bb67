"""What all models share: parameters by name, random streams, reused memory, batches and results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lstm_numba.cpu.arrays import aligned_empty
from lstm_numba.embedding import SparseRows
from lstm_numba.layers import Recurrent

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


@dataclass(frozen=True)
class StepResult:
    """What came of a batch.

    Attributes
    ----------
    objective : float
        What the gradients are gradients of.
    loss_sum : float
        Sum of -log p over everything predicted, in nats.
    count : int
        Number of predictions.
    correct : int
        Predictions whose likeliest answer was right.
    grads : dict of ndarray or SparseRows
        By the names of the model's `params`; empty where none were asked for. Valid until the next call.
    state : ndarray or tuple of ndarray or None
        The recurrent layers' state at the end.
    """

    objective: float
    loss_sum: float
    count: int
    correct: int
    grads: dict[str, Array | SparseRows]
    state: State


class Workspace:
    """Arrays that are used again at every step, so that training does not allocate megabytes each time."""

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """The array called `name`, with whatever it held; made anew where shape or dtype changed."""
        array = self._arrays.get(name)
        if array is None or array.shape != shape or array.dtype != dtype:
            array = aligned_empty(shape, dtype)
            self._arrays[name] = array
        return array


class Streams(NamedTuple):
    """Independent random streams of one seed."""

    weights: np.random.Generator
    dropout: np.random.Generator


def random_streams(seed: int | None) -> Streams:
    """Streams for the initial weights and for dropout.

    Parameters
    ----------
    seed : int or None
        ``None`` takes a new one from the operating system.
    """
    return Streams(*(np.random.Generator(np.random.PCG64(s)) for s in np.random.SeedSequence(seed).spawn(2)))


class Model:
    """Base of the models.

    Attributes
    ----------
    params : dict of ndarray
        Live arrays by prefixed names: ``rnn.weight_ih_l0``, ``output.weight``, ...
    rnn : Recurrent
        The recurrent layers; they draw dropout masks from `rng` too.
    rng : numpy.random.Generator
        Draws the dropout masks.
    dtype : dtype
    """

    def __init__(self, rnn: Recurrent, params: Mapping[str, Mapping[str, Array]], streams: Streams) -> None:
        self.rnn = rnn
        self.rng = streams.dropout
        rnn.rng = streams.dropout
        self.dtype = rnn.dtype
        self.params: dict[str, Array] = {
            f"{part}.{name}": array for part, arrays in params.items() for name, array in arrays.items()
        }
        self.workspace = Workspace()

    @property
    def parameter_count(self) -> int:
        """Number of numbers that training learns."""
        return sum(array.size for array in self.params.values())

    def config(self) -> dict[str, Any]:
        """Constructor arguments, as JSON can hold them, but for the seed."""
        raise NotImplementedError

    def zero_state(self, batch: int) -> State:
        """State that a sequence starts from."""
        return self.rnn.zero_state(batch)

    def loss_and_gradients(self, batch: Any, state: State = None) -> StepResult:
        """Train on a batch: dropout is on, gradients are computed."""
        raise NotImplementedError

    def evaluate(self, batch: Any, state: State = None) -> StepResult:
        """Predict a batch without dropout and without gradients."""
        raise NotImplementedError

    def load_params(self, params: Mapping[str, Array]) -> None:
        """Copy parameters in.

        Raises
        ------
        ValueError
            A parameter is missing or unknown, or its shape or dtype does not fit; nothing is changed then.
        """
        odd = sorted(params.keys() ^ self.params.keys())
        if odd:
            raise ValueError(f"params: {odd[0]} is {'unknown' if odd[0] in params else 'missing'}")
        for name, array in self.params.items():
            new = params[name]
            if new.shape != array.shape or new.dtype != array.dtype:
                raise ValueError(
                    f"params: expected {array.dtype} {array.shape} for {name}, got {new.dtype} {new.shape}"
                )
        for name, array in self.params.items():
            array[...] = params[name]

    def rng_state(self) -> dict[str, Any]:
        """State of the dropout stream, as JSON can hold it."""
        state: dict[str, Any] = dict(self.rng.bit_generator.state)
        return state

    def set_rng_state(self, state: Mapping[str, Any]) -> None:
        """Take up what `rng_state` gave."""
        self.rng.bit_generator.state = dict(state)

    def _initialise(self, init_range: float | None, forget_bias: float, weights: np.random.Generator) -> None:
        """Draw all parameters from U(-init_range, init_range) if asked for; raise the forget biases."""
        if init_range is not None:
            if not (math.isfinite(init_range) and init_range > 0):
                raise ValueError(f"init_range: expected a positive number, got {init_range}")
            for array in self.params.values():
                array[...] = weights.uniform(-init_range, init_range, array.shape)
        if forget_bias:
            gates = self.rnn.cell.gates
            if "f" not in gates:
                raise ValueError(f"forget_bias: {type(self.rnn.cell).__name__} has no forget gate")
            first = gates.index("f") * self.rnn.hidden_size
            for name, array in self.rnn.params.items():
                if name.startswith("bias_ih"):
                    array[first : first + self.rnn.hidden_size] += array.dtype.type(forget_bias)
