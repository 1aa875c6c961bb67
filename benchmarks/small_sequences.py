"""Runs every kernel of a recurrent layer on the GPU on small sequences, and compares with the reference.

For tools that check memory accesses and races: few threads, few steps, and both ways in which blocks divide
the work (each computes all units of some sequences; or they divide the units, with a barrier at every step).

    compute-sanitizer --tool memcheck python benchmarks/small_sequences.py
    compute-sanitizer --tool racecheck python benchmarks/small_sequences.py --cell lstm
"""

from __future__ import annotations

import argparse

from lstm_numba.benchmarks import correctness
from lstm_numba.benchmarks.cases import Shape
from lstm_numba.benchmarks.implementations import Cuda, Problem
from lstm_numba.cells import BUILT_IN
from lstm_numba.training.settings import DTYPES


def wrong(cell: str, shape: Shape, dtype: str) -> list[str]:
    """Arrays of a forward and backward pass that differ from the reference by more than rounding."""
    problem = Problem(cell, shape, "training", dtype)
    arrays = correctness.compute(Cuda(problem, 1), problem)
    found = correctness.Reference(problem).differences(arrays)
    return [str(difference) for difference in found if not difference.acceptable]


def main() -> None:
    """Read the arguments, compute, and exit with status 1 if something is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", choices=BUILT_IN, action="append", help="may be repeated")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="precision")
    parser.add_argument("--steps", type=int, default=3, help="time steps  [default: 3]")
    parser.add_argument(
        "--batch", type=int, action="append", help="sequences; may be repeated  [default: 1, 5]"
    )
    parser.add_argument("--inputs", type=int, default=7, help="input size  [default: 7]")
    parser.add_argument(
        "--hidden",
        type=int,
        action="append",
        help="hidden size; may be repeated  [default: 17, 261; at 261 blocks divide the units]",
    )
    args = parser.parse_args()
    failed = False
    for cell in args.cell or ("lstm", "gru", "gru-reset-before", "peephole"):
        for hidden in args.hidden or (17, 261):
            for batch in args.batch or (1, 5):
                shape = Shape("", batch, args.steps, args.inputs, hidden)
                found = wrong(cell, shape, args.dtype)
                print(f"{cell} {shape.dimensions} {args.dtype}: {'; '.join(found) or 'right'}", flush=True)
                failed = failed or bool(found)
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
