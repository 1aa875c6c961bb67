"""Many small models at once beside loops over them: seconds of one training step of all models.

    python benchmarks/many_models.py --models 256 --shape 16x50x8x32 --json OUTPUT.json

A step is forward, squared error of all outputs, backward and Adam, of N LSTMs with data of their own. Ours:
one layer with ``models=N`` on all threads and on one, and a loop over N layers. PyTorch: a loop over N
modules on all threads and on one; ``torch.func.vmap`` of the gradient with stacked weights, of ``nn.LSTM``,
and of the cell written out in PyTorch's operations, which ``vmap`` batches. Its optimizer is one fused Adam
for all models.

Before anything is timed, the parameters after two steps are compared.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lstm_numba.benchmarks.cases import DEFAULT_REPEATS, Shape, parse_shape
from lstm_numba.benchmarks.gemm_peak import measure_peak
from lstm_numba.benchmarks.results import machine
from lstm_numba.engines.cpu.threads import set_thread_count, thread_count
from lstm_numba.nn.layers import LSTM
from lstm_numba.optim.optimizers import Adam
from lstm_numba.timing import measure, protocol

#: Learning rate; differences after two steps that rounding explains: Adam divides by small numbers.
_RATE, _TOLERANCE = 1e-3, 2e-4


class Data:
    """The same models and data for all backends."""

    def __init__(self, models: int, shape: Shape) -> None:
        self.models, self.shape = models, shape
        rng = np.random.default_rng(0)
        axes = models, shape.steps, shape.batch
        self.x = rng.standard_normal((*axes, shape.inputs)).astype(np.float32)
        self.targets = rng.standard_normal((*axes, shape.hidden)).astype(np.float32)
        self.params = LSTM(shape.inputs, shape.hidden, models=models, seed=0).params
        self.scale = np.float32(1 / (shape.steps * shape.batch * shape.hidden))
        self.dy = np.empty_like(self.targets)  # room for the gradient of the outputs

    @property
    def operations(self) -> int:
        """Of the matrix products of a step, without those of the input's gradient."""
        _, batch, steps, inputs, hidden = self.shape
        each = 2 * batch * steps * 4 * hidden
        return self.models * each * (2 * (inputs + hidden) + hidden)


class Backend:
    """Trains all models by one step a call."""

    name: ClassVar[str]

    def __init__(self, data: Data, threads: int) -> None:
        self.data, self.threads = data, threads

    def start(self) -> None:
        """Called before every repeat."""

    def finish(self) -> None:
        """Nothing to wait for."""

    def call(self) -> Any:
        """A step."""
        raise NotImplementedError

    def params(self) -> dict[str, Any]:
        """The parameters (N, ...)."""
        raise NotImplementedError


class Together(Backend):
    """One layer of many models."""

    def __init__(self, data: Data, threads: int) -> None:
        super().__init__(data, threads)
        self._rnn = _layer(data, models=data.models)
        for name, value in data.params.items():
            self._rnn.params[name][...] = value
        self._adam = Adam(self._rnn.params, _RATE)

    def start(self) -> None:
        set_thread_count(self.threads)

    def call(self) -> Any:
        _learn(self._rnn, self._adam, self.data, slice(None))

    def params(self) -> dict[str, Any]:
        return self._rnn.params


class Loop(Together):
    """A layer for each model."""

    def __init__(self, data: Data, threads: int) -> None:
        Backend.__init__(self, data, threads)
        self._layers = [_layer(data) for _ in range(data.models)]
        for n, layer in enumerate(self._layers):
            layer.load_state_dict({name: value[n] for name, value in data.params.items()})
        self._adams = [Adam(layer.params, _RATE) for layer in self._layers]

    def call(self) -> Any:
        for n, (layer, adam) in enumerate(zip(self._layers, self._adams, strict=True)):
            _learn(layer, adam, self.data, n)

    def params(self) -> dict[str, Any]:
        return _stacked([layer.params for layer in self._layers])


def _layer(data: Data, **options: Any) -> LSTM:
    return LSTM(data.shape.inputs, data.shape.hidden, **options)


def _learn(rnn: LSTM, adam: Adam, data: Data, which: Any) -> None:
    y, _, tape = rnn.forward(data.x[which], copy=False)
    dy = np.subtract(y, data.targets[which], out=data.dy[which])
    dy *= data.scale
    _, _, grads = rnn.backward(tape, dy, input_gradient=False)
    adam.step(grads)


def _stacked(params: list[Any]) -> dict[str, Any]:
    return {name: np.stack([np.asarray(one[name]) for one in params]) for name in params[0]}


class Torch(Backend):
    """What PyTorch's backends share."""

    def __init__(self, data: Data, threads: int) -> None:
        super().__init__(data, threads)
        import torch

        self.torch = torch
        self._x, self._targets = torch.from_numpy(data.x), torch.from_numpy(data.targets)
        self._scale = float(data.scale) / 2

    def start(self) -> None:
        self.torch.set_num_threads(self.threads)

    def _loss(self, y: Any, targets: Any) -> Any:
        return ((y - targets) ** 2).sum() * self._scale

    def _adam(self, params: list[Any]) -> Any:
        return self.torch.optim.Adam(params, _RATE, fused=True)


