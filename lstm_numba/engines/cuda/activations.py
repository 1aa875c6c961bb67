"""The functions of cells' equations on a `Scalar`: CUDA's libdevice, in the scalar's precision."""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir

from lstm_numba.cells import activations
from lstm_numba.engines.cuda.driver import insert_function
from lstm_numba.engines.cuda.scalar import register


def _function(builder: Any, name: str, value: Any, arity: int = 1) -> Any:
    """A function of CUDA's libdevice, in the precision of a value."""
    suffix = "f" if isinstance(value.type, ir.FloatType) else ""
    kind = ir.FunctionType(value.type, [value.type] * arity)
    return insert_function(builder.module, kind, f"__nv_{name}{suffix}")


def _negative(builder: Any, x: Any) -> Any:
    # NVVM's version of LLVM IR is older than the instruction fneg.
    return builder.fsub(ir.Constant(x.type, -0.0), x)


def _sigmoid(builder: Any, x: Any) -> Any:
    one = ir.Constant(x.type, 1.0)
    # exp overflows to infinity for very negative x, and the reciprocal is zero, as it should be.
    power = builder.call(_function(builder, "exp", x), [_negative(builder, x)])
    return builder.fdiv(one, builder.fadd(one, power))


def _tanh(builder: Any, x: Any) -> Any:
    return builder.call(_function(builder, "tanh", x), [x])


def _relu(builder: Any, x: Any) -> Any:
    zero = ir.Constant(x.type, 0.0)
    return builder.select(builder.fcmp_ordered("<=", x, zero), zero, x)


def _positive(builder: Any, x: Any) -> Any:
    zero, one = ir.Constant(x.type, 0.0), ir.Constant(x.type, 1.0)
    return builder.select(builder.fcmp_ordered(">", x, zero), one, zero)


register(operator.neg, 1, _negative)
register(operator.pow, 2, lambda b, x, y: b.call(_function(b, "pow", x, 2), [x, y]))
register(abs, 1, lambda b, x: b.call(_function(b, "fabs", x), [x]))
for _math in activations.FUNCTIONS:
    # The functions of Python's `math` have the same names in libdevice.
    register(_math, 1, lambda b, x, name=_math.__name__: b.call(_function(b, name, x), [x]))
register(activations.sigmoid, 1, _sigmoid)
register(activations.tanh, 1, _tanh)
register(activations.relu, 1, _relu)
register(activations.positive, 1, _positive)
register(activations.rsqrt, 1, lambda b, x: b.call(_function(b, "rsqrt", x), [x]))
