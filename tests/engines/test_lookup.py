"""Choosing an engine: what is said where there is no CUDA."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from backends import reason_without_cuda

import lstm_numba as ln
from lstm_numba import engines
from lstm_numba.errors import DeviceError, UserError
from lstm_numba.training.settings import DEVICES


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


@pytest.mark.parametrize(
    ("version", "devices", "capability", "library", "text"),
    [
        (
            (12, 4),
            1,
            (9, 0),
            True,
            r"the driver is for CUDA 12\.4, the installed packages for CUDA 1[3-9]; pip",
        ),
        ((99, 0), 0, (9, 0), True, r"no CUDA device can be used: the driver finds none$"),
        (
            (99, 0),
            1,
            (7, 0),
            True,
            r"compute capability 7\.0, CUDA 1\d compiles for 7\.5 or newer; pip install",
        ),
        ((99, 0), 1, (9, 0), False, r'Failure finding "libnvvm\.so"; pip install .*\[cuda13\]'),
    ],
    ids=["old driver", "no device", "old device", "no compiler"],
)
def test_what_would_stop_the_first_kernel_is_said_before(
    version: tuple[int, int], devices: int, capability: tuple[int, int], library: bool, text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pytest.importorskip("numba_cuda")
    from cuda.pathfinder import DynamicLibNotFoundError
    from numba.cuda.cudadrv import nvrtc, nvvm

    from lstm_numba.engines.cuda import driver

    if driver.SIMULATED:
        pytest.skip("the simulator has neither driver nor compiler")

    def compiler() -> None:
        if not library:
            raise DynamicLibNotFoundError('Failure finding "libnvvm.so": No such file\n  listdir: ...')

    known = SimpleNamespace(get_version=lambda: version, get_device_count=lambda: devices)
    device = SimpleNamespace(compute_capability=capability)
    monkeypatch.setattr(driver, "driver", known)
    monkeypatch.setattr(driver, "cuda", SimpleNamespace(get_current_device=lambda: device))
    monkeypatch.setattr(nvvm, "NVVM", compiler)
    monkeypatch.setattr(nvrtc, "get_lowest_supported_cc", lambda: (7, 5))
    engines.find_cuda.cache_clear()
    try:
        with pytest.raises(DeviceError, match=text):
            ln.LSTM(2, 3, device="cuda")
    finally:
        engines.find_cuda.cache_clear()


def test_importing_layers_imports_no_cuda() -> None:
    code = (
        "import sys, lstm_numba.nn.recurrent, lstm_numba.training.trainer; print('numba.cuda' in sys.modules)"
    )
    environment_of = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert environment_of.stdout.strip() == "False"


def test_kernels_compile_with_a_numpy_that_has_no_row_stack() -> None:
    """As NumPy 2.5, to which numba-cuda is not fitted."""
    pytest.importorskip("numba_cuda")
    code = """
import numpy as np
import numba.np.arrayobj, scipy.linalg  # they ask an older NumPy for the name

vars(np).pop("row_stack", None)
from lstm_numba.engines.cuda.driver import cuda, types

assert not hasattr(np, "row_stack"), "the name was only lent"
ptx, _ = cuda.compile_ptx(lambda x: None, (types.float32[::1],), cc=(9, 0))
print(".entry" in ptx)
"""
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_ENABLE_CUDASIM"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.stdout.strip() == "True", result.stderr


@pytest.mark.smoke
def test_the_program_knows_the_devices() -> None:
    assert DEVICES == engines.DEVICES
