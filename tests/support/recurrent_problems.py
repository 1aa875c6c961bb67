"""Recurrent layers with random input and a scalar loss, and central differences of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lstm_numba.nn.layers import make_layer
from lstm_numba.nn.recurrent import Recurrent

#: The library's cells but for those that are like another one: their kernels differ by a function, or a gate.
DISTINCT = ("rnn", "lstm", "peephole", "gru", "gru-reset-before", "use-gate")


class Case(NamedTuple):
    """Sizes of a network and its input."""

    steps: int
    batch: int
    inputs: int
    hidden: int
    layers: int = 1
    bidirectional: bool = False
    lengths: tuple[int, ...] | None = None
    bias: bool = True


class Problem:
    """A layer with random input, states and output gradients."""

    def __init__(self, name: str, case: Case, dtype: Any, **options: Any) -> None:
        rng = np.random.default_rng(5)
        self.layer: Recurrent = make_layer(
            name, case.inputs, case.hidden, case.layers, bidirectional=case.bidirectional, bias=case.bias,
            dtype=dtype, seed=3, **options,
        )  # fmt: skip
        self.name, self.case = name, case

        def draw(*shape: int) -> np.ndarray:
            return rng.standard_normal(shape).astype(dtype)

        shapes = [state.shape for state in unpack(self.layer.zero_state(case.batch))]
        self.x = draw(case.steps, case.batch, case.inputs)
        self.states = [draw(*shape) for shape in shapes]
        self.dy = draw(case.steps, case.batch, self.layer.directions * self.layer.output_size)
        self.dstates = [draw(*shape) for shape in shapes]

    def pack(self, arrays: list[np.ndarray]) -> Any:
        return pack(arrays)

    def run(self) -> tuple[np.ndarray, list[np.ndarray]]:
        y, state = self.layer(self.x, self.pack(self.states), self.case.lengths)
        return y, unpack(state)

    def loss(self) -> float:
        y, states = self.run()
        pairs = [(y, self.dy), *zip(states, self.dstates, strict=True)]
        return float(sum(np.vdot(a, b) for a, b in pairs))

    def gradients(self) -> dict[str, np.ndarray]:
        _, _, tape = self.layer.forward(self.x, self.pack(self.states), self.case.lengths)
        dx, dstate, grads = self.layer.backward(tape, self.dy, self.pack(self.dstates))
        states = {f"state {n}": d for n, d in enumerate(unpack(dstate))}
        return {"x": dx, **states, **{name: host(self.layer, grad) for name, grad in grads.items()}}

    def variables(self) -> dict[str, np.ndarray]:
        return {"x": self.x, **{f"state {n}": s for n, s in enumerate(self.states)}, **self.layer.params}


def host(layer: Recurrent, array: Any) -> np.ndarray:
    """An array in the memory of a layer's device, as NumPy's."""
    return np.array(layer.engine.download(array))


def pack(arrays: list[np.ndarray]) -> Any:
    """A layer's state of its arrays."""
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


def unpack(state: Any) -> list[np.ndarray]:
    return list(state) if isinstance(state, tuple) else [state]


def central_differences(problem: Problem, array: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Derivative of the loss with respect to every number of an array."""
    slopes = np.empty(array.size)
    flat = array.reshape(-1)
    for n in range(array.size):
        kept = flat[n]
        flat[n] = kept + step
        high = problem.loss()
        flat[n] = kept - step
        low = problem.loss()
        flat[n] = kept
        slopes[n] = (high - low) / (2 * step)
    return slopes.reshape(array.shape)
