"""Signals stay on the GPU from raw samples to result: user kernels before, after and around a layer.

    python -m lstm_numba.examples.cuda_pipeline
    NUMBA_ENABLE_CUDASIM=1 python -m lstm_numba.examples.cuda_pipeline    # in CUDA's simulator, as Python

1. The user's kernel turns raw samples into frames of features, in arrays of CuPy where it is installed, else
   of Numba.
2. A layer reads the frames that are there: ``rnn(x, state)``, arrays in, arrays out.
3. From then on samples come in one frame at a time. A kernel computes the features of a frame and calls
   `block_step`: a block for each signal, on the state that the layer left, in place.
4. The same by `thread_step`, a thread for each signal.

Nothing is copied to the host before the end, where both ways are compared with the layer on all frames.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from typing import Any

import numpy as np

import lstm_numba as ln
from lstm_numba.engines import find_cuda

if __name__ == "__main__" and not find_cuda().available:
    sys.exit(f"{find_cuda().text}; NUMBA_ENABLE_CUDASIM=1 turns CUDA's simulator on")

from numba import config, cuda

from lstm_numba.kernels.cuda import step

WINDOW = 8  # samples of a frame
FEATURES = 2


@cuda.jit(device=True)
def features(samples, first, out):
    """Mean and effective value of the window that begins at `first`."""
    total = square = samples.dtype.type(0)
    for sample in range(first, first + WINDOW):
        total += samples[sample]
        square += samples[sample] * samples[sample]
    scale = out.dtype.type(1 / WINDOW)
    out[0] = total * scale
    out[1] = math.sqrt(square * scale)


@cuda.jit
def frames(signals, x):
    """Features of all frames, one thread for each: signals (N, samples) to x (T, N, FEATURES)."""
    for i in range(cuda.grid(1), x.shape[0] * x.shape[1], cuda.gridsize(1)):
        t, n = i // x.shape[1], i % x.shape[1]
        features(signals[n], t * WINDOW, x[t, n])


@cuda.jit
def stream_by_blocks(weights, signals, begin, h, c, peak):
    """Frames from `begin` on, one block for each signal; peak (N,) gets the largest h[0]."""
    memory = cuda.shared.array(0, signals.dtype)  # the features, then the step's scratch memory
    x, scratch = memory[:FEATURES], memory[FEATURES:]
    n, thread = cuda.blockIdx.x, cuda.threadIdx.x
    for t in range(begin, signals.shape[1] // WINDOW):
        if thread == 0:
            features(signals[n], t * WINDOW, x)
        step.block_step(weights, x, (h[n], c[n]), scratch)  # waits for the features first
        if thread == 0:
            peak[n] = max(peak[n], h[n, 0])


@cuda.jit
def stream_by_threads(weights, signals, begin, h, c, peak, scratch):
    """The same, one thread for each signal; scratch (FEATURES + size, N)."""
    n = cuda.grid(1)
    if n < signals.shape[0]:
        x = scratch[:FEATURES, n]
        for t in range(begin, signals.shape[1] // WINDOW):
            features(signals[n], t * WINDOW, x)
            step.thread_step(weights, x, (h[n], c[n]), scratch[FEATURES:, n])
            peak[n] = max(peak[n], h[n, 0])


def library() -> Any:
    """CuPy where there is a device and it is installed; None for device arrays of Numba."""
    if config.ENABLE_CUDASIM or importlib.util.find_spec("cupy") is None:
        return None
    import cupy

    return cupy


def on_device(array: np.ndarray) -> Any:
    """A copy on the device."""
    cupy = library()
    return cuda.to_device(array) if cupy is None else cupy.asarray(array)


def on_host(array: Any) -> np.ndarray:
    """A copy on the host, for the comparison."""
    if isinstance(array, np.ndarray):
        return array
    return np.asarray((cuda.as_cuda_array(array) if library() else array).copy_to_host())


def largest_error(name: str, got: Any, expected: Any) -> None:
    """Print the difference of two results; exit if it is more than rounding."""
    error = float(np.max(np.abs(on_host(got) - on_host(expected))))
    print(f"{name}: largest difference {error:.1e}")
    if not error < 1e-5:
        sys.exit(f"{name}: expected less than 1e-5")


def main(signals: int = 3, steps: int = 5, hidden: int = 6, threads: int = 4) -> None:
    """Run the pipeline and compare.

    Parameters
    ----------
    signals, steps, hidden : int
        Signals (N), frames of each (T), and the layer's units.
    threads : int
        Threads of a block, in the program's own kernels.
    """
    rng = np.random.default_rng(0)
    raw = on_device(rng.standard_normal((signals, steps * WINDOW)).astype(np.float32))
    rnn = ln.LSTM(FEATURES, hidden, device="cuda", seed=0)
    weights = step.device_weights(rnn)
    blocks, known = -(-signals // threads), steps // 2

    x = on_device(np.empty((steps, signals, FEATURES), np.float32))
    frames[blocks, threads](raw, x)
    y, (end_h, end_c) = rnn(x)  # all frames, for comparison
    print(f"{type(x).__module__}.{type(x).__name__} in, {type(y).__module__}.{type(y).__name__} out")

    numbers = FEATURES + step.scratch_size(weights)
    scratch = on_device(np.empty((numbers, signals), np.float32))
    for name in ("block_step", "thread_step"):
        _, (h, c) = rnn(x[:known])
        peak = on_device(np.full(signals, -1, np.float32))
        if name == "block_step":
            stream_by_blocks[signals, threads, 0, numbers * 4](weights, raw, known, h[0], c[0], peak)
        else:
            stream_by_threads[blocks, threads](weights, raw, known, h[0], c[0], peak, scratch)
        # The states were updated in place.
        largest_error(f"{name}, h", h, end_h)
        largest_error(f"{name}, c", c, end_c)
        top = np.max(on_host(y)[known:, :, 0], axis=0)
        largest_error(f"{name}, peaks", peak, top)


if __name__ == "__main__":
    main()
