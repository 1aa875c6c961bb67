"""Peak memory of a training step, each implementation in a process of its own.

The process imports, compiles and warms up on the given shape with two time steps only, which runs the same
kernels. Then it builds the implementation for the whole shape and reads how much memory the process holds;
after three calls it reports by how much the peak exceeds that. The number does not include weights and input;
it includes everything that a training step allocates.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import subprocess
import sys
from pathlib import Path

from lstm_numba.benchmarks.cases import Row, Shape
from lstm_numba.benchmarks.implementations import Problem
from lstm_numba.benchmarks.registry import CLASSES
from lstm_numba.training.settings import is_own_cell

_STEPS = 3
_STATUS = Path("/proc/self/status")


def growth_in_child(name: str, row: Row, dtype: str) -> float | None:
    """Measure in a new process.

    Parameters
    ----------
    name : str
        Implementation.
    row : Row
        A training row.
    dtype : str

    Returns
    -------
    float or None
        MiB; None where the system does not tell, or the process failed.
    """
    options = {"name": name, "cell": row.cell, "shape": row.shape, "dtype": dtype, "threads": row.threads}
    done = subprocess.run(
        [sys.executable, "-m", "lstm_numba.benchmarks.memory", json.dumps(options)],
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
    if is_own_cell(cell):
        from lstm_numba.cells import load_cell

        load_cell(cell)
    for size in (shape._replace(steps=2), shape):
        implementation = CLASSES[name](Problem(cell, size, "training", dtype), threads)
        implementation.start()
        before = _reset_peak()
        for _ in range(_STEPS):
            implementation.call()
            implementation.finish()
    peak = _peak()
    return None if before is None or peak is None else max(peak - before, 0) / 2**20


def _reset_peak() -> int | None:
    """Bytes held now; where possible, frees unused memory and resets the system's record of the peak."""
    memory = sys.modules.get("lstm_numba.engines.cpu.memory")
    if memory is not None:
        memory.Memory.idle.clear()
    with contextlib.suppress(OSError, AttributeError, TypeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    # Linux: sets the recorded peak to what is held now. Elsewhere only growth beyond earlier peaks is seen.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int | None:
    """Largest number of bytes held so far."""
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
    options = json.loads(sys.argv[1])
    options["shape"] = Shape(*options["shape"])
    print(json.dumps(growth(**options)))


if __name__ == "__main__":
    main()
