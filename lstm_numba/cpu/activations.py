"""The nonlinearities of `lstm_numba.cells.activations` on vectors: branch-free, errors of a few ulp.

sigmoid and tanh rest on one splitting of the exponential, ``exp(y) = 2**n * exp(r)`` with
``n = round(y / ln 2)`` and ``|r| <= ln(2) / 2`` (W. J. Cody, W. Waite, "Software Manual for the Elementary
Functions", 1980), and on the Taylor series for r. tanh goes through ``exp(2x) - 1`` formed without
cancellation, and so keeps its relative precision near zero.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from llvmlite import ir

from lstm_numba.cells import activations
from lstm_numba.cpu.options import VECTOR_FLAGS
from lstm_numba.cpu.simd import teach


class _Precision(NamedTuple):
    """What the splitting needs to know of a floating-point format."""

    bits: int
    mantissa: int  # bits of the stored mantissa
    bias: int  # of the exponent
    ln2_high: float  # ln 2 cut to few enough bits for n * ln2_high to be exact
    ln2_low: float  # the rest of ln 2
    exp_limit: float  # exp neither overflows nor becomes subnormal up to here
    tanh_limit: float  # tanh rounds to one from here
    degree: int  # of the Taylor polynomial; its error at ln(2) / 2 is below half an ulp


_SINGLE = _Precision(32, 23, 127, 0.693359375, -0.00021219444005469057, 87.0, 10.0, 7)
_DOUBLE = _Precision(64, 52, 1023, 0.6931471803691238, 1.9082149292705877e-10, 708.0, 20.0, 13)


class _Expression:
    """A vector value under construction, so that formulas read as formulas."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    @property
    def precision(self) -> _Precision:
        return _SINGLE if isinstance(self.value.type.element, ir.FloatType) else _DOUBLE

    def constant(self, number: float) -> Any:
        vector = self.value.type
        return ir.Constant(vector, [ir.Constant(vector.element, number)] * vector.count)

    def _join(self, instruction: str, left: Any, right: Any) -> _Expression:
        operands = [x.value if isinstance(x, _Expression) else self.constant(x) for x in (left, right)]
        return _Expression(self.builder, getattr(self.builder, instruction)(*operands, flags=VECTOR_FLAGS))

    def __add__(self, other: Any) -> _Expression:
        return self._join("fadd", self, other)

    def __radd__(self, other: Any) -> _Expression:
        return self._join("fadd", other, self)

    def __sub__(self, other: Any) -> _Expression:
        return self._join("fsub", self, other)

    def __mul__(self, other: Any) -> _Expression:
        return self._join("fmul", self, other)

    def __rmul__(self, other: Any) -> _Expression:
        return self._join("fmul", other, self)

    def __truediv__(self, other: Any) -> _Expression:
        return self._join("fdiv", self, other)

    def __rtruediv__(self, other: Any) -> _Expression:
        return self._join("fdiv", other, self)

    def where(self, comparison: str, number: float, yes: Any, no: Any) -> _Expression:
        """``yes if self <comparison> number else no``; false for NaN."""
        test = self.builder.fcmp_ordered(comparison, self.value, self.constant(number))
        chosen = [x.value if isinstance(x, _Expression) else self.constant(x) for x in (yes, no)]
        return _Expression(self.builder, self.builder.select(test, *chosen))

    def clamp(self, limit: float) -> _Expression:
        """Limit to [-limit, limit]; a NaN stays NaN."""
        low = self.where("<", -limit, -limit, self)
        return low.where(">", limit, limit, low)

    def power_of_two(self) -> _Expression:
        """``2**n`` of a value that holds n in its lowest bits; see `_split_exponential`."""
        p = self.precision
        integer = ir.IntType(p.bits)
        integers = ir.VectorType(integer, self.value.type.count)

        def constant(value: int) -> Any:
            return ir.Constant(integers, [ir.Constant(integer, value)] * integers.count)

        b = self.builder
        exponent = b.shl(b.bitcast(self.value, integers), constant(p.mantissa))
        return _Expression(b, b.bitcast(b.add(exponent, constant(p.bias << p.mantissa)), self.value.type))


def _split_exponential(y: _Expression) -> tuple[_Expression, _Expression]:
    """Return ``2**n`` and ``exp(r) - 1`` with ``y = n ln 2 + r``."""
    p = y.precision
    # At this size the spacing of floating-point numbers is one: the sum is rounded to an integer.
    shift = 1.5 * 2.0**p.mantissa
    shifted = y * (1 / math.log(2)) + shift
    n = shifted - shift
    r = y - n * p.ln2_high - n * p.ln2_low
    series = r * (1 / math.factorial(p.degree)) + 1 / math.factorial(p.degree - 1)
    for k in range(p.degree - 2, 1, -1):
        series = series * r + 1 / math.factorial(k)
    return shifted.power_of_two(), series * r * r + r


def _sigmoid(builder: Any, x: Any) -> Any:
    y = _Expression(builder, x)
    scale, rest = _split_exponential(y.clamp(y.precision.exp_limit) * -1.0)
    return (1.0 / (scale * rest + scale + 1.0)).value


def _tanh(builder: Any, x: Any) -> Any:
    y = _Expression(builder, x)
    scale, rest = _split_exponential(y.clamp(y.precision.tanh_limit) * 2.0)
    exp_minus_one = scale * rest + (scale - 1.0)
    return (exp_minus_one / (exp_minus_one + 2.0)).value


def _relu(builder: Any, x: Any) -> Any:
    y = _Expression(builder, x)
    return y.where("<=", 0.0, 0.0, y).value


def _positive(builder: Any, x: Any) -> Any:
    return _Expression(builder, x).where(">", 0.0, 1.0, 0.0).value


teach(activations.sigmoid, 1, _sigmoid)
teach(activations.tanh, 1, _tanh)
teach(activations.relu, 1, _relu)
teach(activations.positive, 1, _positive)
