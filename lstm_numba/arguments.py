"""Checks of arguments: arrays of numbers without masks, which NumPy would drop silently; finite numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def refuse_mask(name: str, value: Any) -> None:
    """Raise a TypeError that names the argument if an array is masked."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name}: expected an array without a mask, got a masked one; its `filled` gives such"
        )


def _array(name: str, value: Any) -> npt.NDArray[Any]:
    """Convert to a NumPy array; a TypeError of what is masked, or of lists of several lengths."""
    refuse_mask(name, value)
    try:
        return np.asarray(value)
    except ValueError:
        raise TypeError(
            f"{name}: expected an array, got a {type(value).__name__} of several shapes"
        ) from None


def real_numbers(name: str, value: Any) -> npt.NDArray[Any]:
    """Convert to a NumPy array of real numbers.

    Raises
    ------
    TypeError
        It is masked or ragged, or its elements are not real numbers (but, e.g., bool, complex or objects).
    """
    array = _array(name, value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name}: expected real numbers, got {array.dtype}")
    return array


def integers(name: str, value: Any) -> npt.NDArray[Any]:
    """Convert to a NumPy array of integers.

    Raises
    ------
    TypeError
        It is masked or ragged, or its elements are not integers.
    """
    array = _array(name, value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers, got {array.dtype}")
    return array


def float_array(name: str, value: Any, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """Return a NumPy array unchanged if it is float32 or float64, or of the one given dtype.

    Raises
    ------
    TypeError
        It is no NumPy array, is masked, or has another dtype.
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


def check_arrays(argument: str, arrays: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Check that each of the expected arrays has a NumPy array of its shape and dtype.

    Raises
    ------
    TypeError, ValueError
        One has not; the message gives the argument and the array's name.
    """
    for name, array in expected.items():
        new = arrays[name]
        if not isinstance(new, np.ndarray):
            raise TypeError(f"{argument}: {name}: expected a NumPy array, got {type(new).__name__}")
        refuse_mask(f"{argument}: {name}", new)
        if new.shape != array.shape or new.dtype != array.dtype:
            raise ValueError(
                f"{argument}: expected {array.dtype} {array.shape} for {name}, got {new.dtype} {new.shape}"
            )


def read_only(array: Any) -> bool:
    """Whether it is a NumPy array that cannot be written to."""
    return isinstance(array, np.ndarray) and not array.flags.writeable


def non_negative(name: str, value: float) -> float:
    """Return a finite number >= 0 as a float; any other is a ValueError."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}: expected a finite number that is not negative, got {value}")
    return float(value)
