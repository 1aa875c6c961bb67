"""A guitar amplifier as an LSTM: trained on what went in and what came out, then played block by block.

The amplifier is a program here: a saturating stage, tanh, and a one-pole low-pass filter. Its model is an
LSTM on one sample a step, a linear readout and a skip connection (A. Wright et al., "Real-time black-box
modelling with recurrent neural networks", DAFx 2019):

    y_t = x_t + r · h_t + r₀

The loss is their error-to-signal ratio (ESR), of signals that a filter has pre-emphasised, 1 − 0.85 z⁻¹:

    Σ (e_t − 0.85 e_{t−1})² / Σ (w_t − 0.85 w_{t−1})²,    e = y − w,  w what the amplifier gave

`train_epoch` is the whole training in compiled code: gradients through a chunk of every stretch (truncated
backpropagation through time, the state carried on), clipping, Adam, weights packed again. `process` is what
an audio callback calls: it allocates nothing, and needs neither Python nor its lock.

    python -m lstm_numba.examples.amplifier
"""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from lstm_numba.examples.flat import Array, Model, flat_model, parameters_of
from lstm_numba.kernels import (
    parameter_count,
    repack,
    scratch_size,
    sequence_backward,
    sequence_forward,
    step,
    tape_size,
    unflatten,
)
from lstm_numba.nn.layers import LSTM

RATE, EMPHASIS, BLOCK = 44_100, 0.85, 64


@njit(cache=True)
def amplify(dry):
    """What the amplifier makes of a signal (samples,): tanh, then a one-pole low-pass at 3 kHz."""
    wet, pole = np.empty_like(dry), math.exp(-2 * math.pi * 3_000 / RATE)
    last = 0.0
    for t in range(dry.size):
        last = pole * last + (1 - pole) * math.tanh(6 * dry[t])
        wet[t] = last
    return wet


def draw_pair(seconds: float, seed: int, dtype: Any = np.float32) -> tuple[Array, Array]:
    """Dry signal and wet one, both (samples,): decaying tones of three harmonics, and noise."""
    rng, size = np.random.default_rng(seed), int(seconds * RATE)
    dry, length = np.zeros(size), RATE // 5
    for begin in range(0, size, length):
        t = np.arange(min(length, size - begin)) / RATE
        pitch, loudness = rng.uniform(80, 1_000), rng.uniform(0.1, 0.6)
        for k in (1, 2, 3):
            dry[begin : begin + t.size] += loudness / k * np.exp(-8 * t) * np.sin(2 * np.pi * k * pitch * t)
        dry[begin : begin + t.size] += rng.uniform(0, 0.1) * rng.standard_normal(t.size)
    return dry.astype(dtype), amplify(dry).astype(dtype)


def energy(signal: Array) -> float:
    """Sum of the squares of the pre-emphasised signal (samples, ...)."""
    emphasised = signal.astype(np.float64)
    emphasised[1:] -= EMPHASIS * signal[:-1]
    return float(np.sum(emphasised**2))


def esr(found: Array, wet: Array) -> float:
    """Error-to-signal ratio of pre-emphasised signals (samples,)."""
    return energy(found - wet) / energy(wet)


class Work(NamedTuple):
    """Work arrays for chunks of T samples of B stretches, and what goes on from chunk to chunk."""

    h: Any  # (B, H); c too
    c: Any
    error: Any  # (T + 1, B), y − w; the first row is the last of the chunk before
    dh: Any  # (B, H); dc too
    dc: Any
    y: Any  # (T, B, H); dy too
    dy: Any
    dx: Any  # (T, B, 1)
    tape: Any
    scratch: Any
    gradient: Any  # as theta
    mean: Any  # Adam's, as theta
    square: Any


def make_work(model: Model, theta: Array, steps: int, batch: int) -> Work:
    """Allocate all that the training needs."""
    state, history = (batch, model.readout.size - 1), (steps, batch, model.readout.size - 1)
    sizes = (tape_size(model.weights, steps, batch),), (scratch_size(model.weights, steps, batch, True),)
    shapes = [state, state, (steps + 1, batch), state, state, history, history, (steps, batch, 1), *sizes]
    return Work(*(np.zeros(shape, theta.dtype) for shape in [*shapes, *3 * [theta.shape]]))


@njit(cache=True)
def chunk_gradient(model, dry, wet, scale, work):
    """Scaled squares of a chunk's pre-emphasised errors; work.gradient is overwritten by the gradient.

    dry (T, B, 1); wet (T, B). The state before the chunk, and its last error, are constants.
    """
    steps, batch = wet.shape
    hidden, count = model.readout.size - 1, parameter_count(parameters_of(model.plain))
    work.gradient[:] = 0
    grads, dreadout = unflatten(parameters_of(model.plain), work.gradient[:count]), work.gradient[count:]
    sequence_forward(model.weights, dry, (work.h, work.c), work.y, work.tape, work.scratch)
    for t in range(steps):
        for n in range(batch):
            total = dry[t, n, 0] + model.readout[hidden] - wet[t, n]
            for j in range(hidden):
                total += model.readout[j] * work.y[t, n, j]
            work.error[t + 1, n] = total
    loss = 0.0
    for n in range(batch):
        after = 0.0
        for t in range(steps - 1, -1, -1):
            emphasised = work.error[t + 1, n] - EMPHASIS * work.error[t, n]
            loss += scale * emphasised**2
            de = 2 * scale * (emphasised - EMPHASIS * after)
            after = emphasised
            dreadout[hidden] += de
            for j in range(hidden):
                dreadout[j] += de * work.y[t, n, j]
                work.dy[t, n, j] = de * model.readout[j]
    work.error[0] = work.error[steps]
    work.dh[:] = 0
    work.dc[:] = 0
    sequence_backward(
        model.weights, dry, work.tape, work.dy, (work.dh, work.dc), work.dx, grads, work.scratch
    )
    return loss


