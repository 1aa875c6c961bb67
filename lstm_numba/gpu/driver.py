"""The one module that imports CUDA, from the package ``numba-cuda``. Everything else takes it from here.

``cuda`` is that package's module for users; the rest is what teaches its compiler new types and functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda
from numba.cuda import types
from numba.cuda.cgutils import get_or_insert_function as insert_function
from numba.cuda.cgutils import unpack_tuple
from numba.cuda.core import config
from numba.cuda.cudadrv.driver import CudaAPIError
from numba.cuda.datamodel import PrimitiveModel
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

#: Whether kernels run in CUDA's simulator, as Python.
SIMULATED = bool(config.ENABLE_CUDASIM)


def device_view(block: Any, shape: tuple[int, ...], dtype: np.dtype[Any], owner: Any) -> Any:
    """An array in the first bytes of a block; it and its views keep `owner` alive, and not the block."""
    description = {
        "shape": shape,
        "strides": None,
        "typestr": dtype.str,
        "data": (block.__cuda_array_interface__["data"][0], False),
        "version": 3,
    }
    return cuda.from_cuda_array_interface(description, owner=owner, sync=False)


def describe_device() -> str:
    """Name and memory of the current device; raises whatever the driver does where there is none."""
    if SIMULATED:
        return "the simulator (NUMBA_ENABLE_CUDASIM)"
    device = cuda.get_current_device()
    major, minor = device.compute_capability
    name = device.name.decode() if isinstance(device.name, bytes) else device.name
    memory = cuda.current_context().get_memory_info().total / 2**30
    return f"{name}, compute capability {major}.{minor}, {memory:.1f} GiB"


__all__ = [
    "SIMULATED",
    "AbstractTemplate",
    "Conversion",
    "CudaAPIError",
    "PrimitiveModel",
    "cuda",
    "describe_device",
    "device_view",
    "infer_global",
    "insert_function",
    "intrinsic",
    "ir",
    "lower_builtin",
    "lower_cast",
    "make_signature",
    "overload",
    "register_model",
    "types",
    "unpack_tuple",
]
