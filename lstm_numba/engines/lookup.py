"""The engine of a device or of an array. Nothing of CUDA is imported before somebody asks for it."""

from __future__ import annotations

import copyreg
import functools
import importlib.util
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lstm_numba.arguments import real_numbers
from lstm_numba.errors import DeviceError

if TYPE_CHECKING:
    from lstm_numba.engines.base import Engine

#: Names of devices.
DEVICES: tuple[str, ...] = ("cpu", "cuda")

_EXTRAS = "pip install 'lstm_numba[cuda13]', or [cuda12] for a driver of CUDA 12"


class Cuda(NamedTuple):
    """What there is of CUDA.

    Attributes
    ----------
    available : bool
    text : str
        The device, or why there is none.
    """

    available: bool
    text: str


@functools.cache
def find_cuda() -> Cuda:
    """Look for a CUDA device and what computing on it needs."""
    if importlib.util.find_spec("numba_cuda") is None:
        return Cuda(False, f"the package numba-cuda is not installed: {_EXTRAS}")
    try:
        from lstm_numba.engines.cuda.driver import describe_device

        return Cuda(True, describe_device())
    except Exception as error:  # a driver fails in more ways than anyone can list
        why = " ".join(str(error).split()).rstrip(" .:") or type(error).__name__
        lacking = type(error).__name__ == "DynamicLibNotFoundError"
        if lacking:  # the rest is where it was looked for
            why = why.split(":")[0]
        remedy = f"; {_EXTRAS}" if lacking or isinstance(error, DeviceError) else ""
        return Cuda(False, f"no CUDA device can be used: {why}{remedy}")


def engine(device: str) -> Engine:
    """The engine of a device.

    Parameters
    ----------
    device : {"cpu", "cuda"}

    Raises
    ------
    ValueError
        There is no such device.
    DeviceError
        CUDA cannot be used here; the text says why and what would help.
    """
    if device not in DEVICES:
        raise ValueError(f"device: expected {' or '.join(map(repr, DEVICES))}, got {device!r}")
    if device == "cpu":
        return _cpu()
    found = find_cuda()
    if not found.available:
        raise DeviceError(f"device 'cuda': {found.text}")
    return _cuda()


@functools.cache
def _cpu() -> Engine:
    from lstm_numba.engines.cpu.engine import CpuEngine

    return _only_one(CpuEngine)


@functools.cache
def _cuda() -> Engine:
    from lstm_numba.engines.cuda.engine import CudaEngine

    return _only_one(CudaEngine)


def _only_one(kind: type[Engine]) -> Engine:
    """The engine of a device: copies and pickles of what computes with it share it."""
    copyreg.pickle(kind, lambda only: (engine, (only.name,)))
    return kind()


def engine_of(array: Any) -> Engine:
    """The engine in whose memory an array, or a sparse gradient, lies."""
    array = getattr(array, "values", array)
    return _cpu() if isinstance(array, np.ndarray) else engine("cuda")


def host_array(value: Any, name: str = "array") -> np.ndarray[Any, Any]:
    """Anything that NumPy takes, or any library's array on a CUDA device, as a NumPy array of real numbers.

    Raises
    ------
    TypeError
        It has a mask, or holds something else than real numbers.
    """
    if hasattr(value, "__cuda_array_interface__") or getattr(value, "__cuda_ndarray__", False):
        value = engine("cuda").download(engine("cuda").from_user(name, value, None))
    return real_numbers(name, value)
