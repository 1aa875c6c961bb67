"""Under which conditions implementations are timed: pauses, other processes, another instruction set."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from lstm_numba.errors import UserError

#: Computes without end, until whoever started it is gone.
_BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))"
#: Seconds until the scheduler has spread new processes over the cores.
_SETTLED = 0.3
#: Instruction set -> environment in which Numba, PyTorch with oneDNN and MKL, and NumPy with OpenBLAS use it.
_ISA = {
    "avx2": {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+sse2,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,+bmi2,+f16c,+lzcnt,+movbe",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    },
}
ISAS = tuple(_ISA)
#: Names the instruction set in the environment of a process that was started for it.
_CHOSEN = "LSTM_NUMBA_BENCH_ISA"
#: Implementation -> why it is not timed with an instruction set that is not the processor's own.
_NO_SWITCH = {"onnxruntime": "it has no switch for the instruction set"}


class Conditions(NamedTuple):
    """What else happens while implementations are timed.

    Attributes
    ----------
    pause : float
        Seconds that pass before each call, as in a program that does something else too.
    busy : int
        Processes that compute without end.
    """

    pause: float = 0.0
    busy: int = 0


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Context in which so many processes compute without end."""
    processes = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        if count:
            time.sleep(_SETTLED)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def chosen_isa() -> str | None:
    """The instruction set that this process was started for; None for the processor's own."""
    return os.environ.get(_CHOSEN)


def offers(isa: str) -> bool:
    """Whether the processor has an instruction set."""
    from llvmlite import binding

    try:
        features = binding.get_host_cpu_features()
    except RuntimeError:  # LLVM cannot tell on this platform
        return False
    return bool(features.get(isa))


def environment(isa: str) -> dict[str, str]:
    """Variables that make libraries use an instruction set.

    Raises
    ------
    UserError
        The processor does not have it.
    """
    if not offers(isa):
        raise UserError(f"--isa {isa}: this processor does not have it")
    return {**_ISA[isa], _CHOSEN: isa}


def run_with_isa(isa: str, arguments: Sequence[str]) -> int:
    """Run ``lstm-numba bench`` with an instruction set, in a new process, as libraries choose theirs once.

    Returns
    -------
    int
        The exit status.
    """
    command = [sys.executable, "-m", "lstm_numba", "bench", *arguments]
    return subprocess.run(command, env={**os.environ, **environment(isa)}).returncode


def without_switch(names: Sequence[str]) -> Mapping[str, str]:
    """Those implementations that cannot be timed with the chosen instruction set, and why."""
    return {name: _NO_SWITCH[name] for name in names if name in _NO_SWITCH} if chosen_isa() else {}
