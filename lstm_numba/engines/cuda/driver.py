"""The only module that imports CUDA, from the package ``numba-cuda``; all others import it from here.

``cuda`` is that package's user interface; the rest registers new types and functions with its compiler, or
calls the CUDA driver.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import cuda
from numba.cuda import types
from numba.cuda.cgutils import alloca_once, unpack_tuple
from numba.cuda.cgutils import get_or_insert_function as insert_function
from numba.cuda.core import config
from numba.cuda.core.errors import TypingError
from numba.cuda.core.imputils import RefType, iternext_impl
from numba.cuda.cudadrv import devicearray
from numba.cuda.cudadrv.driver import CudaAPIError, driver
from numba.cuda.datamodel import PrimitiveModel, StructModel
from numba.cuda.extending import (
    intrinsic,
    lower_builtin,
    lower_cast,
    overload,
    register_model,
)
from numba.cuda.typeconv import Conversion
from numba.cuda.typing.templates import AbstractTemplate, infer_global
from numba.cuda.typing.templates import signature as make_signature

from lstm_numba.engines.numba_cache import use_own_folder
from lstm_numba.errors import DeviceError


def _import_array_functions() -> None:
    """Import numba-cuda's NumPy functions, with ``row_stack`` defined in NumPy meanwhile.

    NumPy 2.5 has removed ``row_stack``; numba-cuda 0.30 uses it when it compiles its first kernel, and will
    not be changed: https://github.com/NVIDIA/numba-cuda/issues/907.
    """
    names = vars(np)
    names["row_stack"] = lambda arrays: np.vstack(arrays)
    try:
        importlib.import_module("numba.cuda.np.arrayobj")
    finally:
        del names["row_stack"]


if "row_stack" not in vars(np):
    _import_array_functions()

#: Whether kernels run in CUDA's simulator, as Python.
SIMULATED = bool(config.ENABLE_CUDASIM)

binding: Any = None
core_launch: Any = None
if not SIMULATED:  # which has no driver
    from cuda.bindings import driver as _binding
    from cuda.core import LaunchConfig, Stream
    from cuda.core import launch as _launch
    from numba.cuda.core import caching
    from numba.cuda.cudadrv import dummyarray
    from numba.cuda.cudadrv.driver import MemoryPointer, memory_size_from_info

    binding, core_launch = _binding, _launch
    use_own_folder(caching.CacheImpl)

#: For ``cuda.shared.array`` with vector loads of 16 bytes; the default alignment is that of one element. The
#: simulator takes none.
SHARED_ALIGNMENT = None if SIMULATED else 16

#: Class of all device arrays.
DEVICE_ARRAY = devicearray.FakeCUDAArray if SIMULATED else devicearray.DeviceNDArray


def describe_memory(
    address: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: np.dtype[Any], owner: Any
) -> tuple[Any, Any, int]:
    """What numba-cuda's arrays hold of their memory: its layout, a pointer, and its size in bytes.

    The pointer keeps `owner` alive.
    """
    layout = dummyarray.Array.from_desc(0, shape, strides, dtype.itemsize)
    size = memory_size_from_info(shape, strides, dtype.itemsize) if layout.size else 0
    pointer = MemoryPointer(cuda.current_context(), binding.CUdeviceptr(address if size else 0), size, owner)
    return layout, pointer, size


def current_device() -> int:
    """Index of the current device; creates a context if this thread has none."""
    if SIMULATED:
        return 0
    error, device = binding.cuCtxGetDevice()
    return int(device) if not error else int(cuda.current_context().device.id)


def core_stream(handle: int) -> Any:
    """A stream for ``cuda.core``."""
    return Stream.from_handle(handle)


def launch_configuration(grid: Any, block: Any, shared: int, cooperative: bool) -> Any:
    """Grid, block and bytes of dynamic shared memory of a launch."""
    return LaunchConfig(grid=grid, block=block, shmem_size=shared, is_cooperative=cooperative)


def allow_shared_memory(kernel: Any, size: int) -> None:
    """Allow a compiled kernel more dynamic shared memory than 48 KiB, on the current device."""
    attribute = binding.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    driver.cuKernelSetAttribute(attribute, size, kernel.handle, current_device())


class DeviceLimits(NamedTuple):
    """What a device has.

    Attributes
    ----------
    multiprocessors : int
    shared : int
        Bytes of shared memory that a block can have.
    capability : tuple of int
        Compute capability.
    """

    multiprocessors: int
    shared: int
    capability: tuple[int, int]


def device_limits() -> DeviceLimits:
    """The current device's limits; the simulator's are those of a small device with much memory."""
    return DeviceLimits(4, 1 << 30, (9, 0)) if SIMULATED else _device_limits(current_device())


@functools.cache
def _device_limits(device: int) -> DeviceLimits:
    names = (
        "MULTIPROCESSOR_COUNT", "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN", "COMPUTE_CAPABILITY_MAJOR",
        "COMPUTE_CAPABILITY_MINOR",
    )  # fmt: skip
    kinds = (getattr(binding.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}") for name in names)
    count, shared, major, minor = (int(driver.cuDeviceGetAttribute(kind, device)) for kind in kinds)
    return DeviceLimits(count, shared, (major, minor))


def new_stream() -> Any:
    """A stream of the current device, never destroyed, that CUDA's default stream does not wait for."""
    handle = driver.cuStreamCreate(binding.CUstream_flags.CU_STREAM_NON_BLOCKING)
    return cuda.external_stream(int(handle))


