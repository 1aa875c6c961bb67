"""The interface of an implementation, the problem that all of them solve, and those of this library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from lstm_numba.benchmarks.cases import Blocks, Shape
from lstm_numba.engines import find_cuda, host_array
from lstm_numba.engines.cpu.threads import set_thread_count
from lstm_numba.kernels.stream import Stream
from lstm_numba.nn.layers import make_layer

Array = np.ndarray[Any, Any]


class Problem:
    """Weights, input and output gradient for every implementation, the same for the same arguments.

    Parameters
    ----------
    cell : str
        As `lstm_numba.make_layer` takes it.
    shape : Shape
    task : {"inference", "training", "streaming"}
    dtype : str
        "float32" or "float64".

    Attributes
    ----------
    params : dict of ndarray
        Parameters under PyTorch's names.
    blocks : Blocks
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
        self.blocks = Blocks.of(layer.cell)
        self.x = draw(shape.steps, shape.batch, shape.inputs)
        self.dy = draw(shape.steps, shape.batch, shape.hidden)
        self.state = {name: 0.5 * draw(1, shape.batch, shape.hidden) for name in layer.cell.states}
        if "n" in self.state:  # the normaliser of an sLSTM, which is divided by, is a sum of positive numbers
            self.state["n"] = np.abs(self.state["n"]) + np.dtype(dtype).type(0.5)


class Implementation:
    """Computes a problem's task; subclasses say how.

    A call is a whole sequence (inference), the forward and backward pass of a whole sequence (training), or
    one step whose state the next call continues from (streaming).

    Parameters
    ----------
    problem : Problem
    threads : int
        Number of CPU threads.
    """

    name: ClassVar[str]
    #: Implementations of the same family share code, so that their agreement proves less.
    family: ClassVar[str]

    @classmethod
    def missing(cls) -> str:
        """Why it cannot run on this computer; empty if it can."""
        return ""

    @classmethod
    def lacks(cls, cell: str, task: str, dtype: str) -> bool:
        """Whether it does not support this cell, task or precision."""
        return False

    def __init__(self, problem: Problem, threads: int) -> None:
        self.threads = threads
        self.call: Callable[[], Any] = {
            "inference": self.infer,
            "training": self.train,
            "streaming": self.step,
        }[problem.task]

    def start(self) -> None:
        """Set the number of threads; called before every repeat."""

    def finish(self) -> None:
        """Wait until all calls are computed; called before the clock is read."""

    def kernels(self) -> list[str]:
        """Which kernels a call runs and why, a line each; empty where there is nothing to choose.

        It calls once more to find out.
        """
        return []

    def infer(self) -> Any:
        """Forward pass over the whole sequence."""
        raise NotImplementedError

    def train(self) -> Any:
        """Forward and backward pass: gradients of input, initial state and parameters."""
        raise NotImplementedError

    def rewind(self) -> None:
        """Return to the initial state and to the first step's input."""
        raise NotImplementedError

    def feed(self, step: int) -> None:
        """Choose the time step whose input `step` reads."""
        raise NotImplementedError

    def step(self) -> Any:
        """Advance by one time step from the state of the last call."""
        raise NotImplementedError

    def arrays(self, result: Any) -> dict[str, Array]:
        """The arrays in what a call returned, by name.

        Returns
        -------
        dict of ndarray
            "y"; for training also the gradients: "dx", "dh", "dc", and "d" with each parameter's name.
        """
        raise NotImplementedError


