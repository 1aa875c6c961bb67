"""Memory with guards, and cases of one layer, for the tests of kernels that compiled code calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

import lstm_numba as ln
from lstm_numba import kernels, reference
from lstm_numba.kernels import Parameters

#: What no kernel writes: stands before and behind the memory that it may use.
CANARY = 12345.0

#: Steps, batch (None: arrays without that axis), inputs, units.
SHAPES = [(4, 3, 16, 17), (1, 9, 5, 33), (130, 2, 1, 1), (6, 5, 40, 17)]
#: Products with the input in more than one block of steps, and rows in more than one part.
LARGE = [(200, 3, 4, 256), (3, 64, 4, 512)]
WEIGHTS = ["plain", "packed"]
#: Every cell, both precisions, both forms of weights. Every combination takes ten seconds or more to compile;
#: what they have in common, the work on addresses, is run for every cell and precision by the layers' tests.
EVERY_CELL = pytest.mark.parametrize(
    ("cell", "dtype", "kind"),
    [
        ("lstm", "float32", "packed"),
        ("gru-reset-before", "float64", "plain"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("peephole", "float32", "plain"),
                ("lstm", "float64", "plain"),
                ("gru", "float32", "packed"),
                ("rnn", "float64", "packed"),
                ("rnn-relu", "float32", "plain"),
            )
        ),
    ],
)


class Room:
    """One-dimensional memory of exactly some numbers, misaligned, between canaries; it begins as NaN."""

    def __init__(self, size: int, dtype: Any) -> None:
        self.whole = np.full(size + 66, CANARY, dtype)
        self.numbers = self.whole[33 : 33 + size]
        self.numbers[:] = np.nan  # who reads what nobody wrote shows it, be it multiplied by zero

    def check(self) -> None:
        assert (self.whole[:33] == CANARY).all(), "written before its beginning"
        assert (self.whole[-33:] == CANARY).all(), "written beyond its end"


class Case:
    """A layer, its weights in one of both forms, and arrays for a sequence."""

    def __init__(self, cell: str, dtype: str, kind: str, shape: tuple[Any, ...], bias: bool = True) -> None:
        self.cell, (self.steps, batch, inputs, hidden) = cell, shape
        self.batch = batch or 1
        rng = np.random.default_rng(7)
        self.layer = ln.make_layer(cell, inputs, hidden, seed=1, dtype=dtype, bias=bias)
        self.plain = kernels.plain(self.layer)
        self.weights = kernels.pack(self.plain) if kind == "packed" else self.plain
        middle = () if batch is None else (batch,)
        self.x = rng.standard_normal((self.steps, *middle, inputs)).astype(dtype)
        self.dy = rng.standard_normal((self.steps, *middle, hidden)).astype(dtype)
        names = self.layer.cell.states
        self.first = [rng.standard_normal((*middle, hidden)).astype(dtype) for _ in names]
        self.dlast = [rng.standard_normal((*middle, hidden)).astype(dtype) for _ in names]
        self.dtype = self.layer.dtype

    def batched(self, array: np.ndarray, axis: int) -> np.ndarray:
        """With a batch axis."""
        return array if array.ndim == (3 if axis else 2) else np.expand_dims(array, axis)

    def layer_state(self, arrays: list[np.ndarray]) -> Any:
        """As the layer takes it."""
        states = tuple(self.batched(a, 0)[None] for a in arrays)
        return states if len(states) > 1 else states[0]

    def room(self, steps: int, training: bool = False) -> Room:
        return Room(kernels.scratch_size(self.weights, steps, self.batch, training), self.dtype)

    def tape(self, steps: int) -> Room:
        return Room(kernels.tape_size(self.weights, steps, self.batch), self.dtype)

    def copies(self, arrays: list[np.ndarray]) -> tuple[np.ndarray, ...]:
        return tuple(a.copy() for a in arrays)

    def zero_grads(self) -> Parameters:
        return Parameters(*(np.zeros_like(p) for p in self.plain.parameters))

    def expected(self) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Output and final states by the reference."""
        name = self.cell
        first = [self.batched(a, 0)[None] for a in self.first]
        y, final = reference.run(name, self.layer.params, self.batched(self.x, 1), first)
        return y.reshape(self.dy.shape), tuple(f.reshape(self.first[0].shape) for f in final)

    def expected_gradients(self) -> tuple[Any, list[Any], dict[str, Any]]:
        """Those of the layer, which are tested by central differences elsewhere."""
        _, _, tape = self.layer.forward(self.batched(self.x, 1), self.layer_state(self.first))
        dx, dfirst, grads = self.layer.backward(tape, self.batched(self.dy, 1), self.layer_state(self.dlast))
        states = list(dfirst) if isinstance(dfirst, tuple) else [dfirst]
        return dx.reshape(self.x.shape), [d.reshape(self.first[0].shape) for d in states], grads

    def check_gradients(self, dx: Any, dfirst: Any, grads: Parameters) -> None:
        expected_dx, expected_dfirst, expected = self.expected_gradients()
        assert_close(dx, expected_dx, "backward", "dx")
        for got, want in zip(dfirst, expected_dfirst, strict=True):
            assert_close(got, want, "backward", "dstate")
        for name, got in grads._asdict().items():
            if f"{name}_l0" in expected:
                assert_close(got, expected[f"{name}_l0"], "backward", name)
