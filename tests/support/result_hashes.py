"""One hash for each cell, dtype, direction and number of threads: the same bits before and after a change.

A change that only moves or renames must leave the computed numbers as they are, to the last bit. Run this
before and after it, on one machine, and compare:

    python tests/support/result_hashes.py > before.txt
    python tests/support/result_hashes.py > after.txt
    diff before.txt after.txt

What is hashed: output and final states in inference and in training, every gradient, ragged lengths, stacked
layers, a stream's steps. The numbers differ between processors with different
vector units, so nothing is compared with hashes from elsewhere.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np

import lstm_numba as ln
from lstm_numba.cells import CELLS

#: (T, B, I, H): threads share rows, threads share hidden units, sizes that fill no vector.
SHAPES = ((12, 64, 24, 48), (6, 20, 40, 256), (5, 3, 7, 17))


def _arrays(value: Any) -> Iterator[np.ndarray[Any, Any]]:
    """All arrays in nested tuples and dictionaries, in order."""
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value)]
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _arrays(item)
    elif value is not None:
        yield np.asarray(value)


def digest(*values: Any) -> str:
    """Hash of dtypes, shapes and bits of all arrays in the values."""
    total = hashlib.sha256()
    for array in _arrays(values):
        total.update(f"{array.dtype} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]


def layer_hash(cell: str, dtype: str, bidirectional: bool, shape: tuple[int, int, int, int]) -> str:
    """Inference, training with and without lengths, and all gradients of two stacked layers."""
    steps, batch, inputs, hidden = shape
    rng = np.random.default_rng(7)
    rnn = ln.make_layer(cell, inputs, hidden, 2, bidirectional=bidirectional, dtype=dtype, seed=3)
    x = rng.standard_normal((steps, batch, inputs)).astype(dtype)
    lengths = rng.integers(1, steps + 1, batch)
    results: list[Any] = [rnn(x), rnn(x[:1])]
    for given in (None, lengths):
        y, state, tape = rnn.forward(x, lengths=given)
        dy = rng.standard_normal(y.shape).astype(dtype)
        states = state if isinstance(state, tuple) else (state,)
        dstates = tuple(rng.standard_normal(s.shape).astype(dtype) for s in states)
        dstate = dstates if isinstance(state, tuple) else dstates[0]
        results += [y, state, rnn.backward(tape, dy, dstate)]
    return digest(results)


def stream_hash(cell: str, dtype: str) -> str:
    """Ten steps of a compiled stream."""
    rnn = ln.make_layer(cell, 5, 33, 2, dtype=dtype, seed=4)
    stream = ln.Stream(rnn)
    x = np.random.default_rng(8).standard_normal((10, 1, 5)).astype(dtype)
    return digest([np.array(stream.step(step)) for step in x])


def main() -> None:
    """Print a line for each case."""
    for cell, dtype in itertools.product(CELLS, ("float32", "float64")):
        for threads in (1, 2):
            numba.set_num_threads(threads)
            for bidirectional, shape in itertools.product((False, True), SHAPES):
                name = f"{cell} {dtype} {'both' if bidirectional else 'one'} {shape} threads={threads}"
                print(name, layer_hash(cell, dtype, bidirectional, shape), flush=True)
        print(f"{cell} {dtype} stream", stream_hash(cell, dtype), flush=True)


if __name__ == "__main__":
    main()
