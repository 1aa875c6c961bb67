"""The functions of cells' equations on vectors: the frequent ones branch-free, with errors of a few ulp.

sigmoid, tanh and expm1 rest on one splitting of the exponential, ``exp(y) = 2**n * exp(r)`` with
``n = round(y / ln 2)`` and ``|r| <= ln(2) / 2`` (W. J. Cody, W. Waite, "Software Manual for the Elementary
Functions", 1980), and on a polynomial that interpolates at the Chebyshev nodes of that interval. tanh goes
through ``exp(2x) - 1`` formed without cancellation, and so keeps its relative precision near zero.

The logarithms split off a power of two, ``x = 2**k * (1 + f)`` with ``1 + f`` from sqrt(1/2) to sqrt(2), and
take ``log(1 + f) = f - f**2 / 2 + s * (f**2 / 2 + R(s**2))`` with ``s = f / (2 + f)``, where R, which
interpolates likewise, is small: the sum that Sun's FDLIBM (1993) takes.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numpy.polynomial import Chebyshev, Polynomial

from lstm_numba.cells import activations
from lstm_numba.engines.cpu.options import VECTOR_FLAGS
from lstm_numba.engines.cpu.vector import register, register_lane_by_lane, register_scalar


class _Precision(NamedTuple):
    """What the splitting needs to know of a floating-point format."""

    bits: int
    mantissa: int  # bits of the stored mantissa
    bias: int  # of the exponent
    ln2: tuple[float, ...]  # parts that add up to ln 2, each but the last exact when multiplied with n
    exp_limit: float  # exp neither overflows nor becomes subnormal up to here
    tanh_limit: float  # tanh rounds to one from here
    terms: int  # of the polynomial for (exp(r) - 1 - r) / r**2; its error in exp(r) is below half an ulp
    log_terms: int  # and of that for R(z) / z; its error in log(1 + f) is far below an ulp


# In single precision the rest of ln 2 is not worth an operation: where n is large both functions are flat.
_SINGLE = _Precision(32, 23, 127, (0.6931471805599453,), 87.0, 10.0, 5, 4)
#: ln 2 for single precision in two parts, the first so short that its product with n is exact.
_EXACT_LN2 = (0.693359375, math.log(2) - 0.693359375)
_DOUBLE = _Precision(64, 52, 1023, (0.6931471803691238, 1.9082149292705877e-10), 708.0, 20.0, 11, 8)


@functools.cache
def _coefficients(terms: int) -> tuple[float, ...]:
    """Coefficients, lowest power first, of the polynomial for (exp(r) - 1 - r) / r**2."""

    def tail(r: Any) -> Any:
        return sum(r**k / math.factorial(k + 2) for k in range(18))

    half = math.log(2) / 2
    fit = Chebyshev.interpolate(tail, terms - 1, [-half, half])
    return tuple(float(c) for c in fit.convert(kind=Polynomial).coef)


@functools.cache
def _log_coefficients(terms: int) -> tuple[float, ...]:
    """Coefficients, lowest power first, of the polynomial for R(z) / z: 2/3 + 2/5 z + 2/7 z**2 + ..."""

    def series(z: Any) -> Any:
        return sum(2 / (2 * k + 3) * z**k for k in range(20))

    fit = Chebyshev.interpolate(series, terms - 1, [0, (3 - 2 * math.sqrt(2)) ** 2])
    return tuple(float(c) for c in fit.convert(kind=Polynomial).coef)


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

    def __rsub__(self, other: Any) -> _Expression:
        return self._join("fsub", other, self)

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

    def choose(self, test: Any, no: Any) -> _Expression:
        """``self if test else no``."""
        other = no.value if isinstance(no, _Expression) else self.constant(no)
        return _Expression(self.builder, self.builder.select(test, self.value, other))

    def split_power_of_two(self) -> tuple[_Expression, _Expression]:
        """k and f of a positive normal number ``2**k * (1 + f)``, 1 + f between sqrt(1/2) and sqrt(2)."""
        p, b = self.precision, self.builder
        integer = ir.IntType(p.bits)
        integers = ir.VectorType(integer, self.value.type.count)

        def constant(value: int) -> Any:
            return ir.Constant(integers, [ir.Constant(integer, value)] * integers.count)

        one = p.bias << p.mantissa
        root = int(np.array(math.sqrt(0.5), f"f{p.bits // 8}").view(f"i{p.bits // 8}"))
        shifted = b.add(b.bitcast(self.value, integers), constant(one - root))
        k = b.sub(b.ashr(shifted, constant(p.mantissa)), constant(p.bias))
        rest = b.add(b.and_(shifted, constant((1 << p.mantissa) - 1)), constant(root))
        mantissa = _Expression(b, b.bitcast(rest, self.value.type))
        return _Expression(b, b.sitofp(k, self.value.type)), mantissa - 1.0

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


def _split_exponential(
    y: _Expression, ln2: tuple[float, ...] | None = None
) -> tuple[_Expression, _Expression]:
    """Return ``2**n`` and ``exp(r) - 1`` with ``y = n ln 2 + r``."""
    p = y.precision
    # At this size the spacing of floating-point numbers is one: the sum is rounded to an integer.
    shift = 1.5 * 2.0**p.mantissa
    shifted = y * (1 / math.log(2)) + shift
    n = shifted - shift
    r = y
    for part in ln2 or p.ln2:
        r = r - n * part
    *lower, highest = _coefficients(p.terms)
    series = r * highest + lower.pop()
    while lower:
        series = series * r + lower.pop()
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


def _exp(builder: Any, x: Any) -> Any:
    # The square of exp(x / 2) becomes infinite or zero by itself where exp(x) does. Here a large n counts.
    y = _Expression(builder, x)
    half = (y * 0.5).clamp(y.precision.exp_limit)
    scale, rest = _split_exponential(half, _exact_ln2(y))
    root = scale * rest + scale
    return (root * root).value


def _expm1(builder: Any, x: Any) -> Any:
    y = _Expression(builder, x)
    scale, rest = _split_exponential(y.clamp(y.precision.exp_limit), _exact_ln2(y))
    large = builder.fcmp_ordered(">", x, y.constant(y.precision.exp_limit))
    return _Expression(builder, _exp(builder, x)).choose(large, scale * rest + (scale - 1.0)).value


def _log_mantissa(f: _Expression, correction: _Expression | float) -> _Expression:
    """log(1 + f), f as `_Expression.split_power_of_two` returns it, and added to it what is much smaller."""
    s = f / (f + 2.0)
    z = s * s
    *lower, highest = _log_coefficients(f.precision.log_terms)
    series = z * highest + lower.pop()
    while lower:
        series = series * z + lower.pop()
    half = f * f * 0.5
    return f - (half - (s * (half + series * z) + correction))


def _exact_ln2(x: _Expression) -> tuple[float, ...]:
    """ln 2 in two parts, of which the product of the first with an exponent is exact."""
    return _EXACT_LN2 if x.precision is _SINGLE else _DOUBLE.ln2


def _whole(x: _Expression, result: _Expression) -> Any:
    """A logarithm of x where x is positive and finite, and what it is elsewhere."""
    b, zero = x.builder, x.constant(0.0)
    result = result.choose(b.fcmp_ordered("<", x.value, x.constant(math.inf)), x)
    nothing = x.constant(-math.inf), x.constant(math.nan)
    otherwise = _Expression(b, b.select(b.fcmp_ordered("==", x.value, zero), *nothing))
    return result.choose(b.fcmp_ordered(">", x.value, zero), otherwise).value


def _normal(x: _Expression) -> tuple[_Expression, _Expression]:
    """x times a power of two where it is subnormal, and the power's exponent."""
    p = x.precision
    small = x.builder.fcmp_ordered("<", x.value, x.constant(2.0 ** (1 - p.bias)))
    zero = _Expression(x.builder, x.constant(0.0))
    shift = _Expression(x.builder, x.constant(float(p.mantissa + 2)))
    return (x * 2.0 ** (p.mantissa + 2)).choose(small, x), shift.choose(small, zero)


