"""`lstm-numba bench` in pieces: rows are kept one by one, what matters most first.

python -m lstm_numba.benchmarks.gpu.rows six
python -m lstm_numba.benchmarks.gpu.rows crossover --batches 1,16,256 --hiddens 64,512
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np

from lstm_numba.benchmarks import correctness
from lstm_numba.benchmarks.cases import Row, parse_shape
from lstm_numba.benchmarks.gpu.record import computing, finish, guarded, left, say, verdict
from lstm_numba.benchmarks.gpu.schedule import processors
from lstm_numba.benchmarks.gpu.shapes import SIX
from lstm_numba.benchmarks.registry import unavailable
from lstm_numba.benchmarks.runner import Bench, Settings

_TASKS = ("inference", "training")
#: Who takes part: at the six shapes, and where the devices overtake each other.
_IMPLEMENTATIONS = {
    "six": ("cuda", "pytorch-cuda", "cpu-parallel"),
    "crossover": ("cuda", "cuda-transfers", "cpu-parallel", "pytorch-cuda"),
}
#: Seconds that a row may take: with less left, none is begun.
_LEAST = 3.0


def numbers(text: str) -> list[int]:
    """Whole numbers with commas between them."""
    return [int(word) for word in text.split(",")]


def planned(args: argparse.Namespace) -> Iterator[Row]:
    """All rows in their order."""
    if args.what == "six":
        for cell in args.cell:
            for shape in SIX.values():
                for task in _TASKS:
                    yield Row(cell, shape, task, args.threads)
        return
    around = parse_shape(args.shape)
    shapes = [around._replace(name="batch", batch=n) for n in args.batches]
    shapes += [around._replace(name="hidden", hidden=n) for n in args.hiddens]
    for cell in args.cell:
        for task in _TASKS[::-1]:
            for shape in shapes:
                yield Row(cell, shape, task, args.threads)


def accept_everything() -> None:
    """Let implementations be timed that compute nothing, as all do with the stand-in driver."""
    for dtype, tolerances in correctness.TOLERANCES.items():
        correctness.TOLERANCES[dtype] = dict.fromkeys(tolerances, np.inf)


def main() -> None:
    """Run the rows that there is time for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=list(_IMPLEMENTATIONS))
    parser.add_argument("--cell", action="append", help="[default: lstm; of six also gru]")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=processors())
    parser.add_argument("--shape", default="mnist", help="around which the sweeps go")
    parser.add_argument("--batches", type=numbers, default="1,4,16,64,256")
    parser.add_argument("--hiddens", type=numbers, default="64,128,256,512,1024")
    args = parser.parse_args()
    args.cell = args.cell or (["lstm", "gru"] if args.what == "six" else ["lstm"])
    if not computing():
        accept_everything()
    names = _IMPLEMENTATIONS[args.what]
    for name, reason in unavailable(names).items():
        say("left out", contestant=name, reason=reason)
    bench = Bench(Settings(names, repeats=args.repeats))
    for row in planned(args):
        facts = {"cell": row.cell, "shape": row.shape.dimensions, "task": row.task}
        if left() < _LEAST:
            say("left out", **facts)
            continue
        with guarded("row", **facts):
            for found in bench.run([row]):
                medians = {name: entry["median"] for name, entry in found["contestants"].items()}
                say("row", **facts, right=verdict(not found["refused"]), medians=medians, content=found)
    finish()


if __name__ == "__main__":
    main()
