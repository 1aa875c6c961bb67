"""Training with options of the recurrent layers, or of other cells, beside the plain layer: times, and
multiplications of both.

    python benchmarks/layer_options.py --cell lstm --shape ptb-medium --json OUTPUT.json
    python benchmarks/layer_options.py --cell lstm --other slstm --other layer-norm-lstm --option plain

Ratios are the option's over the plain layer's, of times and of the multiplications in matrix products. What
an option costs beyond these is its masks, which are drawn and read, and the equations.
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
from lstm_numba.nn.layers import make_layer
from lstm_numba.nn.recurrent import Recurrent
from lstm_numba.timing import Call, measure, protocol

Array = np.ndarray[Any, Any]

#: What is timed -> options of the layer, and the arguments of each call.
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "resets, one step in 20": ({}, {"reset_to": "zeros"}),
    "resets to the initial state": ({}, {"reset_to": "initial"}),
    "zoneout=0.1": ({"zoneout": 0.1}, {}),
    "recurrent_dropout=0.2, a sequence": ({"recurrent_dropout": 0.2}, {}),
    "recurrent_dropout=0.2, candidate": (
        {"recurrent_dropout": 0.2, "recurrent_dropout_kind": "candidate"},
        {},
    ),
    "weight_drop=0.2": ({"weight_drop": 0.2}, {}),
    "heads=2": ({"heads": 2}, {}),
    "proj_size=H/2": ({"proj_size": 0.5}, {}),
}


def products(layer: Recurrent, shape: Shape) -> int:
    """Multiplications of a training pass's matrix products: forward, and both gradients of each."""
    numbers = sum(array.size for name, array in layer.params.items() if name.startswith("weight_"))
    return 3 * shape.steps * shape.batch * numbers


def training(layer: Recurrent, x: Array, state: Any, dy: Array, arguments: dict[str, Any]) -> Call:
    """A forward and a backward pass as a function without arguments."""
    return Call(lambda: layer.backward(layer.forward(x, state, **arguments)[2], dy))


def agrees(layer: Recurrent, x: Array, dy: Array, arguments: dict[str, Any], state: Any) -> bool:
    """Whether the gradient of x is the slope of the loss along it, in float32, with the same masks."""

    def loss(x: Array) -> float:
        layer.rng = np.random.default_rng(1)
        return float(np.vdot(layer.forward(x, state, **arguments)[0].astype(np.float64), dy))

    layer.rng = np.random.default_rng(1)
    dx, _, _ = layer.backward(layer.forward(x, state, **arguments)[2], dy)
    direction = dx / np.linalg.norm(dx)
    step = np.float32(0.01)
    slope = (loss(x + step * direction) - loss(x - step * direction)) / (2 * step)
    return bool(abs(slope - np.vdot(dx, direction)) < 0.01 * abs(slope))


def compare(
    cell: str, shape: Shape, names: list[str], others: list[str], repeats: int
) -> list[dict[str, Any]]:
    """Check, time and print the layers of one shape."""
    rng = np.random.default_rng(0)

    def draw(*size: int) -> Array:
        return rng.standard_normal(size).astype(np.float32)

    x, resets = draw(shape.steps, shape.batch, shape.inputs), rng.random((shape.steps, shape.batch)) < 0.05
    calls: dict[str, Call] = {}
    counts: dict[str, int] = {}
    for name in ["plain", *(name for name in names if name != "plain"), *others]:
        options, given = OPTIONS.get(name, ({}, {}))
        if "proj_size" in options:
            if cell != "lstm":
                continue
            options = {"proj_size": shape.hidden // 2}
        layer = make_layer(name if name in others else cell, shape.inputs, shape.hidden, seed=0, **options)
        arguments: dict[str, Any] = {**given, "resets": resets} if given else {}
        state, dy = layer.zero_state(shape.batch), draw(shape.steps, shape.batch, layer.output_size)
        if not agrees(layer, x, dy, arguments, state):
            raise SystemExit(f"{cell}, {shape.name}, {name}: the gradient of x is not the loss's slope")
        calls[name], counts[name] = training(layer, x, state, dy, arguments), products(layer, shape)
    times = measure(calls, repeats)
    plain, rows = times["plain"].median, []
    print(f"\n{cell}, {shape.name} ({shape.dimensions}), training: plain {plain * 1e3:.3f} ms")
    for name, found in times.items():
        part = counts[name] / counts["plain"]
        if name != "plain":
            print(f"  {name:36} time {found.median / plain:.2f}, multiplications {part:.2f}")
        rows.append(
            {"cell": cell, "shape": shape._asdict(), "option": name, "multiplications": counts[name],
             "seconds": found.seconds, "ratio": found.median / plain}
        )  # fmt: skip
    return rows


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", action="append", help="may be repeated  [default: lstm, gru]")
    parser.add_argument(
        "--shape", type=parse_shape, action="append",
        help="name, or BATCHxSTEPSxINPUTSxHIDDEN; may be repeated  [default: mnist, ptb-small, ptb-medium]",
    )  # fmt: skip
    parser.add_argument(
        "--option", action="append", choices=list(OPTIONS), help="may be repeated  [default: all]"
    )
    parser.add_argument("--other", action="append", default=[], help="another cell; may be repeated")
    parser.add_argument(
        "--repeats", type=int, default=DEFAULT_REPEATS, help=f"  [default: {DEFAULT_REPEATS}]"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args()
    shapes = args.shape or [SHAPES[name] for name in ("mnist", "ptb-small", "ptb-medium")]
    print(f"{thread_count()} threads")
    rows = [
        row
        for cell in args.cell or ["lstm", "gru"]
        for shape in shapes
        for row in compare(cell, shape, args.option or list(OPTIONS), args.other, args.repeats)
    ]
    if args.json:
        found = {
            "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
            "protocol": protocol(args.repeats),
        }
        args.json.write_text(json.dumps({**found, "rows": rows, "machine": machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