class TorchLoop(Torch):
    """A module for each model."""

    def __init__(self, data: Data, threads: int) -> None:
        super().__init__(data, threads)
        shape = data.shape
        self._modules = [self.torch.nn.LSTM(shape.inputs, shape.hidden) for _ in range(data.models)]
        for n, module in enumerate(self._modules):
            given = {name: self.torch.from_numpy(value[n].copy()) for name, value in data.params.items()}
            module.load_state_dict(given)
        self._optimizer = self._adam([p for module in self._modules for p in module.parameters()])

    def call(self) -> Any:
        self._optimizer.zero_grad(set_to_none=True)
        for n, module in enumerate(self._modules):
            self._loss(module(self._x[n])[0], self._targets[n]).backward()
        self._optimizer.step()

    def params(self) -> dict[str, Any]:
        return _stacked([{k: v.detach() for k, v in module.named_parameters()} for module in self._modules])


class TorchFunc(Torch):
    """``vmap`` of the gradient over stacked weights."""

    def __init__(self, data: Data, threads: int) -> None:
        super().__init__(data, threads)
        func = self.torch.func
        self._params = {name: self.torch.from_numpy(value.copy()) for name, value in data.params.items()}
        outputs = self._outputs()
        self._gradients = func.vmap(
            func.grad(lambda params, x, targets: self._loss(outputs(params, x), targets))
        )
        self._optimizer = self._adam(list(self._params.values()))

    def _outputs(self) -> Callable[[Any, Any], Any]:
        """Outputs of one model from its parameters and x."""
        shape = self.data.shape
        module = self.torch.nn.LSTM(shape.inputs, shape.hidden).to("meta")
        call = self.torch.func.functional_call
        return lambda params, x: call(module, params, (x,))[0]

    def call(self) -> Any:
        for name, gradient in self._gradients(self._params, self._x, self._targets).items():
            self._params[name].grad = gradient
        self._optimizer.step()

    def params(self) -> dict[str, Any]:
        return {name: value.numpy() for name, value in self._params.items()}


class TorchFuncCell(TorchFunc):
    """The same of a cell that is written out."""

    def _outputs(self) -> Callable[[Any, Any], Any]:
        torch, hidden = self.torch, self.data.shape.hidden

        def run(params: Any, x: Any) -> Any:
            inputs = x @ params["weight_ih_l0"].T + (params["bias_ih_l0"] + params["bias_hh_l0"])
            weights, outputs = params["weight_hh_l0"].T, []
            h = c = x.new_zeros(x.shape[1], hidden)
            for t in range(len(x)):
                i, f, g, o = (inputs[t] + h @ weights).chunk(4, dim=1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
                outputs.append(h)
            return torch.stack(outputs)

        return run


def backends(data: Data, threads: int) -> dict[str, Backend]:
    """All that there are here, by name."""
    found: dict[str, Backend] = {
        "models=N": Together(data, threads),
        "models=N, 1 thread": Together(data, 1),
        "loop over layers": Loop(data, threads),
        "loop over layers, 1 thread": Loop(data, 1),
    }
    if find_spec("torch"):
        found |= {
            "PyTorch loop": TorchLoop(data, threads),
            "PyTorch loop, 1 thread": TorchLoop(data, 1),
            "torch.func, nn.LSTM": TorchFunc(data, threads),
            "torch.func, cell written out": TorchFuncCell(data, threads),
        }
    return found


def check(found: dict[str, Backend]) -> None:
    """Take two steps with each and compare the parameters.

    Raises
    ------
    SystemExit
        They differ.
    """
    expected = None
    for name, backend in found.items():
        backend.start()
        for _ in range(2):
            backend.call()
        params = {key: np.array(value) for key, value in backend.params().items()}
        expected = params if expected is None else expected
        worst = max(float(abs(params[key] - value).max()) for key, value in expected.items())
        if not worst <= _TOLERANCE:
            raise SystemExit(f"{name}: parameters differ by {worst:.2g} after two steps")


def compare(models: int, shape: Shape, repeats: int) -> dict[str, Any]:
    """Check, time and print."""
    data, threads = Data(models, shape), thread_count()
    found = backends(data, threads)
    check(found)
    times = measure(found, repeats)
    set_thread_count(threads)
    peak = measure_peak("float32", threads)["best"]
    ours = times["models=N"]
    rate = data.operations / ours.median / 1e9
    print(f"{models} LSTMs, {shape.name}, {threads} threads; products at {rate:.1f} of {peak:.1f} GFLOP/s")
    for name, time in times.items():
        low, high = time.quartiles
        print(
            f"  {name:30} {time.median * 1e3:9.2f} ms  ({low * 1e3:.2f} to {high * 1e3:.2f})  "
            f"{time.median / ours.median:6.2f}",
            flush=True,
        )
    return {
        "models": models,
        "shape": shape._asdict(),
        "threads": threads,
        "seconds": {name: time.seconds for name, time in times.items()},
        "gflops": rate,
        "sgemm": peak,
    }


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=256, help="  [default: %(default)s]")
    parser.add_argument(
        "--shape", type=parse_shape, action="append",
        help="BATCHxSTEPSxINPUTSxHIDDEN; may be repeated  [default: 16x50x8x32]",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=DEFAULT_REPEATS, help="  [default: %(default)s]")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args()
    rows = [compare(args.models, shape, args.repeats) for shape in args.shape or [parse_shape("16x50x8x32")]]
    if args.json:
        found = {
            "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
            "protocol": protocol(args.repeats),
        }
        args.json.write_text(json.dumps({**found, "rows": rows, "machine": machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
