"""The functions that equations may use, and their derivatives.

Each computes with numbers when it is called with numbers, and makes an expression of expressions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lstm_numba.cells import activations
from lstm_numba.cells.expressions import Expression


class Function:
    """A function of one or two numbers.

    Attributes
    ----------
    name : str
        As equations call it.
    of_numbers : callable
        The function of numbers, which the engines have implementations of.
    arity : int
    """

    def __init__(
        self, name: str, of_numbers: Callable[..., Any], back: Callable[..., Any], arity: int = 1
    ) -> None:
        self.name, self.of_numbers, self.arity, self._back = name, of_numbers, arity, back
        self.__name__ = self.__qualname__ = name
        self.__doc__ = of_numbers.__doc__

    def __repr__(self) -> str:
        return f"<function {self.name} of lstm_numba.cells>"

    def __call__(self, *arguments: Any) -> Any:
        if len(arguments) != self.arity:
            raise TypeError(f"{self.name}: expected {self.arity} arguments, got {len(arguments)}")
        for argument in arguments:
            if isinstance(argument, Expression):
                return argument.graph.function(self.name, *arguments)
        return self.of_numbers(*arguments)

    def backward(self, gradient: Any, value: Any, *arguments: Any) -> tuple[Any, ...]:
        """Gradients of the arguments from that of the value."""
        found = self._back(gradient, value, *arguments)
        return found if self.arity > 1 else (found,)


def _largest(d: Any, y: Any, a: Any, b: Any) -> tuple[Any, Any]:
    second = positive(b - a)
    return d * (1 - second), d * second


def _smallest(d: Any, y: Any, a: Any, b: Any) -> tuple[Any, Any]:
    second = positive(a - b)
    return d * (1 - second), d * second


# d: gradient of the value y = function(x). Where a function has no derivative, as at 0, it is the left one.
sigmoid = Function("sigmoid", activations.sigmoid, lambda d, y, x: d * y * (1 - y))
tanh = Function("tanh", activations.tanh, lambda d, y, x: d * (1 - y * y))
relu = Function("relu", activations.relu, lambda d, y, x: d * positive(y))
positive: Function = Function("positive", activations.positive, lambda d, y, x: 0.0)
exp = Function("exp", math.exp, lambda d, y, x: d * y)
sqrt = Function("sqrt", math.sqrt, lambda d, y, x: d * 0.5 / y)
rsqrt = Function("rsqrt", activations.rsqrt, lambda d, y, x: d * (y * y * y * -0.5))
absolute = Function("abs", abs, lambda d, y, x: d * (2 * positive(x) - 1))
maximum = Function("maximum", max, _largest, 2)
minimum = Function("minimum", min, _smallest, 2)
log = Function("log", math.log, lambda d, y, x: d / x)
log1p = Function("log1p", math.log1p, lambda d, y, x: d / (1 + x))
log2 = Function("log2", math.log2, lambda d, y, x: d / (x * math.log(2)))
expm1 = Function("expm1", math.expm1, lambda d, y, x: d * (y + 1))
sin = Function("sin", math.sin, lambda d, y, x: d * cos(x))
cos: Function = Function("cos", math.cos, lambda d, y, x: -(d * sin(x)))
tan = Function("tan", math.tan, lambda d, y, x: d * (1 + y * y))
atan = Function("atan", math.atan, lambda d, y, x: d / (1 + x * x))
sinh = Function("sinh", math.sinh, lambda d, y, x: d * cosh(x))
cosh: Function = Function("cosh", math.cosh, lambda d, y, x: d * sinh(x))
erf = Function("erf", math.erf, lambda d, y, x: d * (2 / math.sqrt(math.pi)) * exp(-(x * x)))

# The texts that Python's own have speak of more than two arguments, and of a base.
maximum.__doc__ = "The larger of two numbers."
minimum.__doc__ = "The smaller of two numbers."
log.__doc__ = "The natural logarithm."

#: All of them by name.
FUNCTIONS: dict[str, Function] = {
    function.name: function
    for function in (
        sigmoid, tanh, relu, positive, exp, sqrt, rsqrt, absolute, maximum, minimum, log, log1p, log2, expm1,
        sin, cos, tan, atan, sinh, cosh, erf,
    )
}  # fmt: skip