@functools.cache
def _stream_apart(device: int) -> int:
    return int(new_stream())


def copy_apart(target: int, source: int, size: int) -> None:
    """Copy bytes from the host to the device and wait, without any other work on the device.

    CUDA allows it while a graph is recorded, where it refuses copies on the default stream, for which the
    recorded stream would wait.
    """
    stream = _stream_apart(current_device())
    driver.cuMemcpyHtoDAsync(target, source, size, stream)
    driver.cuStreamSynchronize(stream)


class Event:
    """A CUDA event: a point in the work of a stream."""

    def __init__(self) -> None:
        self._handle = driver.cuEventCreate(binding.CUevent_flags.CU_EVENT_DISABLE_TIMING)

    def record(self, stream: int) -> None:
        """Record the event after the work that is on a stream now."""
        driver.cuEventRecord(self._handle, stream)

    def hold(self, stream: int) -> None:
        """Let the work that is put on a stream from now on wait for all work before the event."""
        driver.cuStreamWaitEvent(stream, self._handle, 0)

    def passed(self) -> bool:
        """Whether all work before it is done."""
        (error,) = binding.cuEventQuery(self._handle)
        return bool(error == binding.CUresult.CUDA_SUCCESS)

    def wait(self) -> None:
        """Wait until all work before it is done."""
        driver.cuEventSynchronize(self._handle)


def check_installation() -> None:
    """Check for what would stop the first kernel.

    Raises
    ------
    DeviceError
        The installed packages are too new for the driver or for the device.
    Exception
        Whatever is raised where there is no device, or where a library is missing.
    """
    from cuda.bindings import __version__ as bindings
    from numba.cuda.cudadrv import nvrtc, nvvm

    (known, minor), built = driver.get_version(), int(bindings.split(".")[0])
    if known < built:
        raise DeviceError(f"the driver is for CUDA {known}.{minor}, the installed packages for CUDA {built}")
    if not driver.get_device_count():
        raise RuntimeError("the driver finds none")
    nvvm.NVVM()
    oldest, capability = nvrtc.get_lowest_supported_cc(), cuda.get_current_device().compute_capability
    if capability < oldest:
        had, needed = (".".join(map(str, version)) for version in (capability, oldest))
        raise DeviceError(
            f"the device has compute capability {had}, CUDA {built} compiles for {needed} or newer"
        )


def describe_device() -> str:
    """Name and memory of the current device; raises whatever the driver does where there is none."""
    if SIMULATED:
        return "the simulator (NUMBA_ENABLE_CUDASIM)"
    check_installation()
    device = cuda.get_current_device()
    major, minor = device.compute_capability
    name = device.name.decode() if isinstance(device.name, bytes) else device.name
    memory = cuda.current_context().get_memory_info().total / 2**30
    return f"{name}, compute capability {major}.{minor}, {memory:.1f} GiB"


def device_facts() -> dict[str, Any]:
    """The current device and its driver, to be recorded with measurements.

    Returns
    -------
    dict
        ``device``; on a real one also ``multiprocessors``, ``driver`` (newest CUDA that it supports) and
        ``runtime`` (CUDA that the kernels are compiled with).
    """
    facts: dict[str, Any] = {"device": describe_device()}
    if not SIMULATED:
        facts["multiprocessors"] = cuda.get_current_device().MULTIPROCESSOR_COUNT
        for name, version in (("driver", driver.get_version), ("runtime", cuda.runtime.get_version)):
            with contextlib.suppress(Exception):  # kernels on disk need no runtime
                facts[name] = ".".join(map(str, version()))
    return facts


__all__ = [
    "DEVICE_ARRAY",
    "SHARED_ALIGNMENT",
    "SIMULATED",
    "AbstractTemplate",
    "Conversion",
    "CudaAPIError",
    "Event",
    "PrimitiveModel",
    "RefType",
    "StructModel",
    "TypingError",
    "alloca_once",
    "allow_shared_memory",
    "binding",
    "copy_apart",
    "core_launch",
    "core_stream",
    "cuda",
    "current_device",
    "describe_device",
    "describe_memory",
    "device_facts",
    "device_limits",
    "driver",
    "infer_global",
    "insert_function",
    "intrinsic",
    "ir",
    "iternext_impl",
    "launch_configuration",
    "lower_builtin",
    "lower_cast",
    "make_signature",
    "new_stream",
    "overload",
    "register_model",
    "types",
    "unpack_tuple",
]
