"""Checks of arguments. An array must hold numbers and have no mask, which NumPy would silently drop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt


def refuse_mask(name: str, value: Any) -> None:
    """Raise a TypeError that names the argument where an array has a mask."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name}: expected an array without a mask, got a masked one; its `filled` gives such"
        )


def real_numbers(name: str, value: Any) -> npt.NDArray[Any]:
    """Anything that NumPy takes as an array of real numbers.

    Raises
    ------
    TypeError
        It has a mask, or holds something else: truth values, complex numbers, objects.
    """
    refuse_mask(name, value)
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}")
    return array


def integers(name: str, value: Any) -> npt.NDArray[Any]:
    """Anything that NumPy takes as an array of integers.

    Raises
    ------
    TypeError
        It has a mask, or holds something else.
    """
    refuse_mask(name, value)
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers, got {array.dtype}")
    return array


def float_array(name: str, value: Any, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """The NumPy array that was given, of float32 or float64 or just one of them.

    Raises
    ------
    TypeError
        It is no array, has a mask, or another dtype.
    """
    expected = "float32 or float64" if dtype is None else np.dtype(dtype).name
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name}: expected a NumPy array of {expected}, got {type(value).__name__}")
    refuse_mask(name, value)
    if value.dtype not in ((np.float32, np.float64) if dtype is None else (dtype,)):
        raise TypeError(f"{name}: expected {expected}, got {value.dtype}")
    return value


def integer(name: str, value: Any, minimum: int = 1) -> int:
    """An integer, of Python or NumPy, of at least `minimum`.

    Raises
    ------
    TypeError, ValueError
        It is no integer, or smaller.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
    if value < minimum:
        raise ValueError(f"{name}: expected an integer >= {minimum}, got {value}")
    return int(value)


def not_negative(name: str, value: float) -> float:
    """A finite number from 0, as a float; a ValueError where it is none."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}: expected a finite number that is not negative, got {value}")
    return float(value)
