"""The engine of a device or of an array. CUDA is imported only when it is asked for."""

from __future__ import annotations

import copyreg
import functools
import importlib.util
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lstm_numba.arguments import real_numbers
from lstm_numba.engines.compile_notice import install
from lstm_numba.errors import DeviceError

if TYPE_CHECKING:
    from lstm_numba.engines.base import Engine

#: Names of devices.
DEVICES: tuple[str, ...] = ("cpu", "cuda")

_EXTRAS = "pip install 'lstm_numba[cuda13]', or [cuda12] for a driver of CUDA 12"


class Cuda(NamedTuple):
    """Whether CUDA can be used.

    Attributes
    ----------
    available : bool
    text : str
        Description of the device, or the reason why CUDA cannot be used.
    """

    available: bool
    text: str


@functools.cache
def find_cuda() -> Cuda:
    """Look for a CUDA device and the packages that it needs."""
    if importlib.util.find_spec("numba_cuda") is None:
        return Cuda(False, f"the package numba-cuda is not installed: {_EXTRAS}")
    try:
        from lstm_numba.engines.cuda.driver import describe_device

        return Cuda(True, describe_device())
    except Exception as error:  # a driver may raise anything
        why = " ".join(str(error).split()).rstrip(" .:") or type(error).__name__
        missing = type(error).__name__ == "DynamicLibNotFoundError"
        if missing:  # the rest lists the paths searched
            why = why.split(":")[0]
        remedy = f"; {_EXTRAS}" if missing or isinstance(error, DeviceError) else ""
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
        CUDA cannot be used here; the message says why and how to fix it.
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

    return _singleton(CpuEngine)


@functools.cache
def _cuda() -> Engine:
    from lstm_numba.engines.cuda.engine import CudaEngine

    return _singleton(CudaEngine)


def _singleton(kind: type[Engine]) -> Engine:
    """The single instance of an engine; copying or unpickling it gives the same instance."""
    install()
    copyreg.pickle(kind, lambda instance: (engine, (instance.name,)))
    return kind()


def engine_of(array: Any) -> Engine:
    """The engine in whose memory an array or a `SparseRows` is stored."""
    array = getattr(array, "values", array)
    return _cpu() if isinstance(array, np.ndarray) else engine("cuda")


def host_array(value: Any, name: str = "array") -> np.ndarray[Any, Any]:
    """A NumPy array of real numbers, from anything that NumPy converts or any array on a CUDA device.

    Raises
    ------
    TypeError
        It is masked, or its elements are not real numbers.
    """
    if hasattr(value, "__cuda_array_interface__") or getattr(value, "__cuda_ndarray__", False):
        value = engine("cuda").download(engine("cuda").from_user(name, value, None))
    return real_numbers(name, value)
