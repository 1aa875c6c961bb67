"""Single steps called from Numba-compiled code, and 10,000 streams at once, beside PyTorch and ONNX Runtime.

    python benchmarks/jit_step.py --json OUTPUT.json

Results are compared with the layer's before anything is timed. Two lower bounds are timed with the streams:
the gate equations alone and the matrix products alone, both on all threads; a step needs both.
"""

from __future__ import annotations

import argparse
import functools
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import njit, prange

import lstm_numba as ln
from lstm_numba import kernels
from lstm_numba.benchmarks.cases import DEFAULT_REPEATS, Shape
from lstm_numba.benchmarks.implementations import Problem
from lstm_numba.benchmarks.peers import OnnxRuntime, PyTorch
from lstm_numba.benchmarks.results import machine
from lstm_numba.engines.cpu.cpu_features import lanes
from lstm_numba.engines.cpu.gemm import matmul
from lstm_numba.engines.cpu.options import SERIAL
from lstm_numba.engines.cpu.specialize import cell_forward, load_cell_states, load_slots, load_vector
from lstm_numba.engines.cpu.threads import set_thread_count, thread_count
from lstm_numba.engines.cpu.vector import pointer_to, store_vectors
from lstm_numba.timing import Call, Times, measure, protocol

Array = np.ndarray[Any, Any]
#: Steps in one call of a compiled function.
STEPS = 500
#: Streams per call.
BLOCK = 125


@njit(**SERIAL)
def _steps(weights: Any, x: Any, state: Any, scratch: Any) -> None:
    for t in range(x.shape[0]):
        kernels.step(weights, x[t], state, scratch)


