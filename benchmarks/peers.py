"""The peers: PyTorch and ONNX Runtime, as users call them from Python; PyTorch also on a GPU."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

from lstm_numba.benchmarks.implementations import Array, Implementation, Problem
from lstm_numba.interop.onnx.layer_export import node_of, recurrent_model

#: Cell -> class in ``torch.nn`` and its options.
_TORCH = {
    "lstm": ("LSTM", {}),
    "gru": ("GRU", {}),
    "rnn": ("RNN", {}),
    "rnn-relu": ("RNN", {"nonlinearity": "relu"}),
}


class PyTorch(Implementation):
    """``torch.nn.LSTM``, ``GRU`` and ``RNN``; gradients by ``torch.autograd.grad``."""

    name = family = "pytorch"
    device: ClassVar[str] = "cpu"

    @classmethod
    def missing(cls) -> str:
        """See `Implementation.missing`."""
        return "" if find_spec("torch") else "not installed"

    @classmethod
    def lacks(cls, cell: str, task: str, dtype: str) -> bool:
        """See `Implementation.lacks`."""
        return cell not in _TORCH

    def __init__(self, problem: Problem, threads: int) -> None:
        super().__init__(problem, threads)
        import torch

        self._torch = torch
        kind, options = _TORCH[problem.cell]
        shape = problem.shape
        dtype = getattr(torch, problem.dtype)
        self._layer = getattr(torch.nn, kind)(shape.inputs, shape.hidden, dtype=dtype, **options)
        self._layer.to(self.device)
        self._layer.load_state_dict({name: self._tensor(p) for name, p in problem.params.items()})
        self._x, self._dy = self._tensor(problem.x), self._tensor(problem.dy)
        self._initial = [self._tensor(state) for state in problem.state.values()]
        self._names = ["dx", *(f"d{name}" for name in (*problem.state, *problem.params))]
        if problem.task == "training":
            for leaf in (self._x, *self._initial):
                leaf.requires_grad_()
            # In the problem's order, which is that of the names.
            weights = dict(self._layer.named_parameters())
            self._leaves = [self._x, *self._initial, *(weights[name] for name in problem.params)]
        self._state = self._pack(self._initial)
        self.rewind()

    def _tensor(self, array: Array) -> Any:
        return self._torch.from_numpy(array.copy()).to(self.device)

    @staticmethod
    def _pack(state: list[Any]) -> Any:
        return tuple(state) if len(state) > 1 else state[0]

    def start(self) -> None:
        """See `Implementation.start`."""
        if self._torch.get_num_threads() != self.threads:
            self._torch.set_num_threads(self.threads)

    def infer(self) -> Any:
        """See `Implementation.infer`."""
        with self._torch.inference_mode():
            return self._layer(self._x, self._state)[0]

    def train(self) -> Any:
        """See `Implementation.train`."""
        y = self._layer(self._x, self._state)[0]
        return y, self._torch.autograd.grad(y, self._leaves, self._dy)

    def rewind(self) -> None:
        """See `Implementation.rewind`."""
        self._current = self._state
        self.feed(0)

    def feed(self, step: int) -> None:
        """See `Implementation.feed`."""
        self._now = self._x[step : step + 1]

    def step(self) -> Any:
        """See `Implementation.step`."""
        with self._torch.inference_mode():
            y, self._current = self._layer(self._now, self._current)
            return y

    def arrays(self, result: Any) -> dict[str, Array]:
        """See `Implementation.arrays`."""
        if not isinstance(result, tuple):
            return {"y": result.cpu().numpy()}
        y, gradients = result
        named = zip(self._names, gradients, strict=True)
        return {"y": y.detach().cpu().numpy(), **{name: gradient.cpu().numpy() for name, gradient in named}}


class PyTorchCuda(PyTorch):
    """The same on a GPU, where cuDNN computes; float32 is float32, not TF32."""

    name = "pytorch-cuda"
    family = "cudnn"  # shares no kernel with PyTorch's layers on the CPU
    device = "cuda"

    @classmethod
    def missing(cls) -> str:
        """See `Implementation.missing`."""
        if not find_spec("torch"):
            return "not installed"
        import torch

        if torch.version.cuda is None:
            return "this PyTorch is built without CUDA"
        return "" if torch.cuda.is_available() else "PyTorch finds no CUDA device"

    @classmethod
    def lacks(cls, cell: str, task: str, dtype: str) -> bool:
        """See `Implementation.lacks`: single steps on the GPU would have nothing to be compared with."""
        return task == "streaming" or super().lacks(cell, task, dtype)

    def __init__(self, problem: Problem, threads: int) -> None:
        super().__init__(problem, threads)
        self._torch.backends.cuda.matmul.allow_tf32 = False
        self._torch.backends.cudnn.allow_tf32 = False

    def start(self) -> None:
        """See `Implementation.start`: the number of threads does not matter."""

    def finish(self) -> None:
        """See `Implementation.finish`."""
        self._torch.cuda.synchronize()


class OnnxRuntime(Implementation):
    """A session with one LSTM, GRU or RNN node and default options, called by ``run`` with NumPy arrays."""

    name = family = "onnxruntime"

    @classmethod
    def missing(cls) -> str:
        """See `Implementation.missing`."""
        return "" if find_spec("onnxruntime") else "not installed"

    @classmethod
    def lacks(cls, cell: str, task: str, dtype: str) -> bool:
        """See `Implementation.lacks`."""
        return node_of(cell) is None or task == "training" or dtype != "float32"

    def __init__(self, problem: Problem, threads: int) -> None:
        super().__init__(problem, threads)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            recurrent_model(problem.cell, problem.params, tuple(problem.state)),
            options,
            providers=["CPUExecutionProvider"],
        )
        self._x = problem.x
        self._initial = {f"{name}0": array for name, array in problem.state.items()}
        self._outputs = ["y", *problem.state]
        self.rewind()

    def infer(self) -> Any:
        """See `Implementation.infer`."""
        return self._session.run(["y"], {"x": self._x, **self._initial})[0]

    def rewind(self) -> None:
        """See `Implementation.rewind`."""
        self._current = dict(self._initial)
        self.feed(0)

    def feed(self, step: int) -> None:
        """See `Implementation.feed`."""
        self._current["x"] = self._x[step : step + 1]

    def step(self) -> Any:
        """See `Implementation.step`."""
        y, *state = self._session.run(self._outputs, self._current)
        self._current.update(zip(self._initial, state, strict=True))
        return y

    def arrays(self, result: Any) -> dict[str, Array]:
        """See `Implementation.arrays`."""
        return {"y": np.asarray(result)[:, 0]}  # (T, directions, B, H)