def _split_logarithm(x: _Expression) -> tuple[_Expression, _Expression]:
    """k and f with ``x = 2**k * (1 + f)``, of a positive number that may be subnormal."""
    normal, shift = _normal(x)
    k, f = normal.split_power_of_two()
    return k - shift, f


def _log(builder: Any, x: Any) -> Any:
    y = _Expression(builder, x)
    (high, low), (k, f) = _exact_ln2(y), _split_logarithm(y)
    return _whole(y, k * high + _log_mantissa(f, k * low))


def _log2(builder: Any, x: Any) -> Any:
    y = _Expression(builder, x)
    k, f = _split_logarithm(y)
    return _whole(y, _log_mantissa(f, 0.0) * (1 / math.log(2)) + k)


def _log1p(builder: Any, x: Any) -> Any:
    y = _Expression(builder, x)
    total = y + 1.0
    # What rounding took away: exact either way, if the larger number is subtracted first.
    lost = y.where(">=", 1.0, 1.0 - (total - y), y - (total - 1.0))
    (high, low), (k, f) = _exact_ln2(y), total.split_power_of_two()
    return _whole(total, k * high + _log_mantissa(f, k * low + lost / total))


def _absolute(builder: Any, x: Any) -> Any:
    return builder.call(_vector_function(builder, "fabs", x), [x])


def _root(builder: Any, x: Any) -> Any:
    return builder.call(_vector_function(builder, "sqrt", x), [x])


def _reciprocal_root(builder: Any, x: Any) -> Any:
    return (1.0 / _Expression(builder, _root(builder, x))).value


def _vector_function(builder: Any, name: str, x: Any) -> Any:
    """A function of LLVM that is one instruction on a vector."""
    element = "f32" if isinstance(x.type.element, ir.FloatType) else "f64"
    kind = ir.FunctionType(x.type, [x.type])
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{x.type.count}{element}")


def _relu(builder: Any, x: Any) -> Any:
    y = _Expression(builder, x)
    return y.where("<=", 0.0, 0.0, y).value


def _positive(builder: Any, x: Any) -> Any:
    return _Expression(builder, x).where(">", 0.0, 1.0, 0.0).value


register(activations.sigmoid, 1, _sigmoid)
register(activations.tanh, 1, _tanh)
register(activations.relu, 1, _relu)
register(activations.positive, 1, _positive)
register(math.tanh, 1, _tanh)
register(math.exp, 1, _exp)
register(math.expm1, 1, _expm1)
register(math.log, 1, _log)
register(math.log2, 1, _log2)
register(math.log1p, 1, _log1p)
register(math.sqrt, 1, _root)
register(activations.rsqrt, 1, _reciprocal_root)
for _function in (abs, math.fabs):
    register(_function, 1, _absolute)
for _definition in activations.DEFINITIONS:
    register_scalar(_definition)
for _function in activations.LANE_BY_LANE:
    register_lane_by_lane(_function, 1)
