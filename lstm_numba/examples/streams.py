"""Online anomaly scores of ten thousand independent streams.

An LSTM learns to predict the next sample of noisy oscillations; a large prediction error raises the stream's
score. Each stream has its own state, and at a tick only some streams have a sample. Three compiled loops over
the streams, all with `kernels.step` and without allocation:

* `tick_all`, if every stream has a sample: steps blocks of streams in place, ``h[lo:hi]``;
* `tick_arrived`, if some have: gathers a block's arrivals, steps them together, scatters the states;
* `tick_each`: the same with one call per stream, without gathering.

    python -m lstm_numba.examples.streams
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import get_num_threads, get_thread_id, njit, prange

from lstm_numba.kernels import pack, plain, scratch_size, step
from lstm_numba.nn.layers import LSTM
from lstm_numba.optim.optimizers import Adam

Array = np.ndarray[Any, Any]

#: Streams per block: enough to fill vector registers, few enough for the cache.
BLOCK = 64


@njit(cache=True, parallel=True)
def tick_all(weights, x, h, c, scratch):
    """One sample of every stream; a row of scratch for each thread.

    x (S, I) samples; h and c (S, H) states, advanced in place; scratch (threads, scratch_size).
    """
    count = x.shape[0]
    for block in prange(-(-count // BLOCK)):
        lo = block * BLOCK
        hi = min(lo + BLOCK, count)
        step(weights, x[lo:hi], (h[lo:hi], c[lo:hi]), scratch[get_thread_id()])


@njit(cache=True, parallel=True)
def tick_arrived(weights, x, arrived, h, c, rows, scratch):
    """One sample of those streams whose `arrived` is true.

    arrived (S,); rows (threads, BLOCK * (I + 2 H)) is a gather buffer; the others as in `tick_all`.
    """
    count, inputs, hidden = x.shape[0], x.shape[1], h.shape[1]
    for block in prange(-(-count // BLOCK)):
        lo = block * BLOCK
        hi = min(lo + BLOCK, count)
        thread, n = get_thread_id(), 0
        for stream in range(lo, hi):
            n += arrived[stream]
        if n > 0:
            a, b = n * inputs, n * hidden
            buffer = rows[thread]
            x_n = buffer[:a].reshape(n, inputs)
            h_n, c_n = buffer[a : a + b].reshape(n, hidden), buffer[a + b : a + 2 * b].reshape(n, hidden)
            at = 0
            for stream in range(lo, hi):
                if arrived[stream]:
                    x_n[at], h_n[at], c_n[at] = x[stream], h[stream], c[stream]
                    at += 1
            step(weights, x_n, (h_n, c_n), scratch[thread])
            at = 0
            for stream in range(lo, hi):
                if arrived[stream]:
                    h[stream], c[stream] = h_n[at], c_n[at]
                    at += 1


@njit(cache=True, parallel=True)
def tick_each(weights, x, arrived, h, c, scratch):
    """As `tick_arrived`, with one call per stream."""
    for stream in prange(x.shape[0]):
        if arrived[stream]:
            step(weights, x[stream], (h[stream], c[stream]), scratch[get_thread_id()])


def make_scratch(weights: Any) -> Array:
    """Scratch memory for every thread and a block."""
    return np.empty((get_num_threads(), scratch_size(weights, 1, BLOCK)), weights.data.dtype)


def make_rows(inputs: int, hidden: int, dtype: Any) -> Array:
    """Gather buffer of `tick_arrived`."""
    return np.empty((get_num_threads(), BLOCK * (inputs + 2 * hidden)), dtype)


def draw_samples(steps: int, streams: int, seed: int, odd: float = 0.0) -> tuple[Array, Array]:
    """Noisy oscillations (steps, streams), and which streams become anomalous half-way (streams,)."""
    rng = np.random.default_rng(seed)
    frequency, phase = rng.uniform(0.2, 0.5, streams), rng.uniform(0, 2 * np.pi, streams)
    anomalous = rng.random(streams) < odd
    rates = np.tile(frequency, (steps, 1))
    rates[steps // 2 :] += anomalous * 0.2 * rng.standard_normal((steps - steps // 2, streams))
    x = np.sin(phase + np.cumsum(rates, axis=0)) + 0.1 * rng.standard_normal((steps, streams))
    return x.astype(np.float32), anomalous


def train(x: Array, hidden: int = 16, updates: int = 200, seed: int = 0) -> tuple[LSTM, Array]:
    """Train an LSTM and a readout, ``readout[:H] @ h + readout[H]`` being the next sample; x is (T, B)."""
    rnn, readout = LSTM(1, hidden, seed=seed), np.zeros(hidden + 1, np.float32)
    optimizer = Adam({**rnn.params, "readout": readout}, lr=1e-2)
    for update in range(updates):
        y, _, tape = rnn.forward(np.ascontiguousarray(x[:-1, :, None]))
        d = 2 * (y @ readout[:-1] + readout[-1] - x[1:]) / x[1:].size
        _, _, grads = rnn.backward(tape, d[:, :, None] * readout[:-1])
        optimizer.lr = 1e-2 * (1 - update / updates)
        optimizer.step({**grads, "readout": np.append(np.tensordot(d, y, 2), d.sum(dtype=np.float32))})
    return rnn, readout


def area(scores: Array, odd: Array) -> float:
    """Area under the ROC curve: probability that an odd stream scores higher than a normal one."""
    ranks = np.empty(scores.size)
    ranks[np.argsort(scores)] = np.arange(1, scores.size + 1)
    n = np.count_nonzero(odd)
    return float((ranks[odd].sum() - n * (n + 1) / 2) / (n * (scores.size - n)))


def score_streams(rnn: LSTM, readout: Array, x: Array, arrivals: Array, rate: float = 0.1) -> Array:
    """Running mean of each stream's squared prediction error; x and arrivals are (ticks, S)."""
    weights, count = pack(plain(rnn)), x.shape[1]
    h, c = np.zeros((count, rnn.hidden_size), rnn.dtype), np.zeros((count, rnn.hidden_size), rnn.dtype)
    scratch, rows, scores = make_scratch(weights), make_rows(1, rnn.hidden_size, rnn.dtype), np.zeros(count)
    for samples, arrived in zip(x, arrivals, strict=True):
        error = (samples - h @ readout[:-1] - readout[-1]) ** 2
        scores += np.where(arrived, rate * (error - scores), 0)
        tick_arrived(weights, samples[:, None], arrived, h, c, rows, scratch)
    return scores


