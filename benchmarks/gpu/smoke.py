"""Is it right? One cell against the slow reference, or what lies around the cells against NumPy.

python -m lstm_numba.benchmarks.gpu.smoke lstm
python -m lstm_numba.benchmarks.gpu.smoke around
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from lstm_numba.benchmarks import correctness
from lstm_numba.benchmarks.cases import Shape
from lstm_numba.benchmarks.gpu.choices import MODES, NotSelectable, kernel, mode
from lstm_numba.benchmarks.gpu.record import computing, finish, guarded, left, say, verdict
from lstm_numba.benchmarks.gpu.sections import SMOKE
from lstm_numba.benchmarks.implementations import Cuda, Problem

HIDDENS, BATCHES = (17, 261, 650), (1, 5, 20)
_REPEATS = 20
#: A way to run sequences.
Way = Callable[[], contextlib.AbstractContextManager[None]]
#: Largest error of products over the largest number: of float32, and of operands rounded to TF32.
_FLOAT32, _TF32 = 1e-5, 5e-3


def run_cell(cell: str) -> None:
    """All sizes against the reference, then every way to run them, repeatedly, bit for bit."""
    for hidden in HIDDENS:
        for batch in BATCHES:
            shape = Shape("", batch, 5 if hidden < 200 else 3, 13, hidden)
            facts = {"cell": cell, "hidden": hidden, "batch": batch}
            if left() < 2:
                say("left out", **facts)
                continue
            with guarded("reference", **facts):
                problem = Problem(cell, shape, "training", "float32")
                arrays = correctness.compute(Cuda(problem, 1), problem)
                _say_differences(problem, arrays, facts)
            with guarded("same bits", **facts):
                _compare_ways(problem, facts)


def _say_differences(problem: Problem, arrays: dict[str, Any], facts: dict[str, Any]) -> None:
    if not computing():
        say("reference", **facts, right=verdict(False), arrays=sorted(arrays))
        return
    found = correctness.Reference(problem).differences(arrays)
    worst = correctness.worst(found)
    right = all(difference.acceptable for difference in found)
    say("reference", **facts, right=right, worst=str(worst), relative=worst.relative)


def _selectable(implementation: Cuda, problem: Problem, facts: dict[str, Any]) -> dict[str, Way]:
    """Both launch modes of general kernels and a persistent kernel, as far as this problem has them."""
    ways: dict[str, Way] = {name: partial(mode, name) for name in MODES}
    ways["persistent"] = partial(kernel, "persistent")
    for name, way in list(ways.items()):
        try:
            with way():
                correctness.compute(implementation, problem)
        except NotSelectable as error:
            say("same bits", **facts, way=name, not_selectable=str(error))
            del ways[name]
    return ways


def _compare_ways(problem: Problem, facts: dict[str, Any]) -> None:
    """Whether every run gives the same bits, in both launch modes of general kernels and in a persistent one.

    The persistent kernel adds in another order: it is compared with the general ones to rounding.
    """
    implementation = Cuda(problem, 1)
    ways = _selectable(implementation, problem, facts)
    repeats, others = _REPEATS if computing() else 1, dict.fromkeys(ways, 0)
    expected: dict[bool, dict[str, Any]] = {}  # of persistent kernels, and of general ones
    for _ in range(repeats):
        for name, way in ways.items():
            with way():
                arrays = correctness.compute(implementation, problem)
            first = expected.setdefault(name == "persistent", arrays)
            others[name] += any(array.tobytes() != first[n].tobytes() for n, array in arrays.items())
    right = verdict(not any(others.values()))
    say("same bits", **facts, right=right, repeats=repeats, runs_with_other_bits=others)
    if len(expected) == 2:
        found = correctness.between(expected[True], expected[False], "the general kernel", problem.dtype)
        worst = correctness.worst(found)
        right = verdict(all(difference.acceptable for difference in found))
        say("kernels alike", **facts, right=right, worst=str(worst), relative=worst.relative)


def products() -> None:
    """Our product and cuBLAS's, and TF32."""
    from lstm_numba.engines.cuda import cublas, memory
    from lstm_numba.engines.cuda import gemm as engine
    from lstm_numba.engines.cuda.device_array import transposed

    rng = np.random.default_rng(7)
    kinds = [("numba", False)]
    if cublas.available():
        kinds += [("cublas", False), ("cublas", True)]
    else:
        say("products", backend="cublas", left_out="CuPy with cuBLAS is not here")
    for rows, depth, columns in ((7, 13, 5), (700, 650, 2600), (2600, 700, 650)):
        a, b = rng.standard_normal((rows, depth)), rng.standard_normal((depth, columns))
        expected = a.astype(np.float32).astype(np.float64) @ b.astype(np.float32).astype(np.float64)
        on_device = [memory.upload(m.astype(np.float32)) for m in (a, np.ascontiguousarray(b.T))]
        for backend, tf32 in kinds:
            facts = {"backend": backend, "tf32": tf32, "size": [rows, depth, columns]}
            with guarded("products", **facts):
                engine.use(backend)
                engine.allow_tf32(tf32)
                try:
                    out = memory.zeros((rows, columns), np.float32)
                    engine.matmul(on_device[0], transposed(on_device[1]), out=out)
                    error = np.max(np.abs(memory.download(out) - expected)) / np.max(np.abs(expected))
                finally:
                    engine.allow_tf32(False)
                    engine.use(None)
                right = verdict(bool(error < (_TF32 if tf32 else _FLOAT32)))
                say("products", **facts, right=right, error=float(error))


