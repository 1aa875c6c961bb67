"""Many small LSTMs on a GPU, stepped in a custom kernel: one thread per stream, or one block per stream.

    python benchmarks/streams_on_gpu.py --json streams.json

Results are compared with the layer's before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import cuda

import lstm_numba as ln
from lstm_numba.benchmarks import stand_in
from lstm_numba.engines.cuda.driver import SIMULATED, device_facts
from lstm_numba.kernels.cuda import step


@cuda.jit
def by_threads(weights, x, h, c, scratch):  # type: ignore[no-untyped-def]
    """x (T, I, N), h and c (H, N), scratch (size, N): accesses of neighbouring threads are coalesced."""
    n = cuda.grid(1)
    if n < h.shape[1]:
        for t in range(x.shape[0]):
            step.thread_step(weights, x[t, :, n], (h[:, n], c[:, n]), scratch[:, n])


@cuda.jit
def by_blocks(weights, x, h, c):  # type: ignore[no-untyped-def]
    """x (T, N, I), h and c (N, H)."""
    n, scratch = cuda.blockIdx.x, cuda.shared.array(0, x.dtype)
    for t in range(x.shape[0]):
        step.block_step(weights, x[t, n], (h[n], c[n]), scratch)


def microseconds(run: Callable[[], None], repeats: int) -> list[float]:
    """Device time of `run` in every repeat, after one that compiles."""
    run()
    times = []
    for _ in range(repeats):
        begin, end = cuda.event(), cuda.event()
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(1000 * cuda.event_elapsed_time(begin, end))
    return times


def methods(args: argparse.Namespace) -> dict[str, tuple[Callable[[], None], Callable[[], Any]]]:
    """For each method a function that runs all steps, and one that reads h (N, H)."""
    rnn = ln.LSTM(args.inputs, args.hidden, seed=0, device="cuda")
    weights, size = step.device_weights(rnn), (args.streams, args.hidden)
    x = np.random.default_rng(0).standard_normal((args.steps, args.streams, args.inputs)).astype(np.float32)
    rows = [cuda.to_device(np.zeros(size, np.float32)) for _ in range(2)]
    columns = [cuda.to_device(np.zeros(size[::-1], np.float32)) for _ in range(2)]
    scratch = cuda.to_device(np.zeros((step.scratch_size(weights), args.streams), np.float32))
    x_rows, x_columns = cuda.to_device(x), cuda.to_device(np.ascontiguousarray(x.transpose(0, 2, 1)))
    grid = (-(-args.streams // args.threads), args.threads)
    shared = 4 * step.scratch_size(weights)
    last: list[Any] = []

    def layer() -> None:
        last[:] = [rnn(x_rows)[1][0]]

    return {
        "layer": (layer, lambda: last[0].copy_to_host()[0]),
        "thread_step": (
            lambda: by_threads[grid](weights, x_columns, *columns, scratch),
            lambda: columns[0].copy_to_host().T,
        ),
        "block_step": (
            lambda: by_blocks[args.streams, args.block, 0, shared](weights, x_rows, *rows),
            lambda: rows[0].copy_to_host(),
        ),
    }


def main() -> None:
    """Read the arguments, compare, time, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=10_000, help="sequences  [default: 10000]")
    parser.add_argument("--steps", type=int, default=100, help="time steps  [default: 100]")
    parser.add_argument("--inputs", type=int, default=4, help="input size  [default: 4]")
    parser.add_argument("--hidden", type=int, default=16, help="hidden size  [default: 16]")
    parser.add_argument("--threads", type=int, default=64, help="block size of thread_step  [default: 64]")
    parser.add_argument("--block", type=int, default=32, help="block size of block_step  [default: 32]")
    parser.add_argument("--repeats", type=int, default=7, help="[default: 7]")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args()
    found, expected = {}, None
    for name, (run, read) in methods(args).items():
        run()
        h = read()
        expected = h if expected is None else expected
        error = float(np.max(np.abs(h - expected)))
        if stand_in.active():
            print(f"{name}: not compared, the stand-in driver computes nothing")
        elif not error < 1e-4:
            raise SystemExit(f"{name}: differs from the layer by {error:.1e}")
        if SIMULATED:  # has no clock
            print(f"{name}: agrees")
            continue
        times = microseconds(run, args.repeats)
        median = statistics.median(times)
        found[name] = times
        print(
            f"{name}: {median / args.steps:.2f} us per step of {args.streams} streams "
            f"({min(times) / args.steps:.2f} to {max(times) / args.steps:.2f})"
        )
    if args.json:
        settings = {name: value for name, value in vars(args).items() if name != "json"}
        result = {**device_facts(), **settings, "microseconds": found}
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
