"""What `rnn.trace` costs beside the forward pass: its seconds over those of a call and of `rnn.forward`.

    python benchmarks/trace_cost.py --cell lstm --shape mnist --json OUTPUT.json

A call, `rnn(x, state)`, keeps nothing; `rnn.forward` keeps what the backward pass needs, which is about what
a trace returns. Before anything is timed, h of the trace is compared with the output of the call.
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
from lstm_numba.cells import BUILT_IN
from lstm_numba.engines.cpu.threads import thread_count
from lstm_numba.nn.layers import make_layer
from lstm_numba.timing import Call, measure, protocol

#: The shapes whose forward pass is more than a few microseconds.
_SHAPES = ("mnist", "ptb-small", "ptb-medium", "wide", "sequence-256")


def compare(cell: str, shape: Shape, repeats: int) -> dict[str, Any]:
    """Check, time and print one cell and shape."""
    rng = np.random.default_rng(0)
    layer = make_layer(cell, shape.inputs, shape.hidden, seed=0)
    x = rng.standard_normal((shape.steps, shape.batch, shape.inputs)).astype(np.float32)
    state = layer.zero_state(shape.batch)
    if not np.array_equal(layer.trace(x, state)["h_l0"], layer(x, state)[0]):
        raise SystemExit(f"{cell}, {shape.name}: h of the trace is not the output")
    calls = {
        "call": Call(lambda: layer(x, state)),
        "forward": Call(lambda: layer.forward(x, state)),
        "trace": Call(lambda: layer.trace(x, state)),
    }
    times = measure(calls, repeats)
    ratios = {name: times["trace"].median / times[name].median for name in ("call", "forward")}
    print(
        f"{cell:18} {shape.name:13} call {times['call'].median * 1e3:8.3f} ms  "
        + "  ".join(f"trace / {name} {ratio:.2f}" for name, ratio in ratios.items()),
        flush=True,
    )
    seconds = {name: found.seconds for name, found in times.items()}
    return {"cell": cell, "shape": shape._asdict(), "seconds": seconds, "ratios": ratios}


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", action="append", help="may be repeated  [default: all]")
    parser.add_argument(
        "--shape", type=parse_shape, action="append",
        help=f"name, or BATCHxSTEPSxINPUTSxHIDDEN; may be repeated  [default: {', '.join(_SHAPES)}]",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=DEFAULT_REPEATS, help="  [default: %(default)s]")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    args = parser.parse_args()
    print(f"{thread_count()} threads")
    shapes = args.shape or [SHAPES[name] for name in _SHAPES]
    rows = [compare(cell, shape, args.repeats) for shape in shapes for cell in args.cell or BUILT_IN]
    if args.json:
        found = {
            "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
            "protocol": protocol(args.repeats),
        }
        args.json.write_text(json.dumps({**found, "rows": rows, "machine": machine()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