def main() -> None:
    """Train, score 10,000 streams of which some become anomalous, and time the three loops."""
    streams, ticks = 10_000, 120
    rnn, readout = train(draw_samples(50, 128, 0)[0])
    samples, odd = draw_samples(ticks, streams, 1, odd=0.05)
    # A stream's samples arrive at random ticks, about every second one.
    arrivals = np.random.default_rng(2).random((2 * ticks, streams)) < 0.5
    arrivals &= np.cumsum(arrivals, axis=0) <= ticks
    number = np.maximum(np.cumsum(arrivals, axis=0) - 1, 0)
    x = np.take_along_axis(samples, number, axis=0)
    scores = score_streams(rnn, readout, x, arrivals)
    # The baseline: without noise a sine follows from its last two samples; here with the mean frequency.
    guess = 2 * np.cos(0.35) * samples[1:-1] - samples[:-2]
    naive = np.mean((samples[2:] - guess)[-20:] ** 2, axis=0)
    print(f"{np.count_nonzero(odd)} of {streams} streams became anomalous; detected by their scores")
    print(f"(area under the ROC curve): LSTM {area(scores, odd):.4f}, linear {area(naive, odd):.4f}")
    weights = pack(plain(rnn))
    h, c = np.zeros((2, streams, rnn.hidden_size), np.float32)
    scratch, rows, arrived = make_scratch(weights), make_rows(1, rnn.hidden_size, np.float32), arrivals[0]
    here, half = np.ascontiguousarray(samples[0, :, None]), int(np.count_nonzero(arrived))
    loops: dict[str, tuple[int, Callable[[], None]]] = {
        f"all {streams}, blocks": (streams, lambda: tick_all(weights, here, h, c, scratch)),
        f"{half} arrivals, blocks": (half, lambda: tick_arrived(weights, here, arrived, h, c, rows, scratch)),
        f"{half} arrivals, one by one": (half, lambda: tick_each(weights, here, arrived, h, c, scratch)),
    }
    for name, (count, tick) in loops.items():
        tick()
        begin = time.perf_counter()
        for _ in range(50):
            tick()
        seconds = (time.perf_counter() - begin) / 50
        print(f"  {name:26s} {1e3 * seconds:6.2f} ms a tick, {1e9 * seconds / count:6.0f} ns a sample")


if __name__ == "__main__":
    main()
