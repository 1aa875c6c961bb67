"""The CUDA engine's kernels as compiled code, without CUDA; see `compiled_kernels.py`."""

from __future__ import annotations

import subprocess
import sys

import compiled_kernels
import pytest
from repository import ROOT


@pytest.mark.slow
def test_compiled_kernels_agree_with_the_cpu_engine() -> None:
    script = ROOT / "tests" / "support" / "compiled_kernels.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for dtype in ("float32", "float64"):
        assert f"{dtype}: activations, products, masks, losses, updates, sums agree" in done.stdout
    for name in compiled_kernels.cells():
        assert f"{name}, float32: compiled kernels agree" in done.stdout
