"""A trained layer as a C function pointer: called through ctypes, and inside SciPy without Python.

A GRU learns to denoise a signal that jumps between levels, from the samples so far. Its step is then called
as a C function:

* `by_ctypes` passes addresses to `CStep.function`, as any program can that calls
  ``void step(const void *handle, const double *x, double *state, double *y)``;
* `scipy_filter` wraps the step in a ``numba.cfunc`` with the signature that `scipy.ndimage.generic_filter1d`
  requires, and SciPy runs it along every line of an array; nothing is allocated on the way.

    python -m lstm_numba.examples.c_callbacks
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numba import carray, cfunc, types
from scipy import LowLevelCallable
from scipy.ndimage import generic_filter1d

from lstm_numba.kernels import CStep, c_step
from lstm_numba.nn.layers import GRU
from lstm_numba.optim.optimizers import Adam

Array = np.ndarray[Any, Any]


def draw_signals(lines: int, samples: int, seed: int) -> tuple[Array, Array]:
    """Noisy lines and the clean ones, both (lines, samples)."""
    rng = np.random.default_rng(seed)
    jumps = rng.random((lines, samples)) < 0.03
    jumps[:, 0] = True
    last = np.maximum.accumulate(np.where(jumps, np.arange(samples), 0), axis=1)
    clean = np.take_along_axis(rng.uniform(-1, 1, (lines, samples)), last, axis=1)
    return clean + 0.3 * rng.standard_normal(clean.shape), clean


def train(
    noisy: Array, clean: Array, hidden: int = 16, updates: int = 300, seed: int = 0
) -> tuple[GRU, Array]:
    """Train a GRU and a readout, so that ``readout[:H] @ h + readout[H]`` estimates the clean sample.

    Parameters
    ----------
    noisy, clean : ndarray, shape (lines, samples)

    Returns
    -------
    rnn : GRU
    readout : ndarray, shape (H + 1,)
    """
    x, target = noisy.T[:, :, None], clean.T
    rnn, readout = GRU(1, hidden, seed=seed, dtype=np.float64), np.zeros(hidden + 1)
    optimizer = Adam({**rnn.params, "readout": readout}, lr=1e-2)
    for update in range(updates):
        y, _, tape = rnn.forward(x)
        d = 2 * (y @ readout[:-1] + readout[-1] - target) / target.size
        _, _, grads = rnn.backward(tape, d[:, :, None] * readout[:-1])
        optimizer.lr = 1e-2 * (1 - update / updates)
        optimizer.step({**grads, "readout": np.append(np.tensordot(d, y, 2), d.sum())})
    return rnn, readout


def by_layer(rnn: GRU, readout: Array, noisy: Array) -> Array:
    """Denoise the lines with the layer itself."""
    y, _ = rnn(np.ascontiguousarray(noisy.T[:, :, None]))
    return (y @ readout[:-1] + readout[-1]).T


def by_ctypes(rnn: GRU, readout: Array, noisy: Array) -> Array:
    """The same through the C function, one call per sample."""
    step, cleaned = CStep(rnn), np.empty_like(noisy)
    x, y = np.empty(rnn.input_size), np.empty(rnn.hidden_size)
    for source, target in zip(noisy, cleaned, strict=True):
        state = np.zeros(step.state_shape)
        for t in range(source.size):
            x[0] = source[t]
            step.function(step.handle, x.ctypes, state.ctypes, y.ctypes)
            target[t] = readout[:-1] @ y + readout[-1]
    return cleaned


def scipy_filter(step: CStep, readout: Array) -> LowLevelCallable:
    """The layer as a filter for `scipy.ndimage.generic_filter1d`, with ``filter_size=1``.

    ``int filter(double *input_line, npy_intp input_length, double *output_line, npy_intp output_length,
    void *user_data)``, where user_data is memory for the state and the step's output.
    """
    # Cell, handle, sizes and readout are constants to the compiled function.
    cell, zero, handle = step.cell, step.zero, step.handle.value
    weights, shift = np.array(readout[:-1]), float(readout[-1])
    states, hidden = int(np.prod(step.state_shape)), step.state_shape[-1]
    memory = np.empty(states + hidden)
    numbers = types.CPointer(types.double)

    @cfunc(types.intc(numbers, types.intp, numbers, types.intp, types.voidptr))
    def run(input_line, input_length, output_line, output_length, user_data):
        source, target = carray(input_line, input_length), carray(output_line, output_length)
        work = carray(user_data, states + hidden, np.float64)
        state, y = work[:states], work[states:]
        state[:] = 0
        for t in range(output_length):
            c_step(cell, zero, handle, source[t:], state, y)
            total = shift
            for j in range(hidden):
                total += weights[j] * y[j]
            target[t] = total
        return 1

    pointer = run.ctypes
    pointer.keep = run, step, memory  # The pointer itself keeps neither code nor memory alive.
    return LowLevelCallable(pointer, ctypes.c_void_p(memory.ctypes.data))


def smoothing_error(noisy: Array, clean: Array, rate: float) -> float:
    """Mean squared error of exponential smoothing, y ← y + rate (x − y)."""
    y, total = noisy[:, 0].copy(), 0.0
    for t in range(noisy.shape[1]):
        y += rate * (noisy[:, t] - y)
        total += float(np.sum((y - clean[:, t]) ** 2))
    return total / noisy.size


def main() -> None:
    """Train, filter new lines in three ways, and compare with exponential smoothing."""
    training, fresh = draw_signals(128, 100, 0), draw_signals(200, 500, 1)
    rnn, readout = train(*training)
    step = CStep(rnn)
    expected = by_layer(rnn, readout, fresh[0])
    found = generic_filter1d(fresh[0], scipy_filter(step, readout), filter_size=1, axis=1)
    some = by_ctypes(rnn, readout, fresh[0][:5])
    rate = min(np.linspace(0.05, 1, 39), key=lambda r: smoothing_error(*training, r))
    print(f"largest difference from rnn(x): in SciPy {np.abs(found - expected).max():.1e},", end=" ")
    print(f"through ctypes {np.abs(some - expected[:5]).max():.1e}")
    print("mean squared error on new lines:")
    print(f"  as they come           {np.mean((fresh[0] - fresh[1]) ** 2):.4f}")
    print(f"  exponential smoothing  {smoothing_error(*fresh, rate):.4f}  (best rate in training {rate:.3f})")
    print(f"  GRU inside SciPy       {np.mean((found - fresh[1]) ** 2):.4f}")


if __name__ == "__main__":
    main()
