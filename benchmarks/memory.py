"""Peak memory of a training step, each contestant in a process of its own.

The process imports, compiles and warms up on the wanted shape with two time steps only, which runs the same
kernels. Then it makes the contestant of the whole shape and notes how much memory it holds; three calls later
it reports by how much the peak exceeds that. Weights and input are not in the number, everything that a
training step allocates is.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import subprocess
import sys
from pathlib import Path

from lstm_numba.benchmarks.cases import Row, Shape
from lstm_numba.training.settings import is_own_cell

_STEPS = 3
_STATUS = Path("/proc/self/status")


def growth_in_child(name: str, row: Row, dtype: str) -> float | None:
    """Measure in a new process.

    Parameters
    ----------
    name : str
        Contestant.
    row : Row
        A training row.
    dtype : str

    Returns
    -------
    float or None
        MiB; None where the system does not tell, or the process failed.
    """
    order = {"name": name, "cell": row.cell, "shape": row.shape, "dtype": dtype, "threads": row.threads}
    done = subprocess.run(
        [sys.executable, "-m", "lstm_numba.benchmarks.memory", json.dumps(order)],
        capture_output=True,
        text=True,
    )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return None
    return None if answer is None else float(answer)


def growth(name: str, cell: str, shape: Shape, dtype: str, threads: int) -> float | None:
    """Measure in this process: MiB by which the peak of three steps exceeds what was held before."""
    from lstm_numba.benchmarks.implementations import Problem
    from lstm_numba.benchmarks.runner import CLASSES

    if is_own_cell(cell):
        from lstm_numba.cells import load_cell

        load_cell(cell)
    for size in (shape._replace(steps=2), shape):
        contestant = CLASSES[name](Problem(cell, size, "training", dtype), threads)
        contestant.start()
        before = _begin()
        for _ in range(_STEPS):
            contestant.call()
            contestant.finish()
    peak = _peak()
    return None if before is None or peak is None else max(peak - before, 0) / 2**20


def _begin() -> int | None:
    """Bytes held now; makes the system forget earlier peaks and memory that is free, where it can."""
    arrays = sys.modules.get("lstm_numba.engines.cpu.memory")
    if arrays is not None:
        arrays.Memory.idle.clear()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: sets the peak to what is held now
    except OSError:
        return _peak()  # growth beyond the highest peak so far is all that can be seen
    return _peak()


def _peak() -> int | None:
    """Bytes held at the most."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    try:
        import resource
    except ImportError:  # no such call on this system
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    """Read what to measure from the command line and print MiB as JSON."""
    order = json.loads(sys.argv[1])
    order["shape"] = Shape(*order["shape"])
    print(json.dumps(growth(**order)))


if __name__ == "__main__":
    main()
