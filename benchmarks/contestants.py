"""What a contestant is, the problem that all of them get, and this library's own contestants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from lstm_numba.benchmarks.plan import Shape
from lstm_numba.layers import make_layer
from lstm_numba.stream import Stream

Array = np.ndarray[Any, Any]


class Problem:
    """Weights, input and gradient that every contestant gets, the same for the same arguments.

    Parameters
    ----------
    cell : str
        One of `lstm_numba.layers.CELL_NAMES`.
    shape : Shape
    task : {"inference", "training", "streaming"}
    dtype : str
        "float32" or "float64".

    Attributes
    ----------
    params : dict of ndarray
        Parameters under PyTorch's names.
    x, dy : ndarray, shapes (T, B, I) and (T, B, H)
        Input, and gradient of the loss with respect to the output.
    state : dict of ndarray, shape (1, B, H)
        Initial state by name: h, or h and c.
    """

    def __init__(self, cell: str, shape: Shape, task: str, dtype: str) -> None:
        self.cell, self.shape, self.task, self.dtype = cell, shape, task, dtype
        layer = make_layer(cell, shape.inputs, shape.hidden, dtype=dtype, seed=0)
        rng = np.random.default_rng(1)

        def draw(*size: int) -> Array:
            return rng.standard_normal(size).astype(dtype)

        self.params = layer.params
        self.gates = len(layer.cell.gates)
        self.x = draw(shape.steps, shape.batch, shape.inputs)
        self.dy = draw(shape.steps, shape.batch, shape.hidden)
        self.state = {name: 0.5 * draw(1, shape.batch, shape.hidden) for name in layer.cell.states}


class Contestant:
    """Computes a problem's task; a subclass names itself and says how.

    A call is a whole sequence (inference), a whole sequence forth and back (training), or one step that
    leaves its state for the next one (streaming).

    Parameters
    ----------
    problem : Problem
    threads : int
        Threads that it may compute with.
    """

    name: ClassVar[str]
    #: Contestants of one family share code, so that their agreement proves less.
    family: ClassVar[str]

    @classmethod
    def missing(cls) -> str:
        """Why it cannot take part on this computer; empty if it can."""
        return ""

    @classmethod
    def lacks(cls, cell: str, task: str, dtype: str) -> bool:
        """Whether it has no such cell, task or precision."""
        return False

    def __init__(self, problem: Problem, threads: int) -> None:
        self.threads = threads
        self.call: Callable[[], Any] = {
            "inference": self.infer,
            "training": self.train,
            "streaming": self.step,
        }[problem.task]

    def start(self) -> None:
        """Take the number of threads; called before every turn."""

    def infer(self) -> Any:
        """Read the whole sequence."""
        raise NotImplementedError

    def train(self) -> Any:
        """Read the whole sequence; gradients of input, initial state and parameters."""
        raise NotImplementedError

    def rewind(self) -> None:
        """Go back to the initial state and to the first step's input."""
        raise NotImplementedError

    def feed(self, step: int) -> None:
        """Make the input of that step the one that `step` reads."""
        raise NotImplementedError

    def step(self) -> Any:
        """Read one step's input from the state that the last call left."""
        raise NotImplementedError

    def arrays(self, result: Any) -> dict[str, Array]:
        """Name what a call returned.

        Returns
        -------
        dict of ndarray
            "y"; for training also the gradients: "dx", "dh", "dc", and "d" with each parameter's name.
        """
        raise NotImplementedError


class Cpu(Contestant):
    """This library on the processor."""

    family = "lstm_numba"

    def __init__(self, problem: Problem, threads: int) -> None:
        super().__init__(problem, threads)
        shape = problem.shape
        self._layer = make_layer(problem.cell, shape.inputs, shape.hidden, dtype=problem.dtype)
        self._layer.load_state_dict(problem.params)
        self._x, self._dy = problem.x, problem.dy
        values = tuple(problem.state.values())
        self._state = values if len(values) > 1 else values[0]
        self._gradients = [f"d{name}" for name in problem.state]
        self.rewind()

    def start(self) -> None:
        """See `Contestant.start`."""
        import numba

        numba.set_num_threads(self.threads)

    def infer(self) -> Any:
        """See `Contestant.infer`."""
        return self._layer(self._x, self._state)[0]

    def train(self) -> Any:
        """See `Contestant.train`."""
        y, _, tape = self._layer.forward(self._x, self._state)
        return y, *self._layer.backward(tape, self._dy)

    def rewind(self) -> None:
        """See `Contestant.rewind`."""
        self._stream = Stream(self._layer, batch=self._x.shape[1])
        self._stream.reset(self._state)
        self.feed(0)

    def feed(self, step: int) -> None:
        """See `Contestant.feed`."""
        self._now = self._x[step]

    def step(self) -> Any:
        """See `Contestant.step`."""
        return self._stream.step(self._now)

    def arrays(self, result: Any) -> dict[str, Array]:
        """See `Contestant.arrays`."""
        if not isinstance(result, tuple):
            return {"y": result if result.ndim == 3 else result[None].copy()}
        y, dx, dstate, grads = result
        initial = dstate if isinstance(dstate, tuple) else (dstate,)
        named = dict(zip(self._gradients, initial, strict=True))
        return {"y": y, "dx": dx, **named, **{f"d{name}": grad for name, grad in grads.items()}}


class CpuSerial(Cpu):
    """On one thread."""

    name = "cpu-serial"

    def __init__(self, problem: Problem, threads: int) -> None:
        super().__init__(problem, 1)


class CpuParallel(Cpu):
    """On all the threads that the row has."""

    name = "cpu-parallel"


class Cuda(Contestant):
    """On the graphics processor: a place that is kept for it."""

    name = "cuda"
    family = "lstm_numba"

    @classmethod
    def missing(cls) -> str:
        """See `Contestant.missing`."""
        return "not available in this version"
