"""A Clockwork RNN beside a plain RNN of as many units: times, and the multiplications of both.

    python benchmarks/clockwork.py --shape ptb-medium --groups 4 --json OUTPUT.json

The periods are 1, 2, 4, 8, ... Ratios are the Clockwork RNN's over the plain RNN's, of times and of the
multiplications in matrix products. Times have a larger one: there are copies of the slower groups' states to
the input of the faster ones, a call of the engine for each group, and products with few units.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from lstm_numba.benchmarks.cases import DEFAULT_REPEATS, SHAPES, Shape, parse_shape
from lstm_numba.benchmarks.results import machine
from lstm_numba.engines.cpu.threads import thread_count
from lstm_numba.nn.clockwork import ClockworkRNN
from lstm_numba.nn.layers import RNN
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.timing import Call, measure, protocol

Array = np.ndarray[Any, Any]
TASKS = ("inference", "training")


def products(shape: Shape, periods: tuple[int, ...], task: str) -> int:
    """Multiplications of a layer's matrix products; with the one period 1 those of a plain RNN."""
    units, count = shape.hidden // len(periods), 0
    for k, period in enumerate(periods):
        read = shape.inputs + (len(periods) - k) * units
        count += -(-shape.steps // period) * shape.batch * units * read
    return count * (3 if task == "training" else 1)  # forward, gradients of what is read, and of weights


def by_the_paper(layer: ClockworkRNN, x: Array) -> Array:
    """The output of a layer, by a loop over all units."""
    size, inputs, groups = layer.group_size, layer.input_size, len(layer.periods)
    w, r = np.zeros((layer.hidden_size, inputs)), np.zeros((layer.hidden_size, layer.hidden_size))
    for k in range(groups):
        rows = slice(k * size, (k + 1) * size)
        own, slower = np.split(layer.params[f"weight_ih_l0_g{k}"], [inputs], axis=1)
        w[rows], r[rows, rows], r[rows, rows.stop :] = own, layer.params[f"weight_hh_l0_g{k}"], slower
    names = ("bias_ih", "bias_hh")
    bias = sum(np.concatenate([layer.params[f"{name}_l0_g{k}"] for k in range(groups)]) for name in names)
    h, y = np.zeros((x.shape[1], layer.hidden_size)), []
    for t, sample in enumerate(x):
        moves = np.repeat([t % period == 0 for period in layer.periods], size)
        h = np.where(moves, np.tanh(sample @ w.T + h @ r.T + bias), h)
        y.append(h)
    return np.array(y)


def call(layer: Recurrent, task: str, x: Array, dy: Array) -> Call:
    """A task of a layer as a function without arguments."""
    if task == "inference":
        return Call(lambda: layer(x))
    return Call(lambda: layer.backward(layer.forward(x)[2], dy))


def compare(shape: Shape, groups: list[int], repeats: int) -> list[dict[str, Any]]:
    """Check, time and print the layers of one shape."""
    rng = np.random.default_rng(0)
    x, dy = (
        rng.standard_normal((shape.steps, shape.batch, n)).astype(np.float32)
        for n in (shape.inputs, shape.hidden)
    )
    layers: dict[int, ClockworkRNN] = {}
    for count in groups:
        if shape.hidden % count:
            print(f"{shape.name}: {shape.hidden} units cannot be {count} groups")
            continue
        clockwork = ClockworkRNN(
            shape.inputs, shape.hidden, periods=tuple(2**k for k in range(count)), seed=0
        )
        error = float(np.abs(clockwork(x)[0] - by_the_paper(clockwork, x)).max())
        if not error < 1e-5:
            raise SystemExit(f"{shape.name}, {count} groups: differs from the paper's loop by {error}")
        layers[count] = clockwork
    plain, rows = RNN(shape.inputs, shape.hidden, seed=0), []
    for task in TASKS:
        calls = {"plain": call(plain, task, x, dy)}
        calls |= {f"{count} groups": call(layer, task, x, dy) for count, layer in layers.items()}
        times = measure(calls, repeats)
        reference, whole = times["plain"].median, products(shape, (1,), task)
        print(f"\n{shape.name} ({shape.dimensions}), {task}: plain RNN {reference * 1e3:.3f} ms")
        for count, layer in layers.items():
            seconds, part = times[f"{count} groups"], products(shape, layer.periods, task)
            ratios = f"time {seconds.median / reference:.2f}, multiplications {part / whole:.2f}"
            print(f"  {count} groups: {seconds.median * 1e3:8.3f} ms; {ratios}")
            rows.append(
                {"shape": shape._asdict(), "task": task, "groups": count, "multiplications": part,
                 "plain_multiplications": whole, "seconds": seconds.seconds,
                 "plain_seconds": times["plain"].seconds}
            )  # fmt: skip
    return rows


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--shape", type=parse_shape, action="append",
        help="name, or BATCHxSTEPSxINPUTSxHIDDEN; may be repeated  [default: mnist, ptb-small, wide]",
    )  # fmt: skip
    parser.add_argument("--groups", type=int, action="append", help="may be repeated  [default: 2, 4, 8]")
    parser.add_argument(
        "--repeats", type=int, default=DEFAULT_REPEATS, help=f"  [default: {DEFAULT_REPEATS}]"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    shapes = options.shape or [SHAPES[name] for name in ("mnist", "ptb-small", "wide")]
    print(f"{thread_count()} threads")
    rows = [row for shape in shapes for row in compare(shape, options.groups or [2, 4, 8], options.repeats)]
    if options.json:
        found = {
            "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
            "protocol": protocol(options.repeats),
        }
        options.json.write_text(json.dumps({**found, "rows": rows, "machine": machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
