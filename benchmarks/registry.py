"""Every implementation by its name."""

from __future__ import annotations

from collections.abc import Sequence

from lstm_numba.benchmarks.implementations import CpuParallel, CpuSerial, Cuda, CudaTransfers, Implementation
from lstm_numba.benchmarks.peers import OnnxRuntime, PyTorch, PyTorchCuda

#: Name -> class. A new implementation is a class here and a name in `lstm_numba.benchmarks.cases`.
CLASSES: dict[str, type[Implementation]] = {
    cls.name: cls for cls in (CpuSerial, CpuParallel, Cuda, CudaTransfers, PyTorch, OnnxRuntime, PyTorchCuda)
}


def unavailable(names: Sequence[str]) -> dict[str, str]:
    """Those of `names` that cannot run on this computer, and why."""
    reasons = {name: CLASSES[name].missing() for name in names}
    return {name: reason for name, reason in reasons.items() if reason}