def masks() -> None:
    """Dropout masks drawn on the device are NumPy's, and so is what is drawn after them."""
    from lstm_numba.engines import engine
    from lstm_numba.engines.dropout_masks import draw_mask

    cuda = engine("cuda")
    for size in (1, 17, 700 * 650):
        here, there = (np.random.Generator(np.random.Philox(5)) for _ in range(2))
        right = True
        for _ in range(3):
            _, mask = cuda.dropout(there, cuda.upload(np.ones(size, np.float32)), 0.3)
            right = right and np.array_equal(cuda.download(mask), draw_mask(here, (size,), 0.3))
        say("masks", size=size, right=verdict(right))


def side_stream() -> None:
    """Work on a stream of its own has the bits of work on the default stream."""
    from lstm_numba.engines.cuda.driver import cuda
    from lstm_numba.engines.cuda.launch import on_stream

    problem = Problem("lstm", Shape("", 20, 20, 64, 200), "training", "float32")
    expected = correctness.compute(Cuda(problem, 1), problem)
    for _ in range(3):
        with on_stream(cuda.stream()):
            arrays = correctness.compute(Cuda(problem, 1), problem)
        right = all(np.array_equal(arrays[name], expected[name]) for name in expected)
        say("side stream", right=verdict(right))


def fetch() -> None:
    """Numbers that are fetched while the host goes on are those that the processor computes, in order."""
    from lstm_numba.models.base import SequenceBatch
    from lstm_numba.models.classifier import SequenceClassifier

    rng = np.random.default_rng(3)
    batches = [
        SequenceBatch(rng.standard_normal((28, 32, 28)).astype(np.float32), rng.integers(0, 10, 32))
        for _ in range(8)
    ]
    losses = {}
    for device in ("cpu", "cuda"):
        model = SequenceClassifier(28, 64, 10, seed=1, device=device)
        results = [model.evaluate(batch) for batch in batches]
        for result in results:
            result.fetch()
        losses[device] = [result.loss_sum for result in results]
    error = float(np.max(np.abs(np.subtract(losses["cuda"], losses["cpu"])) / np.abs(losses["cpu"])))
    say("fetch", right=verdict(error < 1e-5), error=error)


def main() -> None:
    """Check what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=SMOKE)
    part = parser.parse_args().part
    if part != "around":
        run_cell(part)
    else:
        for check_part in (products, masks, side_stream, fetch):
            with guarded(check_part.__name__):
                check_part()
    finish()


if __name__ == "__main__":
    main()
