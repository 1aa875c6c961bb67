"""Choosing an engine: what is said where there is no CUDA."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from backends import reason_without_cuda

import lstm_numba as ln
from lstm_numba import engines
from lstm_numba.cells import BUILT_IN
from lstm_numba.errors import DeviceError, UserError
from lstm_numba.training import config


def test_without_the_extra_a_call_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    engines.find_cuda.cache_clear()
    try:
        with pytest.raises(DeviceError, match=r"numba-cuda is not installed: pip install '.*\[cuda13\]'"):
            ln.LSTM(2, 3, device="cuda")
        layer = ln.LSTM(2, 3)
        with pytest.raises(DeviceError, match="cuda12"):
            layer.to("cuda")
        assert layer.device == "cpu"
        assert layer(np.zeros((1, 1, 2), np.float32))[0].shape == (1, 1, 3)
    finally:
        engines.find_cuda.cache_clear()


@pytest.mark.skipif(not reason_without_cuda(), reason="there is a device")
def test_without_a_device_the_error_is_one_line_and_for_users() -> None:
    with pytest.raises(DeviceError, match="device 'cuda': ") as caught:
        ln.GRU(2, 3, device="cuda")
    assert isinstance(caught.value, UserError)
    assert "\n" not in str(caught.value)


def test_importing_layers_imports_no_cuda() -> None:
    code = "import sys, lstm_numba.layers, lstm_numba.training.trainer; print('numba.cuda' in sys.modules)"
    environment_of = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert environment_of.stdout.strip() == "False"


def test_kernels_compile_with_a_numpy_that_has_no_row_stack() -> None:
    """As NumPy 2.5, to which numba-cuda is not fitted."""
    pytest.importorskip("numba_cuda", reason="needs numba-cuda")
    code = """
import numpy as np
import numba.np.arrayobj, scipy.linalg  # they ask an older NumPy for the name

vars(np).pop("row_stack", None)
from lstm_numba.gpu.driver import cuda, types

assert not hasattr(np, "row_stack"), "the name was only lent"
ptx, _ = cuda.compile_ptx(lambda x: None, (types.float32[::1],), cc=(9, 0))
print(".entry" in ptx)
"""
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_ENABLE_CUDASIM"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.stdout.strip() == "True", result.stderr


def test_the_program_knows_the_devices_and_cells() -> None:
    assert config.DEVICES == engines.DEVICES
    assert BUILT_IN == config.CELLS
