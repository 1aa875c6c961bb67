"""The one module that imports CUDA, from the package ``numba-cuda``. Everything else takes it from here.

``cuda`` is that package's module for users; the rest is what teaches its compiler new types and functions.
"""

from __future__ import annotations

from llvmlite import ir  # noqa: F401
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

__all__ = [
    "SIMULATED",
    "AbstractTemplate",
    "Conversion",
    "CudaAPIError",
    "PrimitiveModel",
    "cuda",
    "infer_global",
    "insert_function",
    "intrinsic",
    "lower_builtin",
    "lower_cast",
    "make_signature",
    "overload",
    "register_model",
    "types",
    "unpack_tuple",
]
