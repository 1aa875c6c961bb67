"""Sine and cosine whose last bit is the same on every machine.

The ones of C libraries and of NumPy differ in the last bit between machines and versions. These use
additions, multiplications, divisions and roundings only, whose results IEEE 754 defines.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
_Number = TypeVar("_Number", float, Array)

_TURN = 2.0 * math.pi
# Taylor series of sin(x) / x in x^2, last term first. What follows is below 3e-16 at x = pi / 2.
_SERIES = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(9, -1, -1))


def _series(x: _Number) -> _Number:
    """Sine of numbers within a quarter of a turn."""
    square = x * x
    total = _SERIES[0] * square
    for factor in _SERIES[1:-1]:
        total = (total + factor) * square
    return x + x * total


def sine(angle: float) -> float:
    """Sine of one angle in radians, to about 1e-15 for angles of a few turns."""
    rest = angle - _TURN * math.floor(angle / _TURN + 0.5)
    if rest > _TURN / 4:
        rest = _TURN / 2 - rest
    elif rest < -_TURN / 4:
        rest = -_TURN / 2 - rest
    return _series(rest)


def sines(angles: Array) -> Array:
    """`sine` of every element of an array."""
    rest = angles - _TURN * np.floor(angles / _TURN + 0.5)
    rest = np.where(rest > _TURN / 4, _TURN / 2 - rest, rest)
    rest = np.where(rest < -_TURN / 4, -_TURN / 2 - rest, rest)
    return _series(rest)


def cosines(angles: Array) -> Array:
    """Cosine of every element of an array of angles in radians."""
    return sines(angles + _TURN / 4)


def rounded(numbers: Array, per_unit: int) -> Array:
    """Numbers at the resolution ``1 / per_unit``, as a sensor or a text file has them."""
    return np.rint(numbers * per_unit) / per_unit
