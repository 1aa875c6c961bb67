"""Numbers of types that NumPy lacks, and checks that all formats share."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_numba.errors import WeightsError
from lstm_numba.interop.files.contents import Array


def as_float(name: str, value: Any, where: str, finite: bool = True) -> Array:
    """Convert to a C-contiguous float32 or float64 array in native byte order.

    float16 and bfloat16 become float32, which is exact. Elements must be `finite` unless told otherwise.

    Raises
    ------
    WeightsError
        It is masked, of another dtype, or has an element that is not finite.
    """
    if np.ma.isMaskedArray(value):
        raise WeightsError(f"{where}: {name}: expected an array, got a masked one, whose mask would be lost")
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":  # of the package ml_dtypes
        array = from_bfloat16(array.view(np.uint16))
    if array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4, 8):
        got = array.dtype.names[0] if array.dtype.names else array.dtype
        raise WeightsError(f"{where}: {name}: expected float32 or float64, got {got}")
    array = np.asarray(array, np.float64 if array.dtype.itemsize == 8 else np.float32, order="C")
    if finite:
        check_finite(name, array, where)
    return array


def from_bfloat16(bits: Array) -> Array:
    """float32 from bfloat16 bits (uint16)."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def check_finite(name: str, array: Array, where: str) -> None:
    """Refuse NaN and infinity.

    Parameters
    ----------
    name : str
        Name of the tensor.
    array : ndarray
    where : str
        File or argument that it comes from, for the message.

    Raises
    ------
    WeightsError
        An element is not finite.
    """
    if array.dtype.kind in "fc" and not np.isfinite(array).all():
        raise WeightsError(f"{where}: {name}: holds numbers that are not finite")