@njit(cache=True)
def descend(theta, work, lr, update):
    """Adam with the gradient clipped to norm 1; `update` counts from 1."""
    scale = 1 / max(1.0, math.sqrt(np.sum(work.gradient**2)))
    rate = lr * math.sqrt(1 - 0.999**update) / (1 - 0.9**update)
    for k in range(theta.size):
        slope = scale * work.gradient[k]
        work.mean[k] += 0.1 * (slope - work.mean[k])
        work.square[k] += 0.001 * (slope * slope - work.square[k])
        theta[k] -= rate * work.mean[k] / (math.sqrt(work.square[k]) + 1e-8)


@njit(cache=True, nogil=True)
def train_epoch(theta, model, dry, wet, scale, lr, update, work):
    """Go once through all stretches side by side, chunk by chunk: the ESR on the way, and updates so far."""
    steps, loss = work.y.shape[0], 0.0
    work.h[:] = 0
    work.c[:] = 0
    work.error[0] = 0
    for begin in range(0, wet.shape[0] - steps + 1, steps):
        chunk = slice(begin, begin + steps)
        # The ratio is that of all stretches: what is quiet in a chunk is not blown up.
        loss += chunk_gradient(model, dry[chunk], wet[chunk], scale * wet.shape[0] / steps, work)
        update += 1
        descend(theta, work, lr, update)
        repack(model.weights, parameters_of(model.plain))
    return loss * steps / wet.shape[0], update


def train(
    dry: Array, wet: Array, hidden: int = 16, stretches: int = 32, steps: int = 256, epochs: int = 25,
    lr: float = 1e-2, seed: int = 0, log: bool = False,
) -> tuple[Model, list[float]]:  # fmt: skip
    """Train a model on a pair of signals (samples,), cut into stretches; returns it and an ESR per epoch."""
    theta, model = flat_model(LSTM(1, hidden, seed=seed, dtype=dry.dtype))
    work, length = make_work(model, theta, steps, stretches), len(dry) // stretches // steps * steps
    side_by_side = [
        np.ascontiguousarray(s[: stretches * length].reshape(stretches, length).T) for s in (dry, wet)
    ]
    scale, update, ratios = 1 / energy(side_by_side[1]), 0, []
    for epoch in range(epochs):
        rate = lr * (1 - epoch / epochs)
        ratio, update = train_epoch(
            theta, model, side_by_side[0][:, :, None], side_by_side[1], scale, rate, update, work
        )
        ratios.append(ratio)
        if log and (epoch + 1) % max(1, epochs // 5) == 0:
            print(f"  epoch {epoch + 1:3d}  ESR {ratio:.4f}")
    return model, ratios


@njit(cache=True, nogil=True)
def process(weights, readout, x, y, h, c, scratch):
    """Play a block: x (samples,) to y (samples,), which may be x; h and c (H,) go on to the next block."""
    hidden = h.size
    for t in range(x.size):
        step(weights, x[t : t + 1], (h, c), scratch)
        total = x[t] + readout[hidden]
        for j in range(hidden):
            total += readout[j] * h[j]
        y[t] = total


def play(model: Model, dry: Array, block: int = BLOCK) -> tuple[Array, float]:
    """Play a signal block by block; returns what comes out, and the seconds that half of the blocks took."""
    h, c = np.zeros((2, model.readout.size - 1), dry.dtype)
    wet, scratch = np.empty_like(dry), np.empty(scratch_size(model.weights), dry.dtype)
    process(model.weights, model.readout, dry[:0], wet[:0], h, c, scratch)  # compiles
    seconds = []
    for begin in range(0, len(dry), block):
        now = slice(begin, begin + block)
        before = time.perf_counter()
        process(model.weights, model.readout, dry[now], wet[now], h, c, scratch)
        seconds.append(time.perf_counter() - before)
    return wet, float(np.median(seconds))


def main() -> None:
    """Train, and play what the model has not heard."""
    model, _ = train(*draw_pair(8, 0), log=True)
    dry, wet = draw_pair(3, 1)
    found, seconds = play(model, dry)
    print(f"ESR of {len(dry) / RATE:.0f} s that it has not heard, pre-emphasised:")
    print(f"  dry signal  {esr(dry, wet):.4f}")
    print(f"  LSTM        {esr(found, wet):.4f}")
    same = np.array_equal(found, play(model, dry, len(dry))[0])
    print(f"blocks of {BLOCK} samples: {'the' if same else 'not the'} bits of one call;", end=" ")
    print(f"one takes {1e6 * seconds:.0f} of the {1e6 * BLOCK / RATE:.0f} µs that it lasts")


if __name__ == "__main__":
    # Numba's disk cache recognises classes of a module, not those of __main__.
    from lstm_numba.examples import amplifier

    amplifier.main()