class Ours(Implementation):
    """This library's layers; subclasses say on which device."""

    family = "lstm_numba"
    device: ClassVar[str]

    def __init__(self, problem: Problem, threads: int) -> None:
        super().__init__(problem, threads)
        shape, dtype = problem.shape, problem.dtype
        self._layer = make_layer(problem.cell, shape.inputs, shape.hidden, dtype=dtype, device=self.device)
        self._layer.load_state_dict(problem.params)
        if problem.task == "inference":  # constant weights, as ONNX Runtime's are
            self._layer.freeze()
        self._x, self._dy = self._place(problem.x), self._place(problem.dy)
        values = tuple(self._place(value) for value in problem.state.values())
        self._state = values if len(values) > 1 else values[0]
        self._gradients = [f"d{name}" for name in problem.state]

    def _place(self, array: Array) -> Any:
        """The array on the device that the implementation takes it from."""
        return array

    def infer(self) -> Any:
        """See `Implementation.infer`."""
        return self._layer(self._x, self._state)[0]

    def train(self) -> Any:
        """See `Implementation.train`."""
        y, _, saved = self._layer.forward(self._x, self._state)
        return y, *self._layer.backward(saved, self._dy)

    def arrays(self, result: Any) -> dict[str, Array]:
        """See `Implementation.arrays`."""
        if not isinstance(result, tuple):
            # A single step's output has no time axis, and the next step overwrites it.
            return {"y": host_array(result) if result.ndim == 3 else result[None].copy()}
        y, dx, dstate, grads = result
        initial = dstate if isinstance(dstate, tuple) else (dstate,)
        named = dict(zip(self._gradients, initial, strict=True))
        found = {"y": y, "dx": dx, **named, **{f"d{name}": grad for name, grad in grads.items()}}
        return {name: host_array(array) for name, array in found.items()}


class Cpu(Ours):
    """On the CPU."""

    device = "cpu"

    def __init__(self, problem: Problem, threads: int) -> None:
        super().__init__(problem, threads)
        self.rewind()

    def start(self) -> None:
        """See `Implementation.start`."""
        set_thread_count(self.threads)

    def rewind(self) -> None:
        """See `Implementation.rewind`."""
        self._stream = Stream(self._layer, batch=self._x.shape[1])
        self._stream.reset(self._state)
        self.feed(0)

    def feed(self, step: int) -> None:
        """See `Implementation.feed`."""
        self._now = self._x[step]

    def step(self) -> Any:
        """See `Implementation.step`."""
        return self._stream.step(self._now)


class CpuSerial(Cpu):
    """On one thread."""

    name = "cpu-serial"

    def __init__(self, problem: Problem, threads: int) -> None:
        super().__init__(problem, 1)


class CpuParallel(Cpu):
    """On all threads of the row."""

    name = "cpu-parallel"


class Cuda(Ours):
    """On the GPU; all arrays are and stay in its memory.

    A call returns once its kernels are enqueued, as calls in a training do: `finish` waits for them.
    """

    name = "cuda"
    device = "cuda"
    #: Whether CUDA's simulator counts as a device: in tests only, as its times mean nothing.
    in_simulator: ClassVar[bool] = False

    @classmethod
    def missing(cls) -> str:
        """See `Implementation.missing`."""
        found = find_cuda()
        if not found.available:
            return found.text
        from lstm_numba.engines.cuda.driver import SIMULATED

        return "CUDA's simulator is not timed" if SIMULATED and not cls.in_simulator else ""

    @classmethod
    def lacks(cls, cell: str, task: str, dtype: str) -> bool:
        """See `Implementation.lacks`."""
        return task == "streaming"  # `Stream` is for the CPU only

    def _place(self, array: Array) -> Any:
        return self._layer.engine.upload(array)

    def finish(self) -> None:
        """See `Implementation.finish`."""
        from lstm_numba.engines.cuda.memory import synchronize

        synchronize()

    def kernels(self) -> list[str]:
        """See `Implementation.kernels`."""
        from lstm_numba.engines.cuda.plans import reasons

        with reasons() as found:
            self.call()
        self.finish()
        return found


class CudaTransfers(Cuda):
    """The same with NumPy arrays: input, states and gradients are copied to the device, and results back.

    For data in host memory. Parameters and their gradients stay on the device, where the optimizer needs
    them.
    """

    name = "cuda-transfers"

    def _place(self, array: Array) -> Any:
        return array