@njit(parallel=True, nogil=True, cache=True)
def _blocks(weights: Any, x: Any, h: Any, c: Any, scratch: Any, block: Any) -> None:
    for n in prange(-(-len(x) // block)):
        first, last = n * block, min(len(x), (n + 1) * block)
        mine = scratch[numba.get_thread_id()]
        kernels.step(weights, x[first:last], (h[first:last], c[first:last]), mine)


@njit(parallel=True, nogil=True, cache=True)
def _one_by_one(weights: Any, x: Any, h: Any, c: Any, scratch: Any) -> None:
    for n in prange(len(x)):
        kernels.step(weights, x[n], (h[n], c[n]), scratch[numba.get_thread_id()])


@njit(**SERIAL)
def _equations(
    cell: Any, gates: Any, h: Any, c: Any, first: Any, last: Any, units: Any, lane: Any, zero: Any
) -> None:
    """The gate equations of some rows, from their pre-activations."""
    source, out, cell_states = pointer_to(gates, zero), pointer_to(h, zero), pointer_to(c, zero)
    for row in range(first, last):
        for unit in range(0, units, lane):
            inputs = load_slots(cell, source, row * 4 * units + unit, units, units)
            at = row * units + unit
            previous = load_vector(cell, out, at, 0, units) + load_cell_states(
                cell, cell_states, at, 0, units
            )
            _, states = cell_forward(cell, inputs, previous, ())
            store_vectors(out, at, 0, states[:1], units)
            store_vectors(cell_states, at, 0, states[1:], units)


@njit(parallel=True, nogil=True, cache=True)
def _equations_parallel(
    cell: Any, gates: Any, h: Any, c: Any, rows: Any, units: Any, lane: Any, zero: Any
) -> None:
    for n in prange(-(-rows // BLOCK)):
        first = np.int64(n) * BLOCK
        _equations(cell, gates, h, c, first, min(rows, first + BLOCK), units, lane, zero)


def _check(name: str, got: Array, expected: Array) -> None:
    error = float(np.abs(got - expected).max())
    if not error < 1e-5:
        raise SystemExit(f"{name}: differs from the layer by {error}")


def _steps_of(cell: str, threads: int) -> dict[str, Call]:
    """One sequence, one step per call."""
    problem = Problem(cell, Shape("step", 1, STEPS, 16, 64), "streaming", "float32")
    rnn = ln.make_layer(cell, 16, 64)
    rnn.load_state_dict(problem.params)
    x, initial = np.ascontiguousarray(problem.x[:, 0]), [s[0, 0] for s in problem.state.values()]
    state = tuple(initial) if len(initial) > 1 else initial[0]
    given = tuple(problem.state.values())
    states = given if len(given) > 1 else given[0]
    expected = rnn(problem.x, states)
    plain = kernels.plain(rnn)
    packed, calls = kernels.pack(plain), {}
    for name, weights in (("packed", packed), ("plain", plain)):
        scratch, now = np.empty(kernels.scratch_size(weights), np.float32), [s.copy() for s in initial]
        own = tuple(now) if len(now) > 1 else now[0]
        _steps(weights, x, own, scratch)
        _check(name, now[0], expected[0][-1, 0])
        calls[f"in @njit, {name}"] = Call(functools.partial(_steps, weights, x, own, scratch), STEPS)
    scratch, sample = np.empty(kernels.scratch_size(packed), np.float32), x[0].copy()
    calls["from Python, kernels.step"] = Call(lambda: kernels.step(packed, sample, state, scratch))
    stream = ln.Stream(rnn)
    calls["from Python, Stream.step"] = Call(lambda: stream.step(sample))
    frozen = ln.make_layer(cell, 16, 64)
    frozen.load_state_dict(problem.params)
    frozen.freeze()
    row = problem.x[:1].copy()
    calls["from Python, layer"] = Call(lambda: rnn(row, states))
    calls["from Python, layer, frozen"] = Call(lambda: frozen(row, states))
    step = kernels.CStep(rnn)
    own, y = np.zeros(step.state_shape, np.float32), np.empty(64, np.float32)
    addresses = (step.handle, x.ctypes.data, own.ctypes.data, y.ctypes.data)
    calls["from Python, C function by ctypes"] = Call(lambda: step.function(*addresses))
    for peer in (PyTorch, OnnxRuntime):
        if not peer.missing():
            other = peer(problem, threads)
            calls[peer.name] = Call(other.step, start=other.start)
    return calls


def _streams(threads: int, count: int = 10_000, inputs: int = 16, units: int = 16) -> dict[str, Call]:
    """Many sequences, one step of all per call."""
    problem = Problem("lstm", Shape("streams", count, 1, inputs, units), "inference", "float32")
    rnn = ln.LSTM(inputs, units)
    rnn.load_state_dict(problem.params)
    x, (h, c) = problem.x[0].copy(), (s[0] for s in problem.state.values())
    expected = rnn(problem.x, tuple(problem.state.values()))[0][0]
    weights = kernels.pack(kernels.plain(rnn))
    scratch = np.empty((threads, kernels.scratch_size(weights, 1, BLOCK)), np.float32)
    for name, run in (
        ("blocks", lambda h, c: _blocks(weights, x, h, c, scratch, BLOCK)),
        ("one by one", lambda h, c: _one_by_one(weights, x, h, c, scratch)),
    ):
        mine = h.copy()
        run(mine, c.copy())
        _check(name, mine, expected)
    h, c, state = h.copy(), c.copy(), tuple(problem.state.values())
    gates = np.random.default_rng(0).standard_normal((count, 4 * units)).astype(np.float32)
    addresses = (gates.ctypes.data, h.ctypes.data, c.ctypes.data)
    both, stacked = np.concatenate([x, h], axis=1), np.zeros((inputs + units, 4 * units), np.float32)
    lane, zero = lanes(np.float32), np.float32(0)
    calls = {
        f"in prange, blocks of {BLOCK}": Call(lambda: _blocks(weights, x, h, c, scratch, BLOCK)),
        "in prange, one stream per call": Call(lambda: _one_by_one(weights, x, h, c, scratch)),
        "layer": Call(lambda: rnn(problem.x, state)),
        "bound: gate equations alone": Call(
            lambda: _equations_parallel(rnn.cell, *addresses, count, units, lane, zero)
        ),
        "bound: products alone": Call(lambda: matmul(both, stacked, out=gates)),
    }
    for peer in (PyTorch, OnnxRuntime):
        if not peer.missing():
            other = peer(problem, threads)
            calls[peer.name] = Call(other.infer, start=other.start)
    return calls


def _report(
    title: str, calls: dict[str, Call], times: dict[str, Times], unit: float, flops: float
) -> list[Any]:
    print(f"\n{title}")
    rows = []
    for name, call in calls.items():
        seconds = sorted(s / call.count for s in times[name].seconds)
        median, (low, high) = times[name].median / call.count, times[name].quartiles
        spread = f"({low / call.count * unit:.2f} to {high / call.count * unit:.2f})"
        rate = (
            f"  {flops / median / 1e9:.1f} GFLOP/s of products" if flops and "equations" not in name else ""
        )
        print(f"  {name:36}{median * unit:9.2f}  {spread}{rate}")
        rows.append({"name": name, "median": median, "seconds": seconds})
    return rows


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=DEFAULT_REPEATS, help="[default: 11]")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    threads = thread_count()
    set_thread_count(threads)  # for the loops of this file, which are Numba's
    found: dict[str, Any] = {
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "protocol": protocol(options.repeats),
    }
    for cell in ("lstm", "gru"):
        calls = _steps_of(cell, threads)
        rows = _report(
            f"{cell}, 16 inputs, 64 units: microseconds per step (quartiles)",
            calls,
            measure(calls, options.repeats),
            1e6,
            0,
        )
        found[f"{cell} step"] = rows
    calls = _streams(threads)
    flops = 2.0 * 10_000 * 4 * 16 * (16 + 16)
    size = f"10,000 streams of an LSTM, 16 inputs, 16 units, {threads} threads"
    title = f"{size}: milliseconds per step (quartiles)"
    found["streams"] = _report(title, calls, measure(calls, options.repeats), 1e3, flops)
    found["machine"] = machine()
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
